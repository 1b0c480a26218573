"""The LLM serving world, as the trainer sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.random import SeedSequence

from makespan.agents.graph.declaration import GraphDeclaration
from makespan.agents.llm.env import RouterTrainingEnv
from makespan.agents.llm.episodes import Episode, EpisodeDistribution, draw
from makespan.agents.llm.observation import GRAPH, VERSION
from makespan.agents.llm.policy import LearnedRouter
from makespan.agents.llm.prior import PRIORS
from makespan.baselines.llm import policy as baseline
from makespan.baselines.llm.lookahead import Lookahead
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.core.registry import unknown_name
from makespan.envs.llm.fleet import Fleet


@dataclass(frozen=True)
class RouterWorld:
    """Routers of LLM serving fleets.

    Attributes:
        prior: rule whose scores the agent corrects: `lookahead_hold`, `lookahead`, `lmetric` or
            `none`; only the first and the last ever hold a request.
        distribution: what episodes are drawn from.
    """

    name: ClassVar[str] = "llm_router"
    observation_version: ClassVar[int] = VERSION
    graph: ClassVar[GraphDeclaration] = GRAPH

    prior: str = "lookahead_hold"
    distribution: EpisodeDistribution = field(default_factory=EpisodeDistribution)

    def __post_init__(self) -> None:
        if self.prior not in PRIORS:
            raise unknown_name("prior", self.prior, PRIORS)

    @property
    def reference(self) -> str:
        """The rule that `evaluate` compares with."""
        return "lookahead"

    def env(self) -> RouterTrainingEnv:
        """A training environment."""
        return RouterTrainingEnv(self.distribution, self.prior)

    def teacher(self, name: str) -> Policy:
        """The router policy of that name."""
        return baseline(name)

    def policy(self, weights: Mapping[str, np.ndarray]) -> LearnedRouter:
        """The router that a network with these weights makes."""
        return LearnedRouter(weights, self.prior)

    def evaluate(self, weights: Mapping[str, np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """Mean end-to-end latency over that of `lookahead` on the same episode."""
        return np.array([self._ratio(weights, seed) for seed in seeds])

    def _ratio(self, weights: Mapping[str, np.ndarray], seed: int) -> float:
        episode = draw(self.distribution, SeedSequence(seed))

        return _latency_s(episode, self.policy(weights)) / _reference_s(self.distribution, seed)


def _latency_s(episode: Episode, policy: Policy) -> float:
    """Total latency of the requests of an episode."""
    return simulate(Fleet(episode.workload, episode.fleet, episode.noise), policy).latency_s()


@cache
def _reference_s(distribution: EpisodeDistribution, seed: int) -> float:
    """That of `lookahead`; asked again at every evaluation."""
    return _latency_s(draw(distribution, SeedSequence(seed)), Lookahead())
