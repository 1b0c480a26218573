"""Rules that an agent builds on: it corrects their scores, so untrained it does what they do."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from makespan.baselines.llm.lookahead import LookaheadHold
from makespan.baselines.llm.research import lmetric_scores
from makespan.envs.core.registry import unknown_name
from makespan.envs.llm.decision import RoutingDecision

PRIORS = ("lookahead_hold", "lookahead", "lmetric", "none")
"""Rules by name; `none` finds all actions alike."""

LIMIT = 10.0
"""Bound of what is shown, either way."""

HOLD_SLOPE = 0.02
"""Score of holding per e-fold of the backlog: at a trust of 100, a backlog of half the limit leaves
one hold in five, so that training sees what holding does on either side of the limit."""

SHORTEST_BACKLOG_S = 1e-3
"""Backlogs below this count as this."""


@dataclass(frozen=True)
class Opinion:
    """What a rule thinks of a decision among N replicas.

    Attributes:
        behind: float32 (N,), -log(cost / lowest cost), in [-10, 0]: 0 for the rule's choice and
            for no replica that costs more.
        cost: float32 (N,), log1p of the cost itself, at most 10.
        backlog: float32 (N,), logarithm of the seconds of prompts queued, over the rule's limit,
            in [-10, 10].
        hold: score of holding the request, on the scale of `behind`; above 0 the rule holds.
    """

    behind: np.ndarray
    cost: np.ndarray
    backlog: np.ndarray
    hold: float


class Prior:
    """Tells an agent what a rule thinks of each replica, and of holding the request.

    Raises:
        ValueError: the name is not in `PRIORS`.
    """

    def __init__(self, name: str) -> None:
        if name not in PRIORS:
            raise unknown_name("prior", name, PRIORS)
        self._name = name
        self._rule = LookaheadHold()
        self._costs: Callable[[RoutingDecision], np.ndarray] = {
            "lmetric": lmetric_scores,
            "none": lambda decision: np.ones(decision.replicas),
        }.get(name, self._rule.added_seconds)

    def opinion(self, decision: RoutingDecision) -> Opinion:
        """What the rule thinks; costs of replicas that are down are as high as can be shown."""
        costs = np.where(decision.healthy, self._costs(decision), np.inf)
        lowest = max(float(costs.min()), 1e-9)
        if math.isinf(lowest):  # nobody is up
            lowest = 1.0
        # log1p of the excess: next to the best, the logarithm of a quotient loses its digits.
        behind = np.maximum(-np.log1p(np.maximum(costs - lowest, 0) / lowest), -LIMIT)
        backlog = self._backlog(decision)
        return Opinion(
            behind.astype(np.float32),
            np.minimum(np.log1p(costs), LIMIT).astype(np.float32),
            backlog.astype(np.float32),
            self._hold(decision, costs, backlog),
        )

    def _backlog(self, decision: RoutingDecision) -> np.ndarray:
        seconds = [self._rule.backlog_s(decision, r) for r in range(decision.replicas)]
        shown = np.log(np.maximum(seconds, SHORTEST_BACKLOG_S) / self._rule.limit_s)
        return np.clip(shown, -LIMIT, LIMIT)

    def _hold(self, decision: RoutingDecision, costs: np.ndarray, backlog: np.ndarray) -> float:
        replica = decision.lowest(costs)
        if self._name == "none" or replica == decision.replicas:
            return 0.0
        if self._name != "lookahead_hold":
            return -math.inf
        return HOLD_SLOPE * backlog.item(replica)
