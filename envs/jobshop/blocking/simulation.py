"""A job shop without buffers as a SimPy model.

A job whose operation has ended stays on its machine, which it blocks, until its next machine takes
it. Jobs that wait for each other in a circle all move in the same moment: there is no other way out
for any of them, so that is no decision. What is to be decided is which job enters a machine that is
free, and whether one does now.

Nothing gets stuck. A machine whose job waits for another machine points to that one; a chain of
such pointers ends at a machine that is free, which is asked about, or at one that works, where
something will happen, or it is a circle, and circles are gone the moment they close.
"""

from functools import partial
from heapq import heappop, heappush

import numpy as np
import simpy

from makespan.envs.jobshop.blocking.decision import (
    ENDED,
    GONE,
    OUTSIDE,
    WORKED_ON,
    EntryDecision,
    Routes,
)
from makespan.envs.jobshop.blocking.shutdowns import Shutdowns, no_shutdowns
from makespan.traces.jobshop.instance import JobShop

COLUMNS = ("entered", "start", "end", "left")


class BlockingShop:
    """One run of a plain job shop without buffers (`makespan.envs.core.contract.Simulation`).

    A decision is due for every machine that is free while jobs wait for it, those with low numbers
    first, at the beginning and after everything that happens; but not where there is no choice. A
    machine may be left empty as long as something goes on, is to come, or another machine is still
    to be asked about in the same moment. The best schedules need that: of 40 shops with 3 or 4 jobs
    on 2 or 3 machines, 7 have none of the best where a machine takes whoever waits.

    Args:
        shop: without a choice of machines.
        shutdowns: of the machines; None: there are none.

    Raises:
        ValueError: operations have a choice of machines, or the shutdowns are of another shop.
    """

    def __init__(self, shop: JobShop, shutdowns: Shutdowns | None = None) -> None:
        if shop.is_flexible:
            raise ValueError("a blocking shop needs operations without a choice of machines")
        self.shop = shop
        self.shutdowns = no_shutdowns(shop) if shutdowns is None else shutdowns
        if len(self.shutdowns.length) != shop.operations:
            raise ValueError(f"needs a shutdown for each of {shop.operations} operations")
        self.clock = simpy.Environment()
        self._routes = Routes(shop)
        # Lists, which are read and written one by one faster than arrays are.
        self._machine, self._duration = shop.machine.tolist(), shop.duration.tolist()
        self._down = self.shutdowns.length.tolist()
        self._last = (shop.first_operation[1:] - 1).tolist()
        self._log = {name: [-1] * shop.operations for name in COLUMNS}
        self._state = [OUTSIDE] * shop.jobs
        self._operation = shop.first_operation[:-1].tolist()
        self._on = [-1] * shop.jobs
        self._since = shop.release.tolist()
        self._occupant = [-1] * shop.machines
        self._queue: list[list[int]] = [[] for _ in range(shop.machines)]
        self._to_ask: list[int] = []
        self._asked = -1  # the machine that a decision is due about
        for job, release in enumerate(self._since):
            self._after(release, partial(self._release, job))

    @property
    def log(self) -> dict[str, np.ndarray]:
        """int64 (operations,) each: when the job `entered` the machine, the work's `start` and
        `end`, and when the job `left`; -1: not yet. `shutdown`: for how long the machine was down
        in between the first two."""
        log = {name: np.array(column, np.int64) for name, column in self._log.items()}
        return log | {"shutdown": self.shutdowns.length.copy()}

    @property
    def makespan(self) -> int:
        """The latest end so far."""
        return max(self._log["end"])

    def next_decision(self) -> EntryDecision | None:
        """Advance until there is a choice; None when all jobs are done."""
        if self._asked >= 0:
            return self._view(self._can_wait())
        while True:
            while self._to_ask:
                machine = heappop(self._to_ask)
                candidates = self._queue[machine]
                can_wait = self._can_wait()
                if len(candidates) > 1 or can_wait:
                    self._asked = machine
                    return self._view(can_wait)
                self._enter(candidates[0])
            if not self._advance():
                return None

    def decide(self, action: int) -> None:
        """Let that job enter the machine that was asked about, or, by the action behind the last
        job's, none.

        Raises:
            ValueError: no decision is due, or it is not legal.
        """
        if self._asked < 0:
            raise ValueError("no decision is due")
        if action in self._queue[self._asked]:
            self._enter(action)
        elif action != self.shop.jobs or not self._can_wait():
            raise ValueError(f"action {action} is not legal for machine {self._asked}")
        self._asked = -1

    def _can_wait(self) -> bool:
        """Whether time would go on, or the machines that are still to be asked about see to it.

        Whatever goes on, or is to come, is in SimPy's queue.
        """
        return bool(self._to_ask) or self.clock.peek() < np.inf

    def _advance(self) -> bool:
        """Let everything happen that happens next in the same moment; False: nothing does."""
        now = self.clock.peek()
        if now == np.inf:
            return False
        while self.clock.peek() == now:
            self.clock.step()
        free = (machine for machine, job in enumerate(self._occupant) if job < 0)
        self._to_ask = [machine for machine in free if self._queue[machine]]
        return True

    def _after(self, delay: int, callback) -> None:
        self.clock.timeout(delay).callbacks.append(callback)

    def _release(self, job: int, _event: simpy.Event) -> None:
        self._queue[self._machine[self._operation[job]]].append(job)

    def _enter(self, job: int) -> None:
        """`job` enters its next machine, and the one it leaves is free."""
        before = self._on[job]
        self._leave(job)
        self._begin(job)
        if before >= 0 and self._queue[before]:
            heappush(self._to_ask, before)

    def _leave(self, job: int) -> None:
        machine = self._on[job]
        if machine >= 0:
            self._log["left"][self._operation[job] - 1] = int(self.clock.now)
            self._occupant[machine] = self._on[job] = -1

    def _begin(self, job: int) -> None:
        operation = self._operation[job]
        machine, now = self._machine[operation], int(self.clock.now)
        self._queue[machine].remove(job)
        self._occupant[machine], self._on[job] = job, machine
        self._state[job] = WORKED_ON
        down, duration = self._down[operation], self._duration[operation]
        self._log["entered"][operation] = now
        self._log["start"][operation] = now + down
        self._after(down + duration, partial(self._end, job))

    def _end(self, job: int, _event: simpy.Event) -> None:
        """The operation of `job` has ended: it leaves the shop, or waits, or moves in a circle."""
        operation, machine, now = self._operation[job], self._on[job], int(self.clock.now)
        self._log["end"][operation] = now
        self._since[job] = now
        if operation == self._last[job]:
            self._log["left"][operation] = now
            self._occupant[machine] = self._on[job] = -1
            self._state[job] = GONE
            return
        self._operation[job] = operation + 1
        self._state[job] = ENDED
        self._queue[self._machine[operation + 1]].append(job)
        circle = self._circle(job)
        for member in circle:
            self._leave(member)
        for member in circle:
            self._begin(member)

    def _circle(self, job: int) -> list[int]:
        """The jobs that `job` waits for and that, through others, wait for it; or nobody.

        It may wait for itself, to be worked on again by the machine that it stands on.
        """
        members, member = [job], job
        while True:
            member = self._occupant[self._machine[self._operation[member]]]
            if member == job:
                return members
            # Others than `job` that form a circle would have moved before, so this comes to an end.
            if member < 0 or self._state[member] != ENDED:
                return []
            members.append(member)

    def _view(self, can_wait: bool) -> EntryDecision:
        now = int(self.clock.now)
        start = self._log["start"]
        end = np.full(len(self._on), np.nan)
        down = np.zeros(len(self._occupant), np.bool_)
        for machine, job in enumerate(self._occupant):
            if job >= 0 and self._state[job] == WORKED_ON:
                operation = self._operation[job]
                down[machine] = start[operation] > now
                if not down[machine]:
                    end[job] = start[operation] + self._duration[operation]
        candidate = np.zeros(len(end), np.bool_)
        candidate[self._queue[self._asked]] = True
        return EntryDecision(
            shop=self.shop,
            routes=self._routes,
            time=now,
            machine=self._asked,
            candidate=candidate,
            can_wait=can_wait,
            state=np.array(self._state),
            operation=np.array(self._operation),
            on=np.array(self._on),
            since=np.array(self._since),
            end=end,
            occupant=np.array(self._occupant),
            down=down,
            shutdown_probability=self.shutdowns.probability,
            shutdown_mean=self.shutdowns.mean,
        )
