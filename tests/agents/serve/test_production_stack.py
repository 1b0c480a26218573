"""The routing class for production-stack, against stand-ins of the classes that it is given there.

They have the fields of a6c01db0 (`service_discovery.py`, `stats/engine_stats.py`,
`stats/request_stats.py`), and starlette's `Request` is the real one.
"""

import asyncio
from dataclasses import dataclass, field
from math import isnan
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
from starlette.requests import Request

from makespan.agents.serve.production_stack import (
    FORGET_AFTER_S,
    MOST_SENT,
    ProductionStackRouting,
)
from makespan.baselines.llm import POLICIES
from makespan.envs.llm.decision import RoutingDecision

CHAT = "/v1/chat/completions"
A, B, C = "http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://10.0.0.3:8000"


@dataclass
class EndpointInfo:
    url: str
    model_names: list[str] = field(default_factory=lambda: ["llama"])
    Id: str = ""
    added_timestamp: float = 0.0
    model_label: str = ""
    sleep: bool = False
    healthy: bool = True
    pod_name: str | None = None
    service_name: str | None = None
    namespace: str | None = None
    model_info: dict[str, Any] | None = None


@dataclass
class EngineStats:
    num_running_requests: int = 0
    num_queuing_requests: int = 0
    gpu_prefix_cache_hit_rate: float = 0.0
    gpu_prefix_cache_hits_total: int = 0
    gpu_prefix_cache_queries_total: int = 0
    gpu_cache_usage_perc: float = 0.0


@dataclass
class RequestStats:
    in_prefill_requests: int
    in_decoding_requests: int
    qps: float = 0.1
    ttft: float = -1
    finished_requests: int = 0
    uptime: int = 60
    avg_decoding_length: float = -1
    avg_latency: float = -1
    avg_itl: float = -1
    num_swapped_requests: int = 0


def request(path: str = CHAT, **headers: str) -> Request:
    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return Request(
        {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": pairs}
    )


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "llama", "messages": [{"role": "user", "content": text}], **fields}


LONG, OTHER = "the same long beginning " * 40, "another text altogether " * 40


class Stack:
    """What production-stack does around a router: its counts, its scrapes, its two ways to ask."""

    def __init__(self, *urls: str, **settings: Any) -> None:
        self.endpoints = [EndpointInfo(url) for url in urls]
        self.engines: dict[str, EngineStats] = {}
        self.counts: dict[str, RequestStats] = {}
        self.now = 100.0
        self.router = ProductionStackRouting(clock=lambda: self.now, **settings)

    def ask(self, body: dict[str, Any] | None = None, path: str = CHAT, **headers: str) -> str:
        """Awaited with a body, and not without, as there; the request is then in prefill."""
        told = (self.endpoints, self.engines, self.counts, request(path, **headers))
        if body is None:
            url = self.router.route_request(*told)
        else:
            url = asyncio.run(self._awaited(*told, body))
        self.counts.setdefault(url, RequestStats(0, 0)).in_prefill_requests += 1
        return url

    async def _awaited(self, *told: Any) -> str:
        return await self.router.route_request(*told)

    def answers(self, url: str) -> None:
        """The first piece of an answer has come."""
        self.counts[url].in_prefill_requests -= 1
        self.counts[url].in_decoding_requests += 1

    def ends(self, url: str) -> None:
        self.counts[url].in_decoding_requests -= 1


class Seen:
    """A policy that keeps what it is shown, and does as it is told."""

    def __init__(self, choice: int = 0) -> None:
        self.choice = choice
        self.shown: dict[str, Any] = {}

    def __call__(self, decision: RoutingDecision) -> int:
        names = ("requests", "prefill_tokens", "decoding", "decode_tokens", "prefix_tokens")
        self.shown = {name: getattr(decision, name).tolist() for name in names}
        gauges = decision.gauges
        for name in ("running", "waiting", "kv_usage", "age_s"):
            self.shown[name] = getattr(gauges, name).tolist()
        self.shown["rows"] = [decision.in_flight(r) for r in range(decision.replicas)]
        self.shown["recent"] = [len(decision.recent(r)) for r in range(decision.replicas)]
        self.shown["mask"] = decision.action_mask.tolist()
        self.request = decision.request
        return self.choice


def spied(*urls: str, **settings: Any) -> tuple[Stack, Seen]:
    """A stack whose policy is a `Seen`."""
    stack, seen = Stack(*urls, **settings), Seen()
    stack.router._make_policy = lambda seed: seen
    return stack, seen


@pytest.mark.parametrize("body", [None, chat("hello")], ids=["4 arguments", "5 arguments"])
def test_both_ways_of_asking_get_a_url(body: dict[str, Any] | None):
    url = Stack(A, B).ask(body)
    assert url == A
    assert f"{url}/v1/completions" == f"{A}/v1/completions"


@pytest.mark.parametrize("policy", [*sorted(set(POLICIES) - {"aibrix_least_latency"}), "agent"])
def test_every_policy_that_can_choose_uses_all_endpoints(policy: str):
    stack = Stack(A, B, policy=policy)
    sessions = (chat(f"{i} {LONG}") for i in range(24))
    chosen = {stack.ask(body, x_session_id=str(i)) for i, body in enumerate(sessions)}
    assert chosen == {A, B}


def test_a_policy_that_needs_past_answers_is_refused():
    with pytest.raises(ValueError, match="past answers"):
        ProductionStackRouting("aibrix_least_latency")


def test_an_unknown_policy_is_said():
    with pytest.raises(ValueError, match="lmetrik"):
        ProductionStackRouting("lmetrik")


def test_a_prompt_goes_where_its_beginning_went():
    stack = Stack(A, B)
    assert [stack.ask(chat(LONG)), stack.ask(chat(OTHER))] == [A, B]
    for url in (A, B):
        stack.answers(url)
        stack.ends(url)
    assert stack.ask(chat(OTHER + "and more")) == B


def test_requests_are_those_that_production_stack_counts():
    stack, seen = spied(A, B, C)
    stack.counts = {A: RequestStats(2, 3), C: RequestStats(0, 4)}
    stack.ask(chat("x"))
    assert seen.shown["requests"] == [5, 0, 4]
    assert seen.shown["decoding"] == [3, 0, 4]


def test_prompt_tokens_count_until_the_first_token_and_contexts_after_it():
    stack, seen = spied(A)
    stack.ask(chat(LONG))
    long = seen.request.prompt_tokens
    stack.ask(chat(OTHER))
    other = seen.request.prompt_tokens
    assert (seen.shown["prefill_tokens"], seen.shown["decode_tokens"]) == ([long], [0])
    stack.answers(A)
    stack.ask(chat("x"))
    assert (seen.shown["prefill_tokens"], seen.shown["decode_tokens"]) == ([other], [long + 1])
    (rows,) = seen.shown["rows"]
    assert rows["request"].tolist() == [0, 1]
    assert rows["streamed_tokens"].tolist() == [1, 0]
    assert rows["prompt_tokens"].tolist() == [long, other]
    assert np.isnan(rows["predicted_tokens"]).all()


def test_nothing_is_left_when_all_have_ended():
    stack, seen = spied(A)
    for _ in range(3):
        stack.ask(chat(LONG))
        stack.answers(A)
        stack.ends(A)
    stack.ask(chat("x"))
    for name in ("requests", "prefill_tokens", "decoding", "decode_tokens"):
        assert seen.shown[name] == [0], name
    assert [len(rows) for rows in seen.shown["rows"]] == [0]


def test_of_a_cached_prompt_only_the_rest_counts():
    stack, seen = spied(A)
    stack.ask(chat(LONG))
    stack.answers(A)
    stack.ends(A)
    stack.ask(chat(LONG))
    rest = seen.request.prompt_tokens - seen.shown["prefix_tokens"][0]
    assert 0 < rest < 16
    stack.ask(chat("x"))
    assert seen.shown["prefill_tokens"] == [rest]


def test_counts_that_grow_for_ever_take_no_more_memory():
    stack, seen = spied(A)
    for _ in range(MOST_SENT + 20):
        stack.ask(None)
    assert seen.shown["requests"] == [MOST_SENT + 19]
    assert [len(rows) for rows in seen.shown["rows"]] == [MOST_SENT]


def test_gauges_are_as_old_as_the_first_look_at_their_scrape():
    stack, seen = spied(A, B)
    stack.engines = {A: EngineStats(3, 2, gpu_cache_usage_perc=0.25)}
    stack.ask(chat("x"))
    assert (seen.shown["running"][0], seen.shown["waiting"][0]) == (3, 2)
    assert (seen.shown["kv_usage"][0], seen.shown["age_s"][0]) == (0.25, 0)
    for name in ("running", "waiting", "kv_usage", "age_s"):
        assert isnan(seen.shown[name][1]), name
    stack.now += 7
    stack.ask(chat("x"))
    assert seen.shown["age_s"][0] == 7
    stack.engines = {A: EngineStats(3, 2, gpu_cache_usage_perc=0.25)}
    stack.ask(chat("x"))
    assert seen.shown["age_s"][0] == 0


def test_a_usage_of_zero_is_one_that_was_not_found():
    stack, seen = spied(A)
    stack.engines = {A: EngineStats(3, 2)}
    stack.ask(chat("x"))
    assert isnan(seen.shown["kv_usage"][0])


def test_an_endpoint_that_is_not_listed_is_not_chosen_and_keeps_its_state():
    stack, seen = spied(A, B)
    seen.choice = 1
    stack.ask(chat(LONG))
    everything = stack.endpoints
    stack.endpoints = everything[:1]
    seen.choice = 0
    assert stack.ask(chat("x")) == A
    assert seen.shown["mask"] == [True, False]
    stack.endpoints = everything
    stack.ask(chat(LONG))
    assert seen.shown["prefix_tokens"][0] == 0
    assert seen.shown["prefix_tokens"][1] > 0


def test_a_failed_attempt_goes_elsewhere():
    stack = Stack(A, B)
    first = stack.ask(chat(LONG))
    stack.endpoints = [info for info in stack.endpoints if info.url != first]
    assert stack.ask(chat(LONG)) != first


def test_new_endpoints_are_used_at_once():
    stack = Stack(A)
    stack.ask(chat(LONG))
    stack.endpoints.append(EndpointInfo(B))
    assert stack.ask(chat(OTHER)) == B


def test_endpoints_that_are_gone_are_forgotten():
    stack, seen = spied(A, B)
    stack.ask(chat("x"))
    stack.endpoints = stack.endpoints[1:]
    stack.now += FORGET_AFTER_S
    seen.choice = 1
    stack.ask(chat("x"))
    assert seen.shown["mask"] == [False, True]
    stack.now += 1
    seen.choice = 0
    assert stack.ask(chat("x")) == B
    assert seen.shown["mask"] == [True]


def test_the_policy_is_made_anew_only_when_the_endpoints_are_others():
    stack = Stack(A, B, C, policy="round_robin")
    first = [stack.ask(chat("x")) for _ in range(2)]
    stack.endpoints = [EndpointInfo(url, added_timestamp=stack.now) for url in (A, B, C)]
    assert [*first, stack.ask(chat("x"))] == [A, B, C]


def test_without_a_body_only_the_length_is_known():
    stack, seen = spied(A)
    stack.ask(None, content_length="4000")
    assert seen.request.prompt_tokens == 1000
    assert len(seen.request.prefix_hashes) == 0


@pytest.mark.parametrize("length", ["", "many", "-4", "2"])
def test_an_unknown_length_is_one_token(length: str):
    stack, seen = spied(A)
    stack.ask(None, content_length=length)
    assert seen.request.prompt_tokens == 1


def test_a_path_without_a_reader_counts_by_its_length():
    stack, seen = spied(A)
    stack.ask(chat(LONG), path="/v1/rerank", content_length="400")
    assert seen.request.prompt_tokens == 100
    assert len(seen.request.prefix_hashes) == 0


def test_a_body_that_cannot_be_read_is_left_to_the_server():
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    stack, seen = spied(A)
    assert stack.ask({"model": "llama", "messages": nested}, content_length="80") == A
    assert seen.request.prompt_tokens == 20


def test_sessions_are_told_by_the_header_or_the_field_that_was_named():
    stack, seen = spied(A, session_key="x-user-id")
    stack.ask(chat("x"), x_user_id="alice")
    alice = seen.request.session
    stack.ask(chat("x", **{"x-user-id": "alice"}))
    assert seen.request.session == alice >= 0
    stack.ask(chat("x"), x_user_id="bob")
    assert seen.request.session not in (alice, -1)
    stack.ask(chat("x"))
    assert seen.request.session == -1


def test_without_endpoints_there_is_an_error():
    with pytest.raises(ValueError, match="no endpoint"):
        Stack().ask(chat("x"))


def test_past_answers_are_not_known():
    stack, seen = spied(A)
    stack.ask(chat("x"))
    stack.ask(chat("x"))
    assert seen.shown["recent"] == [0]
