"""Rules that an agent builds on: it corrects their scores, so untrained it does what they do."""

from collections.abc import Callable

import numpy as np

from makespan.baselines.llm.lookahead import Lookahead
from makespan.baselines.llm.research import lmetric_scores
from makespan.envs.core.registry import unknown_name
from makespan.envs.llm.decision import RoutingDecision

Costs = Callable[[RoutingDecision], np.ndarray]
"""float64 (N,), lowest is best, not negative; inf for replicas that are down."""

PRIORS: dict[str, Callable[[], Costs]] = {
    "lookahead": lambda: Lookahead().added_seconds,
    "lmetric": lambda: lmetric_scores,
    "none": lambda: lambda decision: np.ones(decision.replicas),
}
"""Name of a rule -> a fresh one, as the costs that it minimises; `none` finds all alike."""

LIMIT = 10.0
"""Bound of what is shown, either way."""


class Prior:
    """Shows an agent what a rule thinks of each replica.

    Raises:
        ValueError: the name is not in `PRIORS`.
    """

    def __init__(self, name: str) -> None:
        if name not in PRIORS:
            raise unknown_name("prior", name, PRIORS)
        self._costs = PRIORS[name]()

    def show(self, decision: RoutingDecision) -> tuple[np.ndarray, np.ndarray]:
        """float32 (N,) twice: how much worse than the best, and the cost itself.

        The first is -log(cost / lowest cost), in [-10, 0]: 0 for the rule's choice and for no
        replica that costs more. The second is log1p(cost), at most 10.
        """
        costs = self._costs(decision)
        lowest = max(float(np.where(decision.healthy, costs, np.inf).min()), 1e-9)
        # log1p of the excess: next to the best, the logarithm of a quotient loses its digits.
        behind = -np.log1p(np.maximum(costs - lowest, 0) / lowest)
        shown = np.clip(behind, -LIMIT, 0), np.minimum(np.log1p(costs), LIMIT)
        return shown[0].astype(np.float32), shown[1].astype(np.float32)
