"""The environment that routers are trained in."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.random import SeedSequence

from makespan.agents.llm.cost import Account, Reference
from makespan.agents.llm.episodes import EpisodeDistribution, draw
from makespan.agents.llm.observation import BOUNDS, RouterEncoder
from makespan.agents.llm.prior import LIMIT
from makespan.baselines.llm.lookahead import LookaheadHold
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.env import LLMRouterEnv
from makespan.envs.llm.fleet import Fleet


class RouterTrainingEnv(LLMRouterEnv):
    """`LLMRouterEnv` over random fleets and workloads, with a reward that can be learned from.

    Decisions are charged what they cost (`Account`), and the reward of a step is how much less
    that was than what it cost the reference: to send the same request, and to hold requests in the
    same time; in mean latencies of the reference. The reference, `lookahead_hold`, has served the
    same workload beforehand. That keeps the objective, since its charges do not depend on the
    agent, and takes out most of the noise: long answers and bursts cost both of them.

    Args:
        distribution: what episodes are drawn from.
        prior: name of the rule whose scores are shown (`makespan.agents.llm.prior.PRIORS`).
    """

    def __init__(self, distribution: EpisodeDistribution, prior: str = "lookahead_hold") -> None:
        most = distribution.replicas[1]
        super().__init__(replicas=list(distribution.replicas), max_replicas=most, hold=True)
        self.distribution = distribution
        self.prior = prior
        assert isinstance(self.observation_space, spaces.Dict)
        boxes = {name: spaces.Box(*bound, (most,), np.float32) for name, bound in BOUNDS.items()}
        for name, size in (("queue", 2), ("prior", most + 1)):
            boxes[name] = spaces.Box(-LIMIT, LIMIT, (size,), np.float32)
        self.observation_space = spaces.Dict({**self.observation_space.spaces, **boxes})

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> Fleet:
        """A fleet and a workload drawn from the distribution; the reference has served it."""
        episode = draw(self.distribution, seed)
        reference = Fleet(episode.workload, episode.fleet, episode.noise)
        self._reference = Reference(reference, LookaheadHold())
        fleet = Fleet(episode.workload, episode.fleet, episode.noise)
        self._account = Account(fleet)
        self._saved_s = 0.0
        self._encode = RouterEncoder(self.config.max_replicas, self.prior)  # rules remember fleets
        return fleet

    def score(self) -> float:
        time_s = self.simulation.clock.now
        start_s, held = self._account.held_line()
        held_s = start_s + held * time_s
        saved_s = self._saved_s + self._reference.held_s(self._horizon(time_s)) - held_s
        return saved_s * len(self.simulation.workload) / self._reference.latency_s

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """As of any environment; the cost is told before the decision is carried out."""
        decision = self.decision
        if decision is not None and 0 <= action < len(self.mask):
            legal = self.mask[action]
            answer = self.answer(decision, int(action)) if legal else self.fallback(decision)
            self._charge(decision, answer)
        return super().step(action)

    def encode(self, decision: RoutingDecision) -> dict[str, np.ndarray]:
        return self._encode.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self._encode.padding(self.mask)

    def _charge(self, decision: RoutingDecision, action: int) -> None:
        request, account = decision.request, self._account
        before_s = account.sent_s.item(request.index)
        account.charge(decision, action)
        sent = action < decision.replicas
        reference_s = self._reference.sent_s.item(request.index) if sent else 0.0
        if request.attempt > 0:  # told when it was sent for the first time
            reference_s = 0.0
        self._saved_s += reference_s - (account.sent_s.item(request.index) - before_s)

    def _horizon(self, time_s: float) -> float:
        """Until when the reference is charged: in the end, for all that it held."""
        return math.inf if self.decision is None else time_s
