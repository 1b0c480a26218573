"""What can be seen where it is decided what a machine works on, and how that is said."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MachineDecision:
    """One row per job; of a job that is not there yet, nothing is known but that it will come.

    Attributes:
        time: now, in the unit of the sizes.
        action_mask: bool (jobs,): the job is there and not finished.
        type: int64 (jobs,); -1: not there yet.
        release: float64 (jobs,): when it came; nan: not there yet.
        due: float64 (jobs,): nan: not there yet; infinite: none.
        received: float64 (jobs,): time it has had of the machine; its size, if it is finished.
        finished: bool (jobs,).
        operation_left: float64 (jobs,): what its present operation still needs of the machine;
            nan: not known; 0: it is finished.
        job_left: float64 (jobs,): the same of the whole job.
        jobs_of_type: int64 (types,): how many there will have been in all.
    """

    time: float
    action_mask: np.ndarray
    type: np.ndarray
    release: np.ndarray
    due: np.ndarray
    received: np.ndarray
    finished: np.ndarray
    operation_left: np.ndarray
    job_left: np.ndarray
    jobs_of_type: np.ndarray

    def lowest(self, index: np.ndarray) -> int:
        """The job that could be next with the lowest `index` (jobs,), the first of equals.

        Raises:
            ValueError: the index of a job that could be next is not a number, since its size is
                not known.
        """
        if np.isnan(index[self.action_mask]).any():
            raise ValueError("this rule needs the sizes of jobs, which are not revealed")
        there = np.flatnonzero(self.action_mask)  # not any job, also if all indices are infinite
        return int(there[index[there].argmin()])


@dataclass(frozen=True)
class Service:
    """What a machine is to do from now on.

    Attributes:
        jobs: share the machine, at the same rate.
        at_most: time after which it is decided again, if nothing happens before.

    Raises:
        ValueError: there is no job, or one twice, or no time.
    """

    jobs: tuple[int, ...]
    at_most: float = np.inf

    def __post_init__(self) -> None:
        if not self.jobs or len(set(self.jobs)) < len(self.jobs):
            raise ValueError(f"needs jobs, each of them once, not {self.jobs}")
        if not self.at_most > 0:
            raise ValueError(f"must have some time, not {self.at_most}")
