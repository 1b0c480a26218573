"""Learners on one machine, against the paper that compares them, on the same jobs.

The competitive ratio of the paper is that of two means: of total flow times and of optimal ones.
Its released code draws sizes from numpy's old generator, whose stream never changes, and its
released data has the flow times of each draw.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from makespan.baselines.jobshop.single_machine.fast import ends, optimal_flow, round_robin_flow
from makespan.experiments.fidelity.row import Row
from makespan.experiments.fidelity.sources import Sources

MEANS = np.array([0.25, 1.0])
"""Of the two types."""

POLICIES = ("etc_u", "etc_rr", "ucb_u", "ucb_rr", "round_robin", "ftpp")

RATIOS = {
    (10, 400): [2.1049, 1.7169, 1.7506, 1.6421, 1.7931, 1.5508],
    (100, 400): [2.3096, 1.8389, 1.7518, 1.7388, 1.9759, 1.7036],
    (10_000, 20): [1.7213, 1.7089, 1.7072, 1.7072, 1.9998, 1.7057],
}
"""Jobs of each type, number of draws -> mean total flow time of each policy per optimal one, from
the data of figure 1 (github.com/hugorichard/ml4a-scheduling, experiments/data). Of 10,000 jobs, the
first 20 of the 400 draws, since all would take a minute; over all, the figure has 1.7236, 1.7105,
1.7086, 1.7086, 1.9998 and 1.7071."""


def rows(_: Sources) -> Iterator[Row]:
    """The policy that is furthest from the paper, per number of jobs."""
    for (jobs, draws), published in RATIOS.items():
        yield Row(
            f"total flow time per optimal one of {len(POLICIES)} policies that learn which of 2 "
            f"types is shorter, or need not, {jobs:,} jobs of each: largest difference",
            "On Preemption and Learning in Stochastic Scheduling (ICML 2023), released data of "
            f"figure 1, the same {draws} draws",
            0,
            float(abs(ratios(jobs, draws) - published).max()),
            1e-4,
            "absolute",
        )


@cache
def ratios(jobs: int, draws: int) -> np.ndarray:
    """float64 (policies,): mean total flow time per mean optimal one."""
    sizes = [draw(seed, jobs) for seed in range(draws)]
    found = [[_flow(policy, size) for policy in (*POLICIES, "optimal")] for size in sizes]
    means = np.mean(found, axis=0)
    return means[:-1] / means[-1]


def draw(seed: int, jobs: int) -> np.ndarray:
    """Sizes as the paper's code draws them, float64 (types, jobs)."""
    rng = np.random.RandomState(seed)
    return np.array([rng.exponential(mean, jobs) for mean in MEANS])


def _flow(policy: str, size: np.ndarray) -> float:
    if policy == "optimal":
        return optimal_flow(size)
    if policy == "round_robin":
        return round_robin_flow(size)
    return float(ends(policy, size, MEANS).sum())
