"""What a decision costs, told by someone who knows how long every answer will be."""

import numpy as np

from makespan.baselines.llm.lookahead import added_seconds, profiles
from makespan.envs.core.contract import Policy
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.fleet import Fleet


class TrueCost:
    """Seconds that sending the request to a replica adds to the total latency, as things stand.

    The simulation of `lookahead`, fed with the true lengths of the answers: what the router cannot
    know but a simulator does. Summed over the decisions of a run it is the total latency, as far
    as that simulation goes (it knows no preemption and no failures), and it is told at once, where
    the latencies themselves come in hundreds of decisions later.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._output = fleet.workload.output_tokens
        self._profiles: list[tuple[np.ndarray, int, int, int]] = []

    def __call__(self, decision: RoutingDecision, replica: int) -> float:
        self._profiles = self._profiles or profiles(decision)
        model, *limits = self._profiles[replica]
        request = decision.request
        rows = decision.in_flight(replica)
        rows["predicted_tokens"] = self._output[rows["request"]]
        return added_seconds(
            model,
            rows,
            request.prompt_tokens,
            max(request.prompt_tokens - decision.prefix_tokens.item(replica), 1),
            self._output.item(request.index),
            1.0,
            *limits,
        )


class Ledger:
    """A policy that notes what the decisions of another cost.

    Attributes:
        seconds: float64 (requests,), the cost of sending each request for the first time.
    """

    def __init__(self, fleet: Fleet, policy: Policy) -> None:
        self._policy = policy
        self._cost = TrueCost(fleet)
        self.seconds = np.zeros(len(fleet.workload))

    def __call__(self, decision: RoutingDecision) -> int:
        replica = self._policy(decision)
        request = decision.request
        if request.attempt == 0 and replica < decision.replicas:
            self.seconds[request.index] = self._cost(decision, replica)
        return replica
