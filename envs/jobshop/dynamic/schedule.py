"""What was done when and where in a dynamic shop, and whether that can be."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from makespan.envs.jobshop.dynamic.config import AfterRepair
from makespan.traces.jobshop.instance import NEVER, JobShop

TOLERANCE = 1e-9
"""Times are sums of numbers that are not whole; this share of the last one is no difference."""


@dataclass(frozen=True)
class DynamicSchedule:
    """Operations in pieces: one that is not interrupted is one piece.

    Attributes:
        shop: whose jobs.
        after_repair: what an interrupted operation does, see `Conditions`.
        duration: float64 (options,), how long each option truly takes.
        weight: float64 (jobs,), what a unit of tardiness costs.
        option: int64 (pieces,), of the shop.
        start, end: float64 (pieces,).
        interrupted: bool (pieces,), whether a breakdown ended it.
        down_machine: int64 (downtimes,).
        down_from, down_to: float64 (downtimes,).
    """

    shop: JobShop
    after_repair: AfterRepair
    duration: np.ndarray
    weight: np.ndarray
    option: np.ndarray
    start: np.ndarray
    end: np.ndarray
    interrupted: np.ndarray
    down_machine: np.ndarray
    down_from: np.ndarray
    down_to: np.ndarray

    @cached_property
    def machine(self) -> np.ndarray:
        """int64 (pieces,)."""
        return self.shop.machine[self.option]

    @cached_property
    def operation(self) -> np.ndarray:
        """int64 (pieces,): through all jobs."""
        return np.searchsorted(self.shop.first_option, self.option, side="right") - 1

    @cached_property
    def job(self) -> np.ndarray:
        """int64 (pieces,)."""
        return self.shop.job[self.operation]

    # Objectives.

    @cached_property
    def done(self) -> np.ndarray:
        """float64 (jobs,): when each is done, of a schedule that is complete."""
        done = np.zeros(self.shop.jobs)
        np.maximum.at(done, self.job, self.end)
        return done

    @property
    def makespan(self) -> float:
        """When the last operation ends."""
        return float(self.end.max())

    @property
    def mean_flow_time(self) -> float:
        """From a job's release until it is done."""
        return float((self.done - self.shop.release).mean())

    @property
    def tardiness(self) -> np.ndarray:
        """float64 (jobs,): how late each is, at least 0; jobs without a due date never are."""
        late = np.maximum(self.done - self.shop.due, 0.0)
        return np.where(self.shop.due == NEVER, 0.0, late)

    @property
    def mean_tardiness(self) -> float:
        """Over all jobs, those in time included."""
        return float(self.tardiness.mean())

    @property
    def weighted_tardiness(self) -> float:
        """The sum over all jobs."""
        return float(self.weight @ self.tardiness)

    # Whether it can be.

    def validate(self) -> None:
        """See that it is complete and nothing is wrong with it.

        Raises:
            ValueError: something is; the message names the rule, and jobs, operations and machines,
                from 0.
        """
        if len(self.start) == 0 or not (self.end >= self.start).all():
            raise ValueError("there must be pieces, which end when they begin or later")
        self._validate_operations()
        self._validate_jobs()
        self._validate_machines()
        self._validate_downtimes()

    @cached_property
    def _tolerance(self) -> float:
        return TOLERANCE * (1.0 + self.makespan)

    def _validate_operations(self) -> None:
        """Each is done once, by one option, and for as long as it takes."""
        for operation in range(self.shop.operations):
            pieces = np.flatnonzero(self.operation == operation)
            pieces = pieces[np.lexsort((self.end[pieces], self.start[pieces]))]
            self._require(len(pieces) > 0, operation, "is not done")
            options = np.unique(self.option[pieces])
            self._require(len(options) == 1, operation, "is done by more than one option")
            ended = ~self.interrupted[pieces]
            self._require(ended.sum() == 1 and ended[-1], operation, "must end once, at the last")
            early = self.start[pieces][1:] < self.end[pieces][:-1] - self._tolerance
            self._require(not early.any(), operation, "is done twice at once")
            takes = self.duration[options[0]]
            lengths = self.end[pieces] - self.start[pieces]
            if self.after_repair == "resume":
                right = abs(lengths.sum() - takes) <= self._tolerance
                self._require(right, operation, "must take its true duration in all its pieces")
            else:
                right = abs(lengths[-1] - takes) <= self._tolerance
                self._require(right, operation, "must take its true duration in its last piece")

    def _spans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Begin, end and machine of each operation, from its first piece to its last."""
        begin = np.full(self.shop.operations, np.inf)
        end = np.zeros(self.shop.operations)
        machine = np.zeros(self.shop.operations, np.int64)
        np.minimum.at(begin, self.operation, self.start)
        np.maximum.at(end, self.operation, self.end)
        machine[self.operation] = self.machine
        return begin, end, machine

    def _validate_jobs(self) -> None:
        begin, end, _ = self._spans()
        first = set(self.shop.first_operation[:-1].tolist())
        for operation in range(self.shop.operations):
            if operation in first:
                ready = self.shop.release[self.shop.job[operation]]
                rule = "begins before its job is released"
            else:
                ready, rule = end[operation - 1], "begins before the one before it ends"
            self._require(begin[operation] >= ready - self._tolerance, operation, rule)

    def _validate_machines(self) -> None:
        """One operation at a time, and an interrupted one stays; what takes no time may be."""
        begin, end, machine = self._spans()
        takes = np.flatnonzero(end > begin)
        order = takes[np.lexsort((begin[takes], machine[takes]))]
        for one, other in pairwise(order.tolist()):
            if machine[one] == machine[other] and begin[other] < end[one] - self._tolerance:
                names = f"{self._name(one)} and {self._name(other)}"
                raise ValueError(f"machine {machine[one]} has {names} at once")

    def _validate_downtimes(self) -> None:
        """Nothing is done by a machine that is down, and only its failure interrupts."""
        for piece in range(len(self.start)):
            here = self.down_machine == self.machine[piece]
            failed, repaired = self.down_from[here], self.down_to[here]
            overlap = np.minimum(repaired, self.end[piece]) - np.maximum(failed, self.start[piece])
            idle = bool((overlap <= self._tolerance).all())
            self._require(idle, self.operation[piece], "is done while its machine is down")
            if self.interrupted[piece]:
                broken = bool((abs(failed - self.end[piece]) <= self._tolerance).any())
                self._require(broken, self.operation[piece], "is interrupted by no breakdown")

    def _require(self, good: bool, operation: int, rule: str) -> None:
        if not good:
            raise ValueError(f"{self._name(operation)} {rule}")

    def _name(self, operation: int) -> str:
        job = int(self.shop.job[operation])
        return f"job {job}, operation {operation - self.shop.first_operation[job]}"
