"""How much a request would disturb those on a replica (section 4.2 of the paper, "mixing")."""

import numpy as np

from makespan.agents.llm.guided.survey import Survey
from makespan.baselines.llm.research import decode_token_seconds, prompt_token_seconds
from makespan.envs.llm.decision import RoutingDecision

ALPHA = 0.5
"""Weight of the prompt's part (published)."""

HEAVY_PROMPT_S = 0.5
"""Step time from which a prompt does harm (published: a prompt is heavy from 0.5 s)."""


class Mixing:
    """r_mixing of every action: alpha * r_p + (1 - alpha) * r_d; higher is better.

    r_p in [-1, 0] is the harm to those who decode: with T = grad1 * prompt + grad2 * tokens in
    decode on the replica, 0 up to 0.5 s and 0.5 / T - 1 beyond. r_d in (-1, 1) is the crowding of
    decodes: (1 - x) / (1 + x) for the `Survey.load_with` x. The gradients follow from
    each replica's step-time model (the paper profiles its V100).

    The paper prints its penalties as images; their inputs, ranges and directions are kept. Unlike
    in `makespan.baselines.llm.research.MixingImpact`, r_d tells overloaded replicas apart: the
    paper's fleet is overloaded, and 1 - 2 min(x, 1) is -1 on all of them.

    Holding disturbs nobody: 0.
    """

    def __init__(self) -> None:
        self._gradients: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, decision: RoutingDecision, seen: Survey) -> np.ndarray:
        """float64 (N + 1,): for every replica, and for holding."""
        if self._gradients is None:
            self._gradients = prompt_token_seconds(decision), decode_token_seconds(decision)
        grad1, grad2 = self._gradients
        seconds = grad1 * seen.own_prompt + grad2 * decision.decode_tokens
        prompt = np.minimum(HEAVY_PROMPT_S / seconds - 1, 0)
        load = seen.load_with
        decode = (1 - load) / (1 + load)
        return np.append(ALPHA * prompt + (1 - ALPHA) * decode, 0.0)


def guidance(impacts: np.ndarray, action: int, mask: np.ndarray) -> float:
    """h(s, a) = r_mixing(a) - r_mixing(best legal action): 0 for the best, else negative."""
    return float(impacts[action] - impacts[: len(mask)][mask].max())
