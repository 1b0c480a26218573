"""Jobs for one machine: of types whose mean sizes differ, released over time, in operations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Self

import numpy as np


@dataclass(frozen=True)
class MachineJobs:
    """Jobs that one machine is to do, as columns. The unit of time is theirs.

    Attributes:
        first_operation: int64 (jobs + 1,): job j has the operations from `first_operation[j]` up to
            `first_operation[j + 1]`, at least one, to be done in that order.
        size: float64 (operations,): time that each needs of the machine, positive.
        type: int64 (jobs,), from 0; 0 if not given.
        release: float64 (jobs,): when the job comes, not negative; 0 if not given.
        due: float64 (jobs,): when it should be done; infinite if not given.

    Raises:
        ValueError: a column has the wrong length or something is out of range; the message names
            job and operation, both from 0.
    """

    first_operation: np.ndarray
    size: np.ndarray
    type: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    release: np.ndarray = field(default_factory=lambda: np.zeros(0))
    due: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        jobs = len(self.first_operation) - 1
        absent = {"type": 0, "release": 0.0, "due": np.inf}
        for column in fields(self):
            whole = column.name in ("first_operation", "type")
            given = np.array(getattr(self, column.name))
            if whole and given.size and given.dtype.kind not in "iu":
                raise ValueError(f"{column.name} must be whole numbers, not {given.dtype}")
            values = given.astype(np.int64 if whole else np.float64)
            if column.name in absent and len(values) == 0:
                values = np.full(jobs, absent[column.name], values.dtype)
            values.setflags(write=False)
            object.__setattr__(self, column.name, values)
        self._validate(jobs)

    def _validate(self, jobs: int) -> None:
        if jobs < 1:
            raise ValueError("needs at least one job")
        if self.first_operation[0] != 0 or self.first_operation[-1] != len(self.size):
            raise ValueError(f"first_operation must go from 0 up to {len(self.size)}")
        for name in ("type", "release", "due"):
            if len(getattr(self, name)) != jobs:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {jobs} jobs")
        self._require(np.diff(self.first_operation) > 0, "must have an operation")
        self._require(self.type >= 0, "must have a type from 0 on")
        self._require((self.release >= 0) & np.isfinite(self.release), "must be released from 0 on")
        self._require(~np.isnan(self.due), "must have a due date that is a number")
        good = (self.size > 0) & np.isfinite(self.size)
        if not good.all():
            operation = int(good.argmin())
            job = int(np.searchsorted(self.first_operation, operation, side="right")) - 1
            place = f"job {job}, operation {operation - self.first_operation[job]}"
            raise ValueError(f"{place} must have a positive size, not {self.size[operation]}")

    def _require(self, good: np.ndarray, rule: str) -> None:
        if not good.all():
            raise ValueError(f"job {int(good.argmin())} {rule}")

    @classmethod
    def of(
        cls,
        jobs: Iterable[float | Sequence[float]],
        *,
        type: Sequence[int] = (),
        release: Sequence[float] = (),
        due: Sequence[float] = (),
    ) -> Self:
        """From the size of each job, or the sizes of its operations."""
        sizes = [list(job) if isinstance(job, Sequence) else [job] for job in jobs]
        return cls(
            np.array([0, *accumulate(map(len, sizes))]),
            np.array([size for job in sizes for size in job]),
            np.array(type),
            np.array(release),
            np.array(due),
        )

    @property
    def jobs(self) -> int:
        """Their number."""
        return len(self.first_operation) - 1

    @property
    def types(self) -> int:
        """Their number."""
        return int(self.type.max()) + 1

    @property
    def job_size(self) -> np.ndarray:
        """float64 (jobs,): time that all operations of the job need."""
        return np.add.reduceat(self.size, self.first_operation[:-1])


def exponential_jobs(
    means: Sequence[float],
    jobs_per_type: int,
    seed: np.random.SeedSequence,
    *,
    operations: int = 1,
    rate: float = 0.0,
) -> MachineJobs:
    """As many jobs of each type, numbered type by type, with exponential sizes.

    Another rate does not change the sizes.

    Args:
        means: mean size of the jobs of each type.
        operations: of each job; their sizes are exponential with the same mean, which all together
            have the mean of the type.
        rate: of the Poisson process by which jobs, in random order, are released; 0: all of them
            are there at the beginning.

    Raises:
        ValueError: there is no job, no operation, or a mean or the rate is out of range.
    """
    if jobs_per_type < 1 or operations < 1 or rate < 0 or not all(mean > 0 for mean in means):
        raise ValueError("needs jobs, operations, positive means and a rate that is not negative")
    sizes, arrivals = (np.random.default_rng(stream) for stream in seed.spawn(2))
    count = len(means) * jobs_per_type
    mean = np.repeat(np.asarray(means, np.float64), jobs_per_type * operations) / operations
    gaps = arrivals.exponential(1.0, count)
    release = arrivals.permutation(np.cumsum(gaps)) / rate if rate else np.zeros(count)
    return MachineJobs(
        np.arange(count + 1) * operations,
        sizes.exponential(1.0, count * operations) * mean,
        np.repeat(np.arange(len(means)), jobs_per_type),
        release,
    )
