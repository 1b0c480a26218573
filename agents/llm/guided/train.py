"""Train a guided Double DQN.

The one that comes with the package (`makespan/agents/shipped/guided_dqn`) is made by

    makespan train-guided --setting episodes --episodes 120 --exploring 0.05 --decay 0.1 --out DIR
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.random import SeedSequence

from makespan.agents.config import stream
from makespan.agents.folder import Agent, AgentCard
from makespan.agents.llm.episodes import Episode
from makespan.agents.llm.guided.config import GuidedConfig
from makespan.agents.llm.guided.learner import Learner
from makespan.agents.llm.guided.mixing import Mixing, guidance
from makespan.agents.llm.guided.policy import KIND, GuidedRouter, best_action, values
from makespan.agents.llm.guided.reward import Moment, reward, steps
from makespan.agents.llm.guided.settings import Draw, draw
from makespan.agents.llm.guided.state import VERSION, encode
from makespan.agents.llm.guided.survey import survey
from makespan.agents.provenance import commit, versions
from makespan.baselines.llm import policy as baseline
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.fleet import Fleet
from makespan.envs.llm.state import FINISHED

REFERENCE = "round_robin"
"""The rule that agents are measured against, as in the paper."""

TUNING, TEST = 24, 48
"""Episodes on which the open settings were chosen, and on which an agent is measured."""

Report = Callable[[int, float], None]
"""Is told the number of every episode that is done, from 0, and its mean latency in s."""


def train(config: GuidedConfig, setting: str, report: Report = lambda number, s: None) -> Agent:
    """An agent, trained and measured in a setting (`makespan.agents.llm.guided.settings`).

    Raises:
        ValueError: there is no such setting.
    """
    begun = time.monotonic()
    weights = learn(config, draw(setting), report)
    found = ratios(weights, config, draw(setting), test_seeds(config.seed))
    seconds = round(time.monotonic() - begun, 1)
    replicas = weights["4.bias"].size - 1  # the last action is to hold
    return Agent(_card(config, setting, replicas, found, seconds), weights)


def _card(
    config: GuidedConfig, setting: str, replicas: int, found: np.ndarray, seconds: float
) -> AgentCard:
    """What there is to know of an agent with these `ratios` on the test episodes."""
    error = float(found.std(ddof=1) / np.sqrt(len(found)))
    test = {"mean": float(found.mean()), "standard_error": error, "reference": REFERENCE}
    changed = {n: v for n, v in asdict(config).items() if v != getattr(GuidedConfig(), n)}
    options = " ".join(f"--{name} {value}" for name, value in changed.items())
    return AgentCard(
        world="llm_router",
        observation_version=VERSION,
        settings={"setting": setting, "replicas": replicas, "lengths": config.lengths},
        training=asdict(config),
        seeds={
            "training": config.seed,
            "tuning": tuning_seeds(),
            "test": test_seeds(config.seed),
        },
        results={"test": test},
        trained={
            "command": f"makespan train-guided --setting {setting} {options}".rstrip(),
            "wall_s": seconds,
            "commit": commit(),
            "versions": versions(),
        },
        kind=KIND,
    )


def tuning_seeds() -> list[int]:
    """Of the episodes on which the open settings were chosen, the same for every agent."""
    return [int(word) for word in stream(0, "tuning").generate_state(TUNING)]


def test_seeds(seed: int) -> list[int]:
    """Of the episodes on which an agent of that training seed is measured."""
    return [int(word) for word in stream(seed, "guided", "test").generate_state(TEST)]


def learn(
    config: GuidedConfig, draw: Draw, report: Report = lambda number, s: None
) -> dict[str, np.ndarray]:
    """The weights that training gives: name -> float32 array.

    Args:
        draw: what episodes are drawn from; all with as many replicas, and routers that may hold.
    """
    rng = np.random.default_rng(stream(config.seed, "exploration"))
    learner = None
    for number, seed in enumerate(stream(config.seed, "training").spawn(config.episodes)):
        episode = draw(seed)
        learner = learner or Learner(config, len(episode.fleet.replicas))
        report(number, play(config, episode, number, learner, rng))
    assert learner is not None
    return {name: weight.copy() for name, weight in learner.weights.items()}


def play(
    config: GuidedConfig,
    episode: Episode,
    number: int,
    learner: Learner,
    rng: np.random.Generator,
) -> float:
    """Go through an episode, exploring and learning; its mean latency in s.

    After the last decision nothing is learned: nothing that could be done better follows it.
    """
    fleet = Fleet(episode.workload, episode.fleet, episode.noise)
    observer = Observer(config, fleet)
    weights = learner.weights
    before, action = None, 0
    while (decision := fleet.next_decision()) is not None:
        now = observer.look(decision)
        if before is not None:
            learner.remember(number, *_row(config, before, action, now))
        if rng.random() < config.exploration(number):
            action = int(rng.choice(np.flatnonzero(now.mask)))
        else:
            action = best_action(values(weights, now.state), now.mask)
        fleet.decide(action)
        before = now
    return fleet.latency_s() / len(episode.workload)


class Observer:
    """Notes what a transition is made of. What it knows beyond the router: who has finished."""

    def __init__(self, config: GuidedConfig, fleet: Fleet) -> None:
        self._lengths = config.lengths
        self._mixing = Mixing()
        self._status = fleet.records["status"].view(np.ndarray)

    def look(self, decision: RoutingDecision) -> Moment:
        """The moment of a decision."""
        seen = survey(decision, self._lengths)
        return Moment(
            time=decision.time,
            state=encode(decision, seen),
            mask=decision.action_mask.copy(),
            impacts=self._mixing(decision, seen),
            unfinished=seen.unfinished,
            finished=int(np.count_nonzero(self._status == FINISHED)),
        )


def _row(config: GuidedConfig, before: Moment, action: int, after: Moment) -> tuple[Any, ...]:
    """The fields of a `makespan.agents.llm.guided.replay.transition`."""
    return (
        before.state,
        action,
        reward(config, before, action, after),
        guidance(before.impacts, action, before.mask),
        after.state,
        after.mask,
        steps(before, after),
    )


def mean_latency_s(episode: Episode, policy: Policy) -> float:
    """Mean time in s that a request of the episode spends in the system."""
    fleet = simulate(Fleet(episode.workload, episode.fleet, episode.noise), policy)
    return fleet.latency_s() / len(episode.workload)


def ratios(
    weights: Mapping[str, np.ndarray], config: GuidedConfig, draw: Draw, seeds: Sequence[int]
) -> np.ndarray:
    """float64 (seeds,): mean latency over that of round robin on the same episode."""
    found = []
    for seed in seeds:
        episode = draw(SeedSequence(seed))
        mine = GuidedRouter(weights, len(episode.fleet.replicas), config.lengths)
        reference = mean_latency_s(episode, baseline(REFERENCE))
        found.append(mean_latency_s(episode, mine) / reference)
    return np.array(found)
