"""Learners on one machine, against the paper that compares them, on the same jobs.

The competitive ratio of its first figure is that of two means: of total flow times and of optimal
ones; in the third, the only one with LSEPT, it is the mean of the ratio of each draw. The released
code draws sizes from numpy's old generator, whose stream never changes, and the released data has
the flow times, or ratios, of each draw (github.com/hugorichard/ml4a-scheduling, experiments/data).
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from makespan.baselines.jobshop.single_machine.fast import ends, optimal_flow, round_robin_flow
from makespan.experiments.fidelity.row import Row
from makespan.experiments.fidelity.sources import Sources

SOURCE = "On Preemption and Learning in Stochastic Scheduling (ICML 2023), released data of figure"

MEANS = np.array([0.25, 1.0])
"""Of the two types in figure 1."""

POLICIES = ("etc_u", "etc_rr", "ucb_u", "ucb_rr", "round_robin", "ftpp")

RATIOS = {
    (10, 400): [2.1049, 1.7169, 1.7506, 1.6421, 1.7931, 1.5508],
    (100, 400): [2.3096, 1.8389, 1.7518, 1.7388, 1.9759, 1.7036],
    (10_000, 20): [1.7213, 1.7089, 1.7072, 1.7072, 1.9998, 1.7057],
}
"""Jobs of each type, number of draws -> mean total flow time of each policy per optimal one, from
the data of figure 1. Of 10,000 jobs, the first 20 of the 400 draws, since all would take a minute;
over all, the figure has 1.7236, 1.7105, 1.7086, 1.7086, 1.9998 and 1.7071."""

MEANS_3 = np.array([0.8, 1.0])
"""Of the two types in figure 3."""

POLICIES_3 = ("lsept", "round_robin", "ftpp")

RATIOS_3 = {
    100: [1.95873, 1.97997, 1.901427],
    774: [1.941051, 1.997399, 1.898162],
    5994: [1.936706, 1.999664, 1.902161],
}
"""Jobs of each type -> the same of the data of figure 3, but the mean over draws of the ratio."""

DRAWS_3 = 200


def rows(_: Sources) -> Iterator[Row]:
    """The policy that is furthest from the paper, per figure and number of jobs."""
    for (jobs, draws), published in RATIOS.items():
        yield Row(
            f"total flow time per optimal one of {len(POLICIES)} policies that learn which of 2 "
            f"types is shorter, or need not, {jobs:,} jobs of each: largest difference",
            f"{SOURCE} 1, the same {draws} draws",
            0,
            float(abs(ratios(jobs, draws) - published).max()),
            1e-4,
            "absolute",
        )
    for jobs, published in RATIOS_3.items():
        yield Row(
            f"the same of LSEPT, round robin and FTPP, {jobs:,} jobs of each: largest difference",
            f"{SOURCE} 3, the same {DRAWS_3} draws",
            0,
            float(abs(ratios_3(jobs) - published).max()),
            1e-5,
            "absolute",
        )


@cache
def ratios(jobs: int, draws: int) -> np.ndarray:
    """float64 (policies,): mean total flow time per mean optimal one."""
    means = _flows(POLICIES, jobs, draws, MEANS).mean(axis=0)
    return means[:-1] / means[-1]


@cache
def ratios_3(jobs: int) -> np.ndarray:
    """float64 (policies,): mean of the total flow time per optimal one."""
    flows = _flows(POLICIES_3, jobs, DRAWS_3, MEANS_3)
    return (flows[:, :-1] / flows[:, -1:]).mean(axis=0)


def _flows(policies: tuple[str, ...], jobs: int, draws: int, means: np.ndarray) -> np.ndarray:
    """float64 (draws, policies + 1): total flow times, the optimal one last."""
    sizes = [draw(seed, jobs, means) for seed in range(draws)]
    return np.array([[_flow(by, size, means) for by in (*policies, "optimal")] for size in sizes])


def draw(seed: int, jobs: int, means: np.ndarray = MEANS) -> np.ndarray:
    """Sizes as the paper's code draws them, float64 (types, jobs)."""
    rng = np.random.RandomState(seed)
    return np.array([rng.exponential(mean, jobs) for mean in means])


def _flow(policy: str, size: np.ndarray, means: np.ndarray) -> float:
    if policy == "optimal":
        return optimal_flow(size)
    if policy == "round_robin":
        return round_robin_flow(size)
    return float(ends(policy, size, means).sum())
