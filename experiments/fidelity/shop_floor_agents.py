"""Agents of shops without buffers and of shops that break down, against every rule.

The episodes are random ones that no agent was trained, chosen or measured on in training. Agent and
rules meet the same shutdowns and breakdowns.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from makespan.agents.config import stream
from makespan.agents.jobshop.blocking import BlockingWorld, LearnedBlocking
from makespan.agents.jobshop.dynamic import DynamicWorld, LearnedDispatcher
from makespan.baselines.jobshop import blocking_rules, dynamic_rules
from makespan.envs.core.contract import Policy, Simulation, simulate
from makespan.experiments.fidelity.row import Row

EPISODES = {"blocking": 200, "failing": 2000}
"""By world. Where machines fail, luck is larger than what rules and agents differ by."""

LIMITS = (np.inf, 0.75, 0.65, 0.55, 0.45)
"""Of blocking rules, on the jobs in the shop per machine: each is a rule of its own here."""

Draw = Callable[[int], Simulation]
"""Number of an episode -> its run, at the beginning."""

Rules = Mapping[str, Callable[[], Policy]]


def rows() -> Iterator[Row]:
    """The agent's makespans relative to those of the best rule, by world."""
    rules: dict[str, Callable[[], Policy]] = {
        f"{name} with a limit of {limit:g}": lambda name=name, limit=limit: blocking_rules.policy(
            name, limit=limit
        )
        for name in blocking_rules.RULES
        for limit in LIMITS
    }
    what = "8 to 16 jobs and machines without buffers, shutdowns of 0 to 20 %"
    yield _row(what, LearnedBlocking.load, rules, BlockingWorld().draw, EPISODES["blocking"])
    rules = {
        name: lambda name=name: dynamic_rules.policy(name, 0) for name in dynamic_rules.POLICIES
    }
    what = "8 to 16 jobs and machines that are up 90 % of the time"
    yield _row(what, LearnedDispatcher.load, rules, DynamicWorld().draw, EPISODES["failing"])


def _row(what: str, agent: Callable[[], Policy], rules: Rules, draw: Draw, episodes: int) -> Row:
    """Against the rule that comes closest to the agent in these very episodes.

    The mean over episodes is the geometric one. The arithmetic one is above 1 for two that are as
    good, whichever is divided by the other, since the luck in ratios does not cancel out in it.
    """
    numbers = [int(word) for word in stream(0, "shop floor").generate_state(episodes)]

    def makespans(policy: Callable[[], Policy]) -> np.ndarray:
        return np.array([simulate(draw(number), policy()).clock.now for number in numbers])

    mine = makespans(agent)
    logs = {name: np.log(mine / makespans(rule)) for name, rule in rules.items()}
    best = max(logs, key=lambda name: logs[name].mean())
    ratio = float(np.exp(logs[best].mean()))
    error = 1.96 * ratio * float(logs[best].std(ddof=1)) / episodes**0.5
    return Row(
        f"{what}: makespan of the agent relative to the best of {len(rules)} rules "
        f"({best}), 95 % interval +- {error:.3f}",
        "the rules of this project",
        1,
        ratio,
        -error,
        "at_most",
    )
