"""Learners in compiled code, for many jobs that are all there at the beginning.

What the simulator and `makespan.baselines.jobshop.single_machine.learners.Learner` do, without
either: some microseconds a decision (tests hold them against each other).
"""

import numpy as np

from makespan.baselines.jobshop.single_machine.learners import (
    SLICE,
    choose,
    learn,
    nothing_seen,
    number_of,
)
from makespan.envs.core.compiled import kernel


def ends(
    name: str, size: np.ndarray, means: np.ndarray | None = None, slice: float = SLICE
) -> np.ndarray:
    """When each job ends, float64 (types, jobs).

    Args:
        name: see `makespan.baselines.jobshop.single_machine.learners.LEARNERS`.
        size: float64 (types, jobs): of the jobs of each type.
        means: see `Learner`.
        slice: see `Learner`.

    Raises:
        ValueError: there is no such learner, or it lacks the means, or see `nothing_seen`.
    """
    rule = number_of(name, means)
    types, jobs = size.shape
    found = np.empty((types, jobs))
    _run(rule, nothing_seen(types, jobs, means, slice), size.astype(np.float64), found)
    return found


@kernel
def _run(rule, seen, size, ends):
    """Fill `ends`."""
    types, jobs = size.shape
    left = np.full(types, jobs)
    rest = size[:, 0].copy()
    active = np.zeros(types, np.bool_)
    now = 0.0
    received = np.zeros(types)
    while left.sum() > 0:
        at_most = choose(rule, seen, left, active)
        time = at_most / active.sum()
        for t in range(types):
            if active[t]:
                time = min(time, rest[t])
        now += time * active.sum()
        for t in range(types):
            if active[t]:
                rest[t] -= time
                received[t] += time
        for t in range(types):
            if active[t]:
                finished = rest[t] <= 0
                job = jobs - left[t]
                learn(rule, seen, t, time, received[t], finished, active)
                if finished:
                    ends[t, job] = now
                    left[t] -= 1
                    received[t] = 0.0
                    rest[t] = size[t, job + 1] if left[t] > 0 else 0.0


def optimal_flow(size: np.ndarray) -> float:
    """Total flow time of jobs that are all there at the beginning, the shortest first."""
    ascending = np.sort(size, axis=None)
    return float(np.arange(len(ascending), 0, -1) @ ascending)


def round_robin_flow(size: np.ndarray) -> float:
    """The same where all jobs share the machine.

    Of N jobs, the i-th shortest (from 0) ends when it has had its size, and so has each of the
    N - i - 1 longer ones: it adds 2 (N - i) - 1 times its size to the total.
    """
    ascending = np.sort(size, axis=None)
    return float((2 * np.arange(len(ascending), 0, -1) - 1) @ ascending)
