"""The agent that improves schedules, on Taillard's instances, against one that was published."""

from collections.abc import Iterator, Mapping

import numpy as np

from makespan.agents.jobshop.improve import LearnedSwaps
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.jobshop.improve.episode import first_schedule
from makespan.envs.jobshop.improve.search import LocalSearch
from makespan.experiments.fidelity.row import Row
from makespan.traces.jobshop import BENCHMARKS, benchmark

STEPS = 500

L2S = {
    "15x15": (1, 8.8),
    "20x15": (11, 11.9),
    "20x20": (21, 11.9),
    "30x15": (31, 15.4),
    "30x20": (41, 18.7),
    "50x15": (51, 11.1),
    "50x20": (61, 13.7),
}
"""Size -> the number of the first of its ten instances, and the mean gap to the best known makespan
in % that L2S, trained on 10x10, reaches in so many steps: `test_results` of its repository
(zcaicaros/L2S)."""


def rows(published: Mapping[str, tuple[int, float]] = L2S) -> Iterator[Row]:
    """The mean over sizes."""
    agent = LearnedSwaps.load()
    gaps = [mean_gap(agent, first) for first, _ in published.values()]
    yield Row(
        f"mean gap to the best known on Taillard's {10 * len(published)} up to 50x20, agent, "
        f"{STEPS} swaps",
        "L2S, ICLR 2024, trained on 10x10: as many",
        float(np.mean([gap for _, gap in published.values()])),
        float(np.mean(gaps)),
        0,
        "at_most",
        "%",
    )


def mean_gap(policy: Policy, first: int) -> float:
    """In % of the best known makespans, of ten of Taillard's instances, from the number `first`."""
    found = []
    for number in range(first, first + 10):
        known = BENCHMARKS[f"ta{number:02d}"]
        start = first_schedule(benchmark(known.name))
        search = simulate(LocalSearch(start, STEPS, np.random.default_rng(0)), policy)
        search.best.schedule.validate()
        found.append(known.gap(search.best.makespan))
    return 100 * float(np.mean(found))
