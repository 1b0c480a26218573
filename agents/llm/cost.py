"""What a decision costs, told by someone who knows how long every answer will be."""

import math
from bisect import bisect_right

import numpy as np

from makespan.baselines.llm.lookahead import added_seconds, profiles
from makespan.envs.core.contract import Policy, simulate
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


class Account:
    """What the decisions of a router have cost so far.

    Sending a request is charged its `TrueCost`, and time is charged for every request that the
    router holds. When all is done, both sum to the total latency, as far as true costs go.

    Attributes:
        sent_s: float64 (requests,), seconds charged for sending each request, however often.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._cost = TrueCost(fleet)
        self._held_since: dict[int, float] = {}
        self._was_held_s = 0.0
        self.sent_s = np.zeros(len(fleet.workload))

    def charge(self, decision: RoutingDecision, action: int) -> None:
        """Enter a decision, before it is carried out."""
        request = decision.request.index
        if action == decision.replicas:
            self._held_since.setdefault(request, decision.time)
            return
        self._was_held_s += decision.time - self._held_since.pop(request, decision.time)
        self.sent_s[request] += self._cost(decision, action)

    def held_line(self) -> tuple[float, int]:
        """Seconds charged for holding by a time t, until the next decision: first + second * t."""
        return self._was_held_s - sum(self._held_since.values()), len(self._held_since)


class Reference:
    """Serves a fleet with a policy, and remembers what its decisions cost.

    Attributes:
        sent_s: as in `Account`.
        latency_s: total latency.
    """

    def __init__(self, fleet: Fleet, policy: Policy) -> None:
        self._policy = policy
        self._account = Account(fleet)
        self._times_s: list[float] = [-math.inf]
        self._held_lines: list[tuple[float, int]] = [(0.0, 0)]
        simulate(fleet, self._decide)
        self.sent_s = self._account.sent_s
        self.latency_s = fleet.latency_s()

    def _decide(self, decision: RoutingDecision) -> int:
        action = self._policy(decision)
        self._account.charge(decision, action)
        self._times_s.append(decision.time)
        self._held_lines.append(self._account.held_line())
        return action

    def held_s(self, time_s: float) -> float:
        """Seconds charged for holding by then."""
        start_s, held = self._held_lines[bisect_right(self._times_s, time_s) - 1]
        return start_s + held * time_s if held else start_s
