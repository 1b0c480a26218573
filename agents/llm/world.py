"""The LLM serving world, as the trainer sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.random import SeedSequence

from makespan.agents.graph.declaration import GraphDeclaration
from makespan.agents.llm.env import RouterTrainingEnv
from makespan.agents.llm.episodes import EpisodeDistribution, draw
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
        prior: rule whose scores the agent corrects: `lookahead`, `lmetric` or `none`.
        distribution: what episodes are drawn from.
    """

    name: ClassVar[str] = "llm_router"
    observation_version: ClassVar[int] = VERSION
    graph: ClassVar[GraphDeclaration] = GRAPH

    prior: str = "lookahead"
    distribution: EpisodeDistribution = field(default_factory=EpisodeDistribution)

    def __post_init__(self) -> None:
        if self.prior not in PRIORS:
            raise unknown_name("prior", self.prior, PRIORS)

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

        def latency_s(policy: Policy) -> float:
            fleet = Fleet(episode.workload, episode.fleet, episode.noise)
            return simulate(fleet, policy).latency_s()

        return latency_s(self.policy(weights)) / latency_s(Lookahead())
