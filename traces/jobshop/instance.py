"""A job shop: jobs that visit machines in a given order, or have a choice of machines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Self

import numpy as np

NEVER = np.iinfo(np.int64).max
"""Due date of a job that has none."""

LATEST = 2**53
"""No schedule is longer: sums of times do not overflow, and floating-point numbers, as priorities
and solvers' bounds are, hold each of them exactly."""


@dataclass(frozen=True)
class JobShop:
    """Jobs, their operations in order, and on which machines each can be done, as columns.

    Operations are numbered through all jobs, and options through all operations. In a plain job
    shop every operation has one option, so option and operation are the same number.

    Attributes:
        machines: their number, at least 1.
        first_operation: int64 (jobs + 1,): job j has the operations from `first_operation[j]` up to
            `first_operation[j + 1]`, at least one.
        first_option: int64 (operations + 1,): the same for the options of an operation.
        machine: int64 (options,), from 0.
        duration: int64 (options,), not negative, in the instance's unit of time. With the last
            release, all of them add up to at most `LATEST`.
        release: int64 (jobs,): when a job comes; 0 if not given.
        due: int64 (jobs,): when it should be done; `NEVER` if not given.
        name: of the instance.

    Raises:
        ValueError: a column has the wrong length or something is out of range; the message names
            job and operation, both from 0.
    """

    machines: int
    first_operation: np.ndarray
    first_option: np.ndarray
    machine: np.ndarray
    duration: np.ndarray
    release: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    due: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    name: str = ""

    def __post_init__(self) -> None:
        jobs = len(self.first_operation) - 1
        absent = {"release": 0, "due": NEVER}
        for column in fields(self):
            if column.name in ("machines", "name"):
                continue
            values = np.asarray(getattr(self, column.name))
            if column.name in absent and len(values) == 0:
                values = np.full(jobs, absent[column.name])
            object.__setattr__(self, column.name, _column(column.name, values))
        self._validate(jobs)

    def _validate(self, jobs: int) -> None:
        if self.machines < 1 or jobs < 1:
            raise ValueError(f"needs machines and jobs, not {self.machines} and {max(jobs, 0)}")
        self._check_offsets("first_operation", len(self.first_option) - 1)
        self._check_offsets("first_option", len(self.machine))
        if len(self.duration) != len(self.machine):
            raise ValueError(f"{len(self.duration)} durations for {len(self.machine)} machines")
        for name in ("release", "due"):
            if len(getattr(self, name)) != jobs:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {jobs} jobs")
        if (empty := np.diff(self.first_operation) < 1).any():
            raise ValueError(f"job {empty.argmax()} visits no machine")
        if (empty := np.diff(self.first_option) < 1).any():
            raise ValueError(f"{self._operation(int(empty.argmax()))} can be done nowhere")
        unknown = (self.machine < 0) | (self.machine >= self.machines)
        self._check_options(unknown, self.machine, f"be on machine 0 to {self.machines - 1}, not")
        self._check_options(self.duration < 0, self.duration, "take at least 0, not")
        self._check_options(self.duration > LATEST, self.duration, f"take at most {LATEST}, not")
        if (early := self.release < 0).any():
            raise ValueError(f"job {early.argmax()} must not be released before 0")
        check_horizon([int(self.release.max()), *self.duration.tolist()])

    def _check_offsets(self, name: str, end: int) -> None:
        offsets = getattr(self, name)
        if (
            len(offsets) < 1
            or offsets[0] != 0
            or offsets[-1] != end
            or (np.diff(offsets) < 0).any()
        ):
            raise ValueError(f"{name} must go from 0 up to {end}")

    def _check_options(self, bad: np.ndarray, values: np.ndarray, rule: str) -> None:
        if bad.any():
            option = int(bad.argmax())
            operation = int(np.searchsorted(self.first_option, option, side="right")) - 1
            raise ValueError(f"{self._operation(operation)} must {rule} {values[option]}")

    def _operation(self, operation: int) -> str:
        job = int(np.searchsorted(self.first_operation, operation, side="right")) - 1
        return f"job {job}, operation {operation - self.first_operation[job]}"

    @classmethod
    def of(
        cls, jobs: Iterable[Sequence[tuple[int, int]]], machines: int = 0, name: str = ""
    ) -> Self:
        """A plain job shop from the (machine, duration) pairs of each job.

        Args:
            machines: their number; 0: as many as are visited.
        """
        return cls.flexible(([[pair] for pair in job] for job in jobs), machines, name)

    @classmethod
    def flexible(
        cls,
        jobs: Iterable[Sequence[Sequence[tuple[int, int]]]],
        machines: int = 0,
        name: str = "",
    ) -> Self:
        """A job shop from the (machine, duration) pairs of each operation of each job."""
        jobs = [list(job) for job in jobs]
        for j, job in enumerate(jobs):
            for k, operation in enumerate(job):
                check_size(f"job {j}, operation {k}", (n for option in operation for n in option))
        operations = [list(operation) for job in jobs for operation in job]
        options = [option for operation in operations for option in operation]
        return cls(
            machines=machines or 1 + max((machine for machine, _ in options), default=0),
            first_operation=np.array([0, *accumulate(map(len, jobs))]),
            first_option=np.array([0, *accumulate(map(len, operations))]),
            machine=np.array([machine for machine, _ in options]),
            duration=np.array([duration for _, duration in options]),
            name=name,
        )

    @property
    def jobs(self) -> int:
        """Their number."""
        return len(self.first_operation) - 1

    @property
    def operations(self) -> int:
        """Of all jobs."""
        return len(self.first_option) - 1

    @property
    def is_flexible(self) -> bool:
        """Whether an operation has a choice of machines."""
        return len(self.machine) > self.operations

    @property
    def job(self) -> np.ndarray:
        """int64 (operations,): the job of each operation."""
        return np.repeat(np.arange(self.jobs), np.diff(self.first_operation))

    def lower_bound(self) -> int:
        """No schedule is shorter than the longest job, or than what the busiest machine has to do.

        Of operations with a choice, the shortest option counts, and only towards the job.
        """
        shortest = np.minimum.reduceat(self.duration, self.first_option[:-1])
        jobs = self.release + np.add.reduceat(shortest, self.first_operation[:-1])
        alone = np.repeat(np.diff(self.first_option) == 1, np.diff(self.first_option))
        loads = np.bincount(self.machine[alone], self.duration[alone], self.machines)
        return int(max(jobs.max(), loads.max()))


def check_size(place: str, numbers: Iterable[int]) -> None:
    """See that columns can hold these; NumPy would make other types of larger ones.

    Raises:
        ValueError: one is too large; the message names the place.
    """
    if (largest := max(numbers, default=0)) > LATEST:
        raise ValueError(f"{place} has the number {largest}; at most {LATEST} can be")


def check_horizon(times: Iterable[int]) -> None:
    """See that times, one after the other, are no longer than schedules can be.

    Raises:
        ValueError: they are.
    """
    if (horizon := sum(times)) > LATEST:
        raise ValueError(f"all times add up to {horizon}; at most {LATEST} can be")


def _column(name: str, values: np.ndarray) -> np.ndarray:
    """A read-only column of whole numbers."""
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a row of whole numbers, not {values.dtype}{values.shape}")
    column = values.astype(np.int64)
    column.setflags(write=False)
    return column
