"""What the router knows of the requests that it sent: the source of state, impact and reward."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from makespan.baselines.llm.research import MEAN_OUTPUT_TOKENS
from makespan.envs.llm.decision import RoutingDecision


@dataclass(frozen=True)
class Survey:
    """Requests in flight on N replicas, one entry each, and the request to be routed.

    Attributes:
        replica: int64 (requests,), where each is.
        prompt: int64 (requests,), prompt tokens.
        output: float64 (requests,), expected output tokens, at least what has streamed back.
        streamed: int64 (requests,), output tokens received.
        capacity: int64 (N,), tokens that fit each KV cache.
        own_prompt, own_output: of the request to be routed.
        held: requests in the router, with that one.
    """

    replica: np.ndarray
    prompt: np.ndarray
    output: np.ndarray
    streamed: np.ndarray
    capacity: np.ndarray
    own_prompt: int
    own_output: float
    held: int

    def per_replica(self, values: np.ndarray) -> np.ndarray:
        """float64 (N,): sums of `values`, which has an entry per request in flight."""
        return np.bincount(self.replica, values, len(self.capacity))

    @property
    def load(self) -> np.ndarray:
        """float64 (N,): KV cache that the requests in flight take on average, over capacity.

        A request holds its prompt and, over its life, half of its output. More than 1 where they
        cannot all be in the cache at once.
        """
        return self.per_replica(footprint(self.prompt, self.output)) / self.capacity

    @property
    def load_with(self) -> np.ndarray:
        """float64 (N,): `load` if the request to be routed were there."""
        return self.load + footprint(self.own_prompt, self.own_output) / self.capacity

    @property
    def unfinished(self) -> float:
        """Requests in the router and in flight, less the fraction that is done of each."""
        return self.held + float((1 - self.streamed / self.output).sum())


def footprint(prompt: Any, output: Any) -> Any:
    """Tokens that a request holds on average over its life."""
    return prompt + output / 2


def survey(decision: RoutingDecision, lengths: bool) -> Survey:
    """Look at a decision.

    Args:
        lengths: use predicted output lengths. Without, and where there is no prediction, an output
            counts as 175.71 tokens, the mean of the paper's Table 1.
    """
    rows = [decision.in_flight(replica) for replica in range(decision.replicas)]
    # Field by field: NumPy compares the fields of records before it joins them, which takes longer.
    prompt, streamed, predicted = (
        np.concatenate([part[name] for part in rows])
        for name in ("prompt_tokens", "streamed_tokens", "predicted_tokens")
    )
    request = decision.request
    return Survey(
        replica=np.repeat(np.arange(len(rows)), [len(part) for part in rows]),
        prompt=prompt,
        output=np.maximum(np.maximum(_expected(predicted, lengths), streamed), 1.0),
        streamed=streamed,
        capacity=(decision.kv_blocks - 1) * decision.block_size,
        own_prompt=request.prompt_tokens,
        own_output=float(_expected(np.array(request.predicted_tokens), lengths)),
        held=decision.held + 1,
    )


def _expected(predicted: np.ndarray, lengths: bool) -> np.ndarray:
    if not lengths:
        return np.full_like(predicted, MEAN_OUTPUT_TOKENS)
    return np.where(np.isnan(predicted), MEAN_OUTPUT_TOKENS, predicted)
