"""The published learned router in its own setting: guided Double DQNs, trained and measured here.

Jain et al., arXiv 2408.13510v2, report how much lower than under round robin the mean end-to-end
latency of three routers is; four V100 serve Llama-2-7B to 2,000 requests at 20 per second. Each
variant is trained `AGENTS` times with the published budget of 20 episodes, and measured on the same
`RUNS` runs, none of which it was trained or tuned on.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.random import SeedSequence

from makespan.agents.config import stream
from makespan.agents.llm.guided.config import VARIANTS, GuidedConfig, Variant
from makespan.agents.llm.guided.settings import draw
from makespan.baselines.llm import policy as baseline
from makespan.experiments.fidelity.row import Row

SOURCE = "Jain et al., arXiv 2408.13510v2: 4 V100, Llama-2-7B, 2,000 requests at 20 per second"

SAVED = {"baseline": 4.35, "aware": 7.79, "guided": 11.43}
"""Variant -> published reduction of the mean latency against round robin, in per cent."""

ROUND_ROBIN_S = 19.18 / 0.1143
"""Published indirectly: the guided router saves 19.18 s, which are 11.43 %."""

AGENTS, RUNS = 3, 10
T_95 = 2.262
"""Half a two-sided 95 % confidence interval in standard errors: Student's t, 9 degrees of freedom
(`RUNS` less one)."""

SEEDS = [int(word) for word in stream(0, "jain", "evaluation").generate_state(RUNS)]
"""Of the runs on which agents are measured."""


def rows() -> Iterator[Row]:
    """Latency of round robin, what each variant saves, and whether the order is the published."""
    from makespan.agents.llm.guided.train import mean_latency_s

    episodes = [draw("jain")(SeedSequence(seed)) for seed in SEEDS]
    reference = [mean_latency_s(episode, baseline("round_robin")) for episode in episodes]
    what = f"mean latency under round robin, {interval(np.array(reference))}"
    yield Row(what, SOURCE, ROUND_ROBIN_S, float(np.mean(reference)), None, unit="s")
    means = [0.0]
    for variant in VARIANTS:
        percent = saved(variant)
        what = f"mean latency saved by the {variant} DQN, {describe(percent)}"
        yield Row(what, SOURCE, SAVED[variant], float(percent.mean()), None, "absolute", "%")
        means.append(float(percent.mean()))
    yield ordering(means)


def saved(variant: Variant) -> np.ndarray:
    """float64 (AGENTS, RUNS): reduction of the mean latency against round robin, in per cent."""
    from makespan.agents.llm.guided.train import learn, ratios

    setting = draw("jain")
    configs = [GuidedConfig(variant, seed=seed) for seed in range(AGENTS)]
    return np.array(
        [100 * (1 - ratios(learn(config, setting), config, setting, SEEDS)) for config in configs]
    )


def ordering(means: Sequence[float]) -> Row:
    """How many of the neighbours in the published order are in it, from what each saves."""
    kept = sum(better > worse for worse, better in pairwise(means))
    what = "neighbours in the order round robin, baseline, aware, guided (from the slowest)"
    return Row(what, SOURCE, len(VARIANTS), kept, 0, "absolute")


def interval(values: np.ndarray) -> str:
    """The 95 % confidence interval of the mean over runs, in words."""
    half = T_95 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return f"95 % interval {values.mean() - half:.1f} to {values.mean() + half:.1f}"


def describe(percent: np.ndarray) -> str:
    """Interval over runs of the mean of the agents, and the range of the agents."""
    agents = percent.mean(axis=1)
    return f"{interval(percent.mean(axis=0))}, agents {agents.min():.1f} to {agents.max():.1f}"
