"""What a scheduler of a blocking job shop sees when a machine is free."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from makespan.traces.jobshop.instance import JobShop

FREE, BUSY, BLOCKED, DOWN = range(4)
"""States of a machine: nobody is on it; it works; the job on it has ended there and cannot go on;
it is shut down, with a job on it."""

OUTSIDE, WORKED_ON, ENDED, GONE = range(4)
"""States of a job: not in the shop yet; an operation is being done, or waits for the machine on
which it is to come back; it has ended on its machine and waits for the next one; all is done."""


class Routes:
    """What a plain shop says of each operation, once and for all: int64 (operations,) each.

    Attributes:
        machine, duration: of the operation.
        work: of its job, from the operation on.
        tail: of its job, after the operation.
        before: work of its job up to the operation.
        left: operations of its job, from this one on.
        following: machine of the job's next operation, -1 after the last.
        to_come: int64 (operations, machines): what the job brings to each machine, from the
            operation on.
        mean_duration: of all operations, a number; 1 if none takes any time.
    """

    def __init__(self, shop: JobShop) -> None:
        self.machine, self.duration = shop.machine, shop.duration
        self.mean_duration = float(shop.duration.mean()) or 1.0
        through = np.cumsum(shop.duration)
        last = shop.first_operation[1:][shop.job] - 1
        self.tail = through[last] - through
        self.work = self.tail + shop.duration
        self.before = np.add.reduceat(shop.duration, shop.first_operation[:-1])[shop.job]
        self.before = self.before - self.work
        self.left = last + 1 - np.arange(shop.operations)
        self.following = np.append(shop.machine[1:], -1)
        self.following[shop.first_operation[1:] - 1] = -1
        alone = np.zeros((shop.operations, shop.machines), np.int64)
        alone[np.arange(shop.operations), shop.machine] = shop.duration
        through_on = np.cumsum(alone, axis=0)
        self.to_come = through_on[last] - through_on + alone


@dataclass(frozen=True)
class EntryDecision:
    """A machine is free: which job enters it, if any?

    Actions 0 to jobs - 1 let that job enter; action `jobs` leaves the machine empty until something
    happens. Shutdowns to come are not seen, nor how long one under way will last.

    Attributes:
        shop: that is scheduled, known from the beginning.
        routes: the same by operation.
        time: now, in the shop's unit.
        machine: that is free.
        candidate: bool (jobs,): who could enter it.
        can_wait: whether it may be left empty.
        state: int64 (jobs,): `OUTSIDE`, `WORKED_ON`, `ENDED` or `GONE`.
        operation: int64 (jobs,): that is being done or is next; the last one of a job that is gone.
        on: int64 (jobs,): machine the job stands on; -1: none.
        since: int64 (jobs,): when it could have gone on: when it ended, or was released.
        end: float64 (jobs,): when what is being done will end; nan if nothing is, or not known.
        occupant: int64 (machines,): job on each machine; -1: nobody.
        down: bool (machines,): shut down now.
        shutdown_probability: that a machine is shut down before an operation.
        shutdown_mean: mean length of that.
    """

    shop: JobShop
    routes: Routes
    time: int
    machine: int
    candidate: np.ndarray
    can_wait: bool
    state: np.ndarray
    operation: np.ndarray
    on: np.ndarray
    since: np.ndarray
    end: np.ndarray
    occupant: np.ndarray
    down: np.ndarray
    shutdown_probability: float
    shutdown_mean: float

    @property
    def wait(self) -> int:
        """The action that leaves the machine empty."""
        return len(self.candidate)

    @property
    def action_mask(self) -> np.ndarray:
        """bool (jobs + 1,): the legal actions."""
        return np.append(self.candidate, self.can_wait)

    def lowest(self, priority: np.ndarray) -> int:
        """The candidate with the lowest priority (jobs,), and of equals the lowest number."""
        return int(np.where(self.candidate, priority, np.inf).argmin())

    @cached_property
    def duration(self) -> np.ndarray:
        """int64 (jobs,): of `operation`."""
        return self.routes.duration[self.operation]

    @cached_property
    def work(self) -> np.ndarray:
        """int64 (jobs,): work remaining from `operation` on."""
        return self.routes.work[self.operation]

    @cached_property
    def tail(self) -> np.ndarray:
        """int64 (jobs,): work remaining after `operation`."""
        return self.routes.tail[self.operation]

    @cached_property
    def operations_left(self) -> np.ndarray:
        """int64 (jobs,): from `operation` on."""
        return self.routes.left[self.operation]

    @cached_property
    def waits(self) -> np.ndarray:
        """bool (jobs,): the job could go on if its machine were free."""
        released = (self.state == OUTSIDE) & (self.since <= self.time)
        return (self.state == ENDED) | released

    @cached_property
    def wanted_by(self) -> np.ndarray:
        """int64 (machines,): how many jobs wait for each machine."""
        wanted = self.routes.machine[self.operation[self.waits]]
        return np.bincount(wanted, minlength=len(self.occupant))

    @cached_property
    def holds_up(self) -> np.ndarray:
        """int64 (jobs,): how many jobs wait for the machine that each stands on."""
        return np.where(self.on >= 0, self.wanted_by[self.on], 0)

    @cached_property
    def next_machine(self) -> np.ndarray:
        """int64 (jobs,): where the job goes after `operation`; -1: out of the shop."""
        return self.routes.following[self.operation]

    @cached_property
    def load(self) -> np.ndarray:
        """int64 (machines,): work still to be done on each, that under way in full."""
        return self.routes.to_come[self.operation[self.state != GONE]].sum(axis=0)

    @cached_property
    def machine_state(self) -> np.ndarray:
        """int64 (machines,): `FREE`, `BUSY`, `BLOCKED` or `DOWN`."""
        ended = self.state[self.occupant] == ENDED
        occupied = np.where(self.down, DOWN, np.where(ended, BLOCKED, BUSY))
        return np.where(self.occupant < 0, FREE, occupied)

    @cached_property
    def free_at(self) -> np.ndarray:
        """float64 (machines,): when the work there ends, after which the job may have to stay; now
        if the machine is free; nan where nobody can tell (`BLOCKED` and `DOWN`)."""
        return np.where(self.occupant < 0, self.time, self.end[self.occupant])
