"""The agent that schedules job shops, on Taillard's 80, against what was published of others."""

from collections.abc import Iterator

import numpy as np

from makespan.baselines.jobshop.rules import RULES
from makespan.experiments.fidelity.dispatching import INSTANCES, SIZES, gaps
from makespan.experiments.fidelity.row import Row
from makespan.traces.jobshop import BENCHMARKS, benchmark

SAMPLES = 128

GREEDY, BEST_OF_SAMPLES = 12.9, 8.4
"""Lowest published mean gaps in %: of a greedy policy, BOPO (ICML 2025); of the best of 128
schedules, Corsini et al. (NeurIPS 2024)."""

ON = "mean gap to the best known on Taillard's 80"


def rows() -> Iterator[Row]:
    """Greedy, best of many, and against the best rule of each size."""
    greedy, best = agent_gaps(SAMPLES)
    source = "BOPO, ICML 2025: lowest of greedy policies"
    yield Row(f"{ON}, agent, greedy", source, GREEDY, float(greedy.mean()), 0, "at_most", "%")
    source = f"Corsini et al., NeurIPS 2024: best of {SAMPLES}"
    what = f"{ON}, agent, best of {SAMPLES}"
    yield Row(what, source, BEST_OF_SAMPLES, float(best.mean()), 0, "at_most", "%")
    rules = [gaps("nondelay", rule) for rule in RULES] + [gaps("active", "tail_p_wait")]
    worse = float((greedy >= np.min(rules, axis=0)).sum())
    what = f"of {len(SIZES)} sizes, on how many the greedy agent is not below every rule"
    yield Row(what, "the rules of this project", 0, worse, 0, "absolute")


def agent_gaps(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """float64 (8,) each: mean gap in % of each size, greedy and of the best of many schedules.

    The seed of an instance's samples is its number.
    """
    from makespan.agents.jobshop.agent import ShopAgent

    agent = ShopAgent.load("job_shop")
    found = []
    for number, name in enumerate(INSTANCES, 1):
        known = BENCHMARKS[name]
        made = agent.sample(benchmark(name), samples, number)
        made.best.validate()
        found.append([known.gap(int(made.makespan[0])), known.gap(made.best.makespan)])
    by_size = 100 * np.array(found).reshape(len(SIZES), -1, 2).mean(axis=1)
    return by_size[:, 0], by_size[:, 1]
