"""What a router can see when a request arrives: the decision of the LLM serving world.

Two kinds of knowledge meet here. The router's *own accounting* (what it sent and what streamed
back) is exact and immediate. *Polled gauges* come from each engine's `/metrics` and are stale: they
have an age, may be missing, and may be stuck. Nothing else is visible: no true output length, no
future arrival, no engine internals that vLLM does not export.

Arrays are views of live state, valid until the decision is answered; a policy must not keep them
or write to them. Shapes use N = number of replicas.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

IN_FLIGHT = np.dtype(
    [
        ("request", np.int64),  # index of the request
        ("sent_s", np.float64),  # when the router sent it
        ("prompt_tokens", np.int64),
        ("uncached_tokens", np.int64),  # prompt tokens the router expects to be computed
        ("streamed_tokens", np.int64),  # output tokens received so far
        ("predicted_tokens", np.float64),  # predicted output tokens in all; nan: no prediction
    ]
)
"""One row per request that a replica holds, in the order in which they were sent."""

RECENT = np.dtype(
    [
        ("uncached_tokens", np.int64),  # prompt tokens the router expected to be computed
        ("queued_tokens", np.int64),  # uncached tokens ahead of it on that replica when it was sent
        ("prompt_tokens", np.int64),
        ("ttft_s", np.float64),  # from sending to the first token
        ("output_tokens", np.int64),
        ("tpot_s", np.float64),  # seconds per token after the first; nan for one-token answers
    ]
)
"""One row per finished request of a replica, oldest first, the last 64 at most."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """The request to be routed, as a proxy sees it.

    Attributes:
        index: position in the workload; unique, and stable across retries.
        prompt_tokens: length of the prompt.
        prefix_hashes: int64 array, one chained hash per full 16-token block of the prompt;
            empty when the prompt shares nothing.
        session: session id, or -1.
        priority: lower is more urgent, as in vLLM.
        slo_class: name of the service class.
        predicted_tokens: predicted output length in tokens; nan without a predictor.
        attempt: 0, or how many times the request was already sent to a replica that failed.
    """

    index: int
    prompt_tokens: int
    prefix_hashes: np.ndarray
    session: int
    priority: int
    slo_class: str
    predicted_tokens: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """The last scrape of every replica; float64 arrays of shape (N,), nan before the first scrape.

    Attributes:
        running: requests in the running batch (`vllm:num_requests_running`).
        waiting: requests in the engine's queue (`vllm:num_requests_waiting`).
        kv_usage: fraction of KV blocks in use, 0 to 1 (`vllm:kv_cache_usage_perc`).
        age_s: seconds since the values were true, as far as the router can tell.
    """

    running: np.ndarray
    waiting: np.ndarray
    kv_usage: np.ndarray
    age_s: np.ndarray


class Router(Protocol):
    """Where a `RoutingDecision` gets its columns; the fleet is one, a live proxy is another."""

    requests: np.ndarray  # int64 (N,): requests sent and not finished
    prefill_tokens: np.ndarray  # int64 (N,): uncached prompt tokens of those without a first token
    decoding: np.ndarray  # int64 (N,): requests in flight that have their first token
    block_size: np.ndarray  # int64 (N,): tokens per KV block
    kv_blocks: np.ndarray  # int64 (N,): KV blocks of the replica (`vllm:cache_config_info`)
    step_time: list  # N step-time models (`makespan.envs.llm.step_time`)
    engines: list  # N `EngineConfig`s (`makespan.envs.llm.config`)

    @property
    def held(self) -> int: ...
    def decode_tokens(self) -> np.ndarray: ...
    def gauges(self) -> Gauges: ...
    def prefix_tokens(self, request: RequestView) -> np.ndarray: ...
    def in_flight(self, replica: int) -> np.ndarray: ...
    def recent(self, replica: int) -> np.ndarray: ...


class RoutingDecision:
    """One request, N replicas: choose a replica, or hold where the fleet allows it.

    The actions are 0..N-1 for the replicas and, if `can_hold`, N to keep the request in the
    router until something finishes.

    Attributes:
        time: seconds on the clock.
        request: the request to be routed.
        action_mask: bool (N,) or (N + 1,); False for replicas that are down. Never all False.
    """

    __slots__ = ("_router", "action_mask", "request", "time")

    def __init__(
        self, time: float, request: RequestView, action_mask: np.ndarray, router: Router
    ) -> None:
        self.time = time
        self.request = request
        self.action_mask = action_mask
        self._router = router

    @property
    def replicas(self) -> int:
        """Number of replicas, N."""
        return len(self._router.requests)

    @property
    def can_hold(self) -> bool:
        """Whether action N, holding the request, exists."""
        return len(self.action_mask) > self.replicas

    @property
    def healthy(self) -> np.ndarray:
        """bool (N,): replicas that may be chosen."""
        return self.action_mask[: self.replicas]

    @property
    def all_healthy(self) -> bool:
        """Whether every replica may be chosen."""
        return bool(self.healthy.all())

    @property
    def held(self) -> int:
        """Requests that the router holds, without this one."""
        return self._router.held

    @property
    def requests(self) -> np.ndarray:
        """int64 (N,): requests in flight, by the router's own count."""
        return self._router.requests

    @property
    def prefill_tokens(self) -> np.ndarray:
        """int64 (N,): uncached prompt tokens in flight whose first token has not come back."""
        return self._router.prefill_tokens

    @property
    def decoding(self) -> np.ndarray:
        """int64 (N,): requests in flight that are streaming."""
        return self._router.decoding

    @property
    def decode_tokens(self) -> np.ndarray:
        """int64 (N,): prompt and streamed tokens of the requests that are streaming."""
        return self._router.decode_tokens()

    @property
    def gauges(self) -> Gauges:
        """The polled, stale gauges."""
        return self._router.gauges()

    @property
    def prefix_tokens(self) -> np.ndarray:
        """int64 (N,): tokens of this prompt that the prefix index expects on each replica."""
        return self._router.prefix_tokens(self.request)

    @property
    def block_size(self) -> np.ndarray:
        """int64 (N,): tokens per KV block."""
        return self._router.block_size

    @property
    def kv_blocks(self) -> np.ndarray:
        """int64 (N,): KV blocks."""
        return self._router.kv_blocks

    @property
    def step_time(self) -> list:
        """Step-time model of each replica (known from its hardware profile, not measured live)."""
        return self._router.step_time

    @property
    def engines(self) -> list:
        """Engine configuration of each replica."""
        return self._router.engines

    def in_flight(self, replica: int) -> np.ndarray:
        """Rows of `IN_FLIGHT`: what the router sent to `replica` and has not seen finish."""
        return self._router.in_flight(replica)

    def recent(self, replica: int) -> np.ndarray:
        """Rows of `RECENT`: the last finished requests of `replica`."""
        return self._router.recent(replica)

    def lowest(self, scores: np.ndarray) -> int:
        """The healthy replica with the lowest score; the first of equals.

        Args:
            scores: shape (N,). If no replica is healthy the answer is to hold.
        """
        if self.all_healthy:
            return int(scores.argmin())
        healthy = self.healthy
        if not healthy.any():
            return self.replicas
        return int(np.where(healthy, scores, np.inf).argmin())
