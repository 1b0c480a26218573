"""What is known of every option of a shop before anything is done."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from makespan.traces.jobshop.instance import NEVER, JobShop


@dataclass(frozen=True)
class Plan:
    """Columns with an entry for each option (see `JobShop`); where it is said, operation or job.

    Of operations with a choice the mean of the options counts, but for the option itself.

    Attributes:
        shop: whose.
        weight: float64 (jobs,), what a unit of tardiness costs.

    Raises:
        ValueError: there is not a weight, finite and not negative, for each job.
    """

    shop: JobShop
    weight: np.ndarray

    def __post_init__(self) -> None:
        weight = np.asarray(self.weight, np.float64)
        if weight.shape != (self.shop.jobs,):
            raise ValueError(f"weight must have {self.shop.jobs} entries, one for each job")
        if (bad := ~((weight >= 0) & np.isfinite(weight))).any():
            raise ValueError(f"job {bad.argmax()} must have a finite weight of at least 0")
        object.__setattr__(self, "weight", weight)

    @cached_property
    def operation(self) -> np.ndarray:
        """int64: through all jobs."""
        return np.repeat(np.arange(self.shop.operations), np.diff(self.shop.first_option))

    @cached_property
    def job(self) -> np.ndarray:
        """int64."""
        return self.shop.job[self.operation]

    @cached_property
    def place(self) -> np.ndarray:
        """int64: of the operation in its job, from 0."""
        return self.operation - self.shop.first_operation[self.job]

    @cached_property
    def operations_left(self) -> np.ndarray:
        """int64: of the job, this one included."""
        return self.shop.first_operation[1:][self.job] - self.operation

    @cached_property
    def duration(self) -> np.ndarray:
        """float64."""
        return self.shop.duration.astype(np.float64)

    @cached_property
    def mean(self) -> np.ndarray:
        """float64 (operations,)."""
        options = np.diff(self.shop.first_option)
        return np.add.reduceat(self.duration, self.shop.first_option[:-1]) / options

    @cached_property
    def share(self) -> np.ndarray:
        """float64: of its operation's work, were the options equally likely."""
        return self.duration / np.diff(self.shop.first_option)[self.operation]

    @cached_property
    def work(self) -> np.ndarray:
        """float64 (jobs,)."""
        return np.add.reduceat(self.mean, self.shop.first_operation[:-1])

    @cached_property
    def before(self) -> np.ndarray:
        """float64: work of the job before the operation."""
        sums = np.concatenate([[0.0], np.cumsum(self.mean)])
        return sums[self.operation] - sums[self.shop.first_operation[self.job]]

    @cached_property
    def through(self) -> np.ndarray:
        """float64: work of the job up to the end of the operation."""
        return self.before + self.duration

    @cached_property
    def tail(self) -> np.ndarray:
        """float64: work of the job after the operation."""
        return self.work[self.job] - self.before - self.mean[self.operation]

    @cached_property
    def due(self) -> np.ndarray:
        """float64 (jobs,): inf where there is none."""
        return np.where(self.shop.due == NEVER, np.inf, self.shop.due.astype(np.float64))

    @cached_property
    def next_duration(self) -> np.ndarray:
        """float64: of the job's following operation; 0: there is none."""
        following = np.minimum(self.operation + 1, self.shop.operations - 1)
        return np.where(self.operations_left > 1, self.mean[following], 0.0)

    @cached_property
    def next_machine(self) -> np.ndarray:
        """int64: where the job goes afterwards, the first of its options; -1: it is done."""
        following = np.minimum(self.operation + 1, self.shop.operations - 1)
        machine = self.shop.machine[self.shop.first_option[following]]
        return np.where(self.operations_left > 1, machine, -1)
