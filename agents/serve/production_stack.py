"""Policies inside vLLM's production-stack, as a class for its `routing_logic.py`.

production-stack has no place to plug a router in: its source names every class. Put this into
`vllm_router/routers/routing_logic.py`, and make one where `initialize_routing_logic` makes others:

    from makespan.agents.serve.production_stack import ProductionStackRouting

    class MakespanRouter(ProductionStackRouting, SessionRouter):
        pass

        router = MakespanRouter(policy="lmetric")

The base class decides what it is told. As a `SessionRouter` it gets the body of the request, which
prompts and prefixes are read from; as a plain `RoutingInterface` it does not.

What production-stack tells is less than what a proxy sees (`makespan serve` is one). There is no
call when an answer begins, grows or ends. So decisions come from the counts that it keeps and not
from a `LiveFleet`, and their fields are worth:

- `requests`, `decoding`: its counts per endpoint, exact but for one thing: a request whose client
  left or whose backend failed is never taken off them again.
- `prefix_tokens`: of the prompts that this object sent there, as in `makespan serve`; but a server
  that starts again at the same URL is not noticed (`added_timestamp` changes with every watch).
- `prefill_tokens`, `decode_tokens`, `in_flight`: the last requests that were sent there, as many as
  the counts say. Servers are taken to begin and to finish in the order of sending, and streamed
  tokens count as one for each request, since nothing tells how many there are.
- gauges: its scrape. Their age is counted from the first decision that saw them, so they are older
  than it says. A usage of 0 is unknown: the metric that it looks for is no longer in vLLM.
- `step_time`, `engines`, `block_size`, `kv_blocks`: of the hardware that was named, for all.
- absent: `recent` is empty, `predicted_tokens` is nan, `attempt` is 0; nothing can be held.

Interface: production-stack a6c01db0, `src/vllm_router/routers/routing_logic.py`, `stats/`,
`service_discovery.py` and `services/request_service/request.py`, which calls with four arguments
or awaits a call with five, by the class of the router.
"""

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from makespan.agents.llm.named import named, only_size
from makespan.agents.serve.choose import choose
from makespan.agents.serve.prefix_index import PrefixIndex, PrefixIndexes
from makespan.agents.serve.prompt import (
    BYTES_PER_TOKEN,
    READERS,
    BadRequest,
    Prompt,
    TokenCounter,
    read_prompt,
)
from makespan.agents.serve.view import INDEX_BLOCKS
from makespan.envs.llm.config import ReplicaConfig
from makespan.envs.llm.decision import IN_FLIGHT, RECENT, Gauges, RequestView, RoutingDecision
from makespan.envs.llm.replica import resolve, step_time
from makespan.traces.workload import HASH_BLOCK_TOKENS

BY_ANSWERS = "aibrix_least_latency"
"""The rule that knows nothing without `recent`, and would send all to the first endpoint."""

FORGET_AFTER_S = 3600.0
"""An endpoint that no request could have gone to for so long is gone."""

MOST_SENT = 1024
"""Requests that are remembered per endpoint: the counts of production-stack may grow for ever."""

ANY_ENDPOINT = "/v1/completions"
"""Read as this is what has no reader, since of that only headers count."""


class EndpointInfo(Protocol):
    """What is read of production-stack's class of that name (`service_discovery.py`)."""

    url: str


class EngineStats(Protocol):
    """What is read of production-stack's class of that name (`stats/engine_stats.py`)."""

    num_running_requests: int
    num_queuing_requests: int
    gpu_cache_usage_perc: float


class RequestStats(Protocol):
    """What is read of production-stack's class of that name (`stats/request_stats.py`)."""

    in_prefill_requests: int
    in_decoding_requests: int


class Url(str):
    """A URL that may be awaited, since one caller awaits the answer and another does not."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, str]:
        yield from ()
        return str(self)


class _Sent(NamedTuple):
    index: int
    sent_s: float
    prompt_tokens: int
    uncached_tokens: int


class _Endpoint:
    """An endpoint, what was sent there, and what production-stack said of it last."""

    def __init__(self) -> None:
        self.index = PrefixIndex(INDEX_BLOCKS)
        self.listed_s = nan
        self.in_prefill = self.in_decoding = 0
        self.stats: EngineStats | None = None
        self._stats_since_s = nan
        self._sent: list[_Sent] = []

    def look(self, stats: EngineStats | None, counts: RequestStats | None, now: float) -> None:
        """Take over what production-stack says; None: nothing, as before the first request."""
        if stats is not self.stats:
            self.stats, self._stats_since_s = stats, now
        self.in_prefill = counts.in_prefill_requests if counts else 0
        self.in_decoding = counts.in_decoding_requests if counts else 0
        excess = len(self._sent) - min(self.in_prefill + self.in_decoding, MOST_SENT)
        del self._sent[: max(excess, 0)]

    def send(self, request: RequestView, now: float) -> None:
        """Note that the request goes there."""
        matched = self.index.remember(request.prefix_hashes) if len(request.prefix_hashes) else 0
        uncached = max(1, request.prompt_tokens - matched)
        self._sent.append(_Sent(request.index, now, request.prompt_tokens, uncached))

    @property
    def _oldest_in_prefill(self) -> int:
        return max(len(self._sent) - self.in_prefill, 0)

    def prefill_tokens(self) -> int:
        return sum(sent.uncached_tokens for sent in self._sent[self._oldest_in_prefill :])

    def decode_tokens(self) -> int:
        return sum(sent.prompt_tokens + 1 for sent in self._sent[: self._oldest_in_prefill])

    def in_flight(self) -> np.ndarray:
        """Rows of `IN_FLIGHT`."""
        first = self._oldest_in_prefill
        rows = [(*sent, int(place < first), nan) for place, sent in enumerate(self._sent)]
        return np.array(rows, IN_FLIGHT)

    def gauges(self, now: float) -> tuple[float, float, float, float]:
        """Running, waiting, usage and age."""
        stats = self.stats
        if stats is None:
            return nan, nan, nan, nan
        usage = stats.gpu_cache_usage_perc or nan
        age_s = now - self._stats_since_s
        return stats.num_running_requests, stats.num_queuing_requests, usage, age_s


class _Fleet:
    """Endpoints as a `Router` of `makespan.envs.llm.decision`.

    Args:
        endpoints: by the numbers that decisions use.
        config: of each, resolved.
    """

    held = 0

    def __init__(self, endpoints: Sequence[_Endpoint], config: ReplicaConfig) -> None:
        self._endpoints = list(endpoints)
        self._indexes = PrefixIndexes([endpoint.index for endpoint in endpoints])
        self._now = nan
        self.step_time = [step_time(config)] * len(endpoints)
        self.engines = [config.engine] * len(endpoints)
        self.block_size = np.full(len(endpoints), config.engine.block_size, np.int64)
        self.kv_blocks = np.full(len(endpoints), config.engine.kv_blocks, np.int64)
        self.look(nan)

    def look(self, now: float) -> None:
        """Make the columns of the next decision."""
        self._now = now
        prefill = np.array([endpoint.in_prefill for endpoint in self._endpoints], np.int64)
        self.decoding = np.array([endpoint.in_decoding for endpoint in self._endpoints], np.int64)
        self.requests = prefill + self.decoding
        tokens = [endpoint.prefill_tokens() for endpoint in self._endpoints]
        self.prefill_tokens = np.array(tokens, np.int64)

    def decode_tokens(self) -> np.ndarray:
        return np.array([endpoint.decode_tokens() for endpoint in self._endpoints], np.int64)

    def gauges(self) -> Gauges:
        gauges = [endpoint.gauges(self._now) for endpoint in self._endpoints]
        return Gauges(*np.array(gauges, np.float64).reshape(-1, 4).T)

    def prefix_tokens(self, request: RequestView) -> np.ndarray:
        return self._indexes.matched_tokens(request.prefix_hashes)

    def in_flight(self, replica: int) -> np.ndarray:
        return self._endpoints[replica].in_flight()

    def recent(self, replica: int) -> np.ndarray:
        return np.zeros(0, RECENT)


class ProductionStackRouting:
    """Has a policy choose among the endpoints of production-stack.

    Endpoints may come and go, and requests for different models may have different ones: those that
    are not listed for a request are down for it. The policy is made anew when an endpoint comes
    that is new, or when one is forgotten.

    Args:
        policy: a name as for `makespan.agents.serve.choose`.
        replica: what all endpoints run on; only some policies look at it.
        session_key: header, or field of the body, that names the session.
        tokenizer: a `tokenizer.json`; None: tokens are estimated from the length of the text.
        clock: seconds.

    Attributes:
        session_key: as given; production-stack reads it.

    Raises:
        ValueError: there is no such policy or hardware, or the policy goes by how earlier requests
            were answered, which production-stack does not say.
    """

    def __init__(
        self,
        policy: str = "lmetric",
        replica: ReplicaConfig | None = None,
        session_key: str = "x-session-id",
        tokenizer: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if policy.startswith(BY_ANSWERS):
            raise ValueError(f"{policy} goes by past answers, which production-stack does not show")
        if (size := only_size(policy)) is not None:
            raise ValueError(f"{policy} routes for {size} backends only; here they come and go")
        self.session_key = session_key
        self._make_policy = named(policy)
        self._config = resolve(replica or ReplicaConfig())
        self._counter = TokenCounter(tokenizer)
        self._clock = clock
        self._asked = 0
        self._known: dict[str, _Endpoint] = {}
        self._meet()

    def route_request(
        self,
        endpoints: Sequence[EndpointInfo],
        engine_stats: Mapping[str, EngineStats],
        request_stats: Mapping[str, RequestStats],
        request: Any,
        request_json: Mapping[str, Any] | None = None,
    ) -> Url:
        """The URL of the endpoint that gets the request.

        Args:
            endpoints: those that have the model.
            engine_stats: URL -> last scrape; may lack any.
            request_stats: URL -> counts; lacks those that never had a request.
            request: of starlette; its path and headers are read.
            request_json: its body; without one, nothing is known but its length.

        Raises:
            ValueError: there are no endpoints.
        """
        if not endpoints:
            raise ValueError("there is no endpoint to choose from")
        now = self._clock()
        self._list(endpoints, now)
        for url, endpoint in self._known.items():
            endpoint.look(engine_stats.get(url), request_stats.get(url), now)
        self._fleet.look(now)
        listed = {info.url for info in endpoints}
        mask = np.array([url in listed for url in self._known], np.bool_)
        view = self._view(self._prompt(request, request_json or {}))
        action = choose(RoutingDecision(now, view, mask, self._fleet), self._policy)
        url = list(self._known)[action]
        self._known[url].send(view, now)
        return Url(url)

    def _list(self, endpoints: Sequence[EndpointInfo], now: float) -> None:
        """Meet the endpoints that are new, and forget those that are gone."""
        known = self._known
        new = {info.url: _Endpoint() for info in endpoints if info.url not in known}
        known |= new
        for info in endpoints:
            known[info.url].listed_s = now
        gone = [url for url, end in known.items() if now - end.listed_s > FORGET_AFTER_S]
        for url in gone:
            del known[url]
        if new or gone:
            self._meet()

    def _meet(self) -> None:
        self._fleet = _Fleet(list(self._known.values()), self._config)
        self._policy = self._make_policy(0)

    def _prompt(self, request: Any, body: Mapping[str, Any]) -> Prompt:
        """What can be read of the request."""
        headers = request.headers
        session = headers.get(self.session_key) or body.get(self.session_key) or ""
        known = {"x-session-id": str(session), "x-slo-class": headers.get("x-slo-class") or ""}
        path = request.url.path
        if body and path in READERS:
            try:
                return read_prompt(path, json.dumps(body).encode(), known, self._counter)
            except (BadRequest, RecursionError):  # for the backend to judge
                pass
        prompt = read_prompt(ANY_ENDPOINT, b"{}", known, self._counter)
        length = headers.get("content-length") or ""
        tokens = int(length) // BYTES_PER_TOKEN if length.isdecimal() else 0
        return replace(prompt, prompt_tokens=max(tokens, 1))

    def _view(self, prompt: Prompt) -> RequestView:
        self._asked += 1
        return RequestView(
            index=self._asked - 1,
            prompt_tokens=prompt.prompt_tokens,
            prefix_hashes=prompt.prefix_hashes[: prompt.prompt_tokens // HASH_BLOCK_TOKENS],
            session=prompt.session,
            priority=prompt.priority,
            slo_class=prompt.slo_class,
            predicted_tokens=nan,
            attempt=0,
        )
