"""Agents of shops without buffers and of shops that break down, against every rule.

The episodes are random ones that no agent was trained, chosen or measured on in training. Agent and
rules meet the same shutdowns and breakdowns.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.random import SeedSequence

from makespan.agents.config import stream
from makespan.agents.jobshop.blocking import BlockingWorld, LearnedBlocking
from makespan.agents.jobshop.dynamic import DynamicWorld, LearnedDispatcher
from makespan.baselines.jobshop import blocking_rules, dynamic_rules
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.jobshop.blocking.simulation import BlockingShop
from makespan.experiments.fidelity.row import Row

EPISODES = 200

LIMITS = (np.inf, 0.75, 0.65, 0.55, 0.45)
"""Of blocking rules, on the jobs in the shop per machine: each is a rule of its own here."""

Runs = Callable[[int, Policy], float]
"""Number of an episode, and who decides in it -> the makespan."""


def rows() -> Iterator[Row]:
    """The mean ratio of the agent's makespan to that of the best rule, by world."""
    rules = {
        f"{name} with a limit of {limit:g}": lambda name=name, limit=limit: blocking_rules.policy(
            name, limit=limit
        )
        for name in blocking_rules.RULES
        for limit in LIMITS
    }
    yield _row(
        "8 to 16 jobs and machines without buffers, shutdowns of 0 to 20 %",
        LearnedBlocking.load,
        rules,
        _blocking,
    )
    rules = {
        name: lambda name=name: dynamic_rules.policy(name, 0) for name in dynamic_rules.POLICIES
    }
    yield _row(
        "8 to 16 jobs and machines that are up 90 % of the time",
        LearnedDispatcher.load,
        rules,
        _failing,
    )


def _row(
    what: str, agent: Callable[[], Policy], rules: dict[str, Callable[[], Policy]], run: Runs
) -> Row:
    """Against the rule with the lowest makespans in these very episodes."""
    episodes = [int(seed) for seed in stream(0, "shop floor").generate_state(EPISODES)]
    mine = np.array([run(episode, agent()) for episode in episodes])
    theirs = {
        name: np.array([run(episode, make()) for episode in episodes])
        for name, make in rules.items()
    }
    best = min(theirs, key=lambda name: (theirs[name] / mine).mean())
    ratio = mine / theirs[best]
    error = 1.96 * ratio.std(ddof=1) / EPISODES**0.5
    return Row(
        f"{what}: mean makespan of the agent relative to the best of {len(rules)} rules "
        f"({best}), 95 % interval +- {error:.3f}",
        "the rules of this project",
        1,
        float(ratio.mean()),
        -error,
        "at_most",
    )


def _blocking(episode: int, scheduler: Policy) -> float:
    drawn = BlockingWorld().env().config.draw(SeedSequence(episode))
    return float(simulate(BlockingShop(*drawn), scheduler).makespan)


def _failing(episode: int, scheduler: Policy) -> float:
    return float(simulate(DynamicWorld().draw(episode), scheduler).clock.now)
