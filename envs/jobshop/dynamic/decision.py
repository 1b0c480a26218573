"""What a dispatcher can see when a machine is idle and several jobs wait for it.

Nothing else is visible: no true duration, no breakdown and no arrival to come. Shapes use C = jobs
that wait for the machine, M = machines; times are in the instance's unit.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class DispatchDecision:
    """A choice of the job that a machine does next: the action is its place among the candidates.

    Where an operation has a choice of machines, durations of operations still to come are the mean
    of their options.

    Attributes:
        time: now.
        machine: that is idle, and up.
        job: int64 (C,), the candidates by their number, in rising order.
        operation: int64 (C,), which of its job's, from 0.
        duration: float64 (C,), planned, on this machine.
        tail: float64 (C,), planned work of the job after the operation.
        through: float64 (C,), planned work of the job up to the operation's end.
        operations_left: int64 (C,), of the job, this one included.
        ready: float64 (C,), since when the job waits.
        release: float64 (C,), when it came.
        due: float64 (C,), when it should be done; inf: it has no due date.
        weight: float64 (C,), what a unit of its tardiness costs.
        next_machine: int64 (C,), where the job goes afterwards; of several that could, the one with
            the least work, then the first; -1: it is done.
        next_duration: float64 (C,), planned, of the operation there; 0: there is none.
        up: bool (M,), whether a machine is not broken.
        down_for: float64 (M,), time since it failed; 0 if it is up.
        left: float64 (M,), planned work left of what it has begun; 0 if that is overdue or nothing.
        queue_work: float64 (M,), planned work of the operations that wait and could be done on it.
        queue_length: int64 (M,), how many these are.
        free_in: float64 (M,), until it can begin something else, as expected: planned work left of
            what it has begun, and the mean time of a repair if it is down.
        load: float64 (M,), planned work of the jobs in the shop that it may still begin, whether
            they wait for it or are elsewhere; of what several can do, an equal share.
        comes_in: float64 (M,), until the first job comes that is worked on elsewhere and goes to it
            afterwards, by `free_in` there; inf: there is none.
        comes_tail: float64 (M,), planned work of that job after its operation here; 0: none.
        longest: planned work, until its machine is free included, that is left of the job that has
            most.
        jobs_in_system: released and not done.
        work_in_system: planned work of the operations of these that are not done.
        mean_duration: planned, over all options; 1 if nothing takes time; a scale for the others.
    """

    time: float
    machine: int
    job: np.ndarray
    operation: np.ndarray
    duration: np.ndarray
    tail: np.ndarray
    through: np.ndarray
    operations_left: np.ndarray
    ready: np.ndarray
    release: np.ndarray
    due: np.ndarray
    weight: np.ndarray
    next_machine: np.ndarray
    next_duration: np.ndarray
    up: np.ndarray
    down_for: np.ndarray
    left: np.ndarray
    queue_work: np.ndarray
    queue_length: np.ndarray
    free_in: np.ndarray
    load: np.ndarray
    comes_in: np.ndarray
    comes_tail: np.ndarray
    longest: float
    jobs_in_system: int
    work_in_system: float
    mean_duration: float

    @property
    def action_mask(self) -> np.ndarray:
        """bool (C,): all of them."""
        return np.ones(len(self.job), np.bool_)

    @property
    def remaining(self) -> np.ndarray:
        """float64 (C,): planned work of the job from the operation on, itself included."""
        return self.tail + self.duration

    @property
    def slack(self) -> np.ndarray:
        """float64 (C,): time until the due date that the job could wait; negative: it is late."""
        return self.due - self.time - self.remaining

    @property
    def next_work(self) -> np.ndarray:
        """float64 (C,): planned work that waits for or is on the next machine; 0: there is none."""
        ahead = (self.queue_work + self.left)[self.next_machine]
        return np.where(self.next_machine >= 0, ahead, 0.0)

    @property
    def busy_for(self) -> np.ndarray:
        """float64 (M,): time that the machine needs for the jobs in the shop at least."""
        return self.free_in + self.load

    @property
    def horizon(self) -> float:
        """Time that the jobs in the shop need at least, by plan: the longest or the busiest."""
        return max(self.longest, float(self.busy_for.max()))
