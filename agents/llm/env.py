"""The environment that routers are trained in."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.random import SeedSequence

from makespan.agents.llm.cost import Ledger, TrueCost
from makespan.agents.llm.episodes import EpisodeDistribution, draw
from makespan.agents.llm.observation import BOUNDS, RouterEncoder
from makespan.baselines.llm.lookahead import Lookahead
from makespan.envs.core.contract import simulate
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.env import LLMRouterEnv
from makespan.envs.llm.fleet import Fleet


class RouterTrainingEnv(LLMRouterEnv):
    """`LLMRouterEnv` over random fleets and workloads, with a reward that can be learned from.

    The reward of a decision is what the reference's decision on the same request cost minus what
    this one costs (`TrueCost`), in mean latencies of the reference. The reference, `lookahead`, has
    served the same workload beforehand. That keeps the objective, since its costs do not depend on
    the agent, and takes out most of the noise: a long answer is as long for both.

    Args:
        distribution: what episodes are drawn from.
        prior: name of the rule whose scores are shown (`makespan.agents.llm.prior.PRIORS`).
    """

    def __init__(self, distribution: EpisodeDistribution, prior: str = "lookahead") -> None:
        most = distribution.replicas[1]
        super().__init__(replicas=list(distribution.replicas), max_replicas=most)
        self.distribution = distribution
        self.prior = prior
        assert isinstance(self.observation_space, spaces.Dict)
        boxes = {name: spaces.Box(*bound, (most,), np.float32) for name, bound in BOUNDS.items()}
        self.observation_space = spaces.Dict({**self.observation_space.spaces, **boxes})

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> Fleet:
        """A fleet and a workload drawn from the distribution; the reference has served it."""
        episode = draw(self.distribution, seed)
        reference = Fleet(episode.workload, episode.fleet, episode.noise)
        ledger = Ledger(reference, Lookahead())
        simulate(reference, ledger)
        self._reference_s = ledger.seconds
        self._unit_s = reference.latency_s() / len(episode.workload)
        self._saved = 0.0
        fleet = Fleet(episode.workload, episode.fleet, episode.noise)
        self._cost = TrueCost(fleet)
        self._encode = RouterEncoder(self.config.max_replicas, self.prior)  # rules remember fleets
        return fleet

    def score(self) -> float:
        return self._saved

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """As of any environment; the cost is told before the decision is carried out."""
        if self.decision is not None and self.mask[action]:
            self._saved += self._saving(self.decision, int(action))
        return super().step(action)

    def encode(self, decision: RoutingDecision) -> dict[str, np.ndarray]:
        return self._encode.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self._encode.padding(self.mask)

    def _saving(self, decision: RoutingDecision, replica: int) -> float:
        request = decision.request
        reference_s = self._reference_s.item(request.index) if request.attempt == 0 else 0.0
        return (reference_s - self._cost(decision, replica)) / self._unit_s
