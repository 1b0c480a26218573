"""Every way in which a server can fail, times every endpoint, streamed or not, held or not."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from fault_backends import (
    CHAT,
    COMPLETIONS,
    END,
    ENDPOINTS,
    EVENTS_HEAD,
    QUESTION,
    STREAMING,
    Behaviour,
    Call,
    Gate,
    Server,
    alone,
    answer_of,
    chunk,
    close,
    closed_port,
    closing,
    end_hard,
    events_head,
    events_of,
    eventually,
    good,
    half_close,
    halving,
    head,
    reset,
    resetting,
    saying,
    servers,
    silent,
    stalling,
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from running_router import Asked, Live, Turns, first, holding, quick, routing

from makespan.agents.serve.config import BackendConfig
from makespan.baselines.llm import policy as baseline

SHORT = quick(timeouts={"first_byte_s": 0.03, "idle_s": 0.03})
"""For faults in which nothing comes."""


JSON_HEAD = head("200 OK", "Content-Type: application/json", "Content-Length: 100")
CUT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: applica"
CHUNKED = head("200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked")
HALF = b'data: {"choices": [{"te'
HUGE_HEADER = f"X-Much: {'x' * 100_000}"

# What each of these says is no answer, whatever was asked.
BROKEN: dict[str, Behaviour] = {
    "closed unanswered": close,
    "reset unanswered": reset,
    "half-closed unanswered": half_close,
    "closed in the status line": closing(b"HTTP/1.1 20"),
    "reset in the status line": resetting(b"HTTP/1.1 20"),
    "closed after the status line": closing(b"HTTP/1.1 200 OK\r\n"),
    "closed in the headers": closing(CUT_HEAD),
    "reset in the headers": resetting(CUT_HEAD),
    "half-closed in the headers": halving(CUT_HEAD),
    "closed before the body": closing(JSON_HEAD),
    "reset before the body": resetting(JSON_HEAD),
    "half-closed before the body": halving(JSON_HEAD),
    "closed before the first chunk": closing(CHUNKED),
    "reset before the first chunk": resetting(CHUNKED),
    "closed before the first event": closing(EVENTS_HEAD),
    "closed before the first event, of no known length": closing(events_head()),
    "reset before the first event": resetting(EVENTS_HEAD),
    "closed in the first event": closing(EVENTS_HEAD, chunk(HALF)),
    "closed in the first event, of no known length": closing(events_head(), HALF),
    "reset in the first event": resetting(EVENTS_HEAD, chunk(HALF)),
    "no HTTP": closing(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "HTML without a head": closing(b"<html><body>no</body></html>\r\n\r\n"),
    "zeros": closing(bytes(1000)),
    "a status that is no number": closing(b"HTTP/1.1 OK OK\r\n\r\n"),
    "a status of four digits": closing(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "a status that there is not": saying(whole(b"{}", "999 Odd")),
    "other protocols": closing(
        head("101 Switching Protocols", "Upgrade: x", "Connection: upgrade")
    ),
    "only 100 Continue": closing(head("100 Continue")),
    "a header without a colon": closing(
        head("200 OK", "no colon here", "Content-Length: 2"), b"{}"
    ),
    "a header with a zero": closing(head("200 OK", "X-A: a\0b", "Content-Length: 2"), b"{}"),
    "a huge header": closing(head("200 OK", HUGE_HEADER, "Content-Length: 2"), b"{}"),
    "a length that is no number": closing(head("200 OK", "Content-Length: many"), b"{}"),
    "a negative length": closing(head("200 OK", "Content-Length: -2"), b"{}"),
    "two lengths": closing(head("200 OK", "Content-Length: 2", "Content-Length: 3"), b"{}"),
    "a chunk of no size": closing(EVENTS_HEAD, b"zz\r\n{}\r\n"),
    "a chunk of negative size": closing(CHUNKED, b"-2\r\n{}\r\n"),
}

# These are broken once the answer is collected, so for what is not streamed.
CUT: dict[str, Behaviour] = {
    "closed in the body": closing(JSON_HEAD, b"{"),
    "reset in the body": resetting(JSON_HEAD, b"{"),
    "half-closed in the body": halving(JSON_HEAD, b"{"),
    "closed between chunks": closing(CHUNKED, chunk(b"{")),
    "reset between chunks": resetting(CHUNKED, chunk(b"{")),
    "closed in a chunk": closing(CHUNKED, b"10\r\n{"),
    "a wrong second chunk": closing(CHUNKED, chunk(b"{"), b"zz\r\n}\r\n", END),
    "a chunk that is too long": closing(CHUNKED, b"1\r\n{}\r\n", END),
}

STORMS: dict[str, Behaviour] = {
    str(status): saying(whole(b'{"error": "busy"}', f"{status} Busy"), keep=True)
    for status in (408, 429, 500, 501, 502, 503, 504, 507, 520, 529)
}

STALLED: dict[str, Behaviour] = {
    "silent": silent,
    "stalled in the status line": stalling(b"HTTP/1.1 20"),
    "stalled in the headers": stalling(CUT_HEAD),
    "stalled before the body": stalling(JSON_HEAD),
    "stalled before the first chunk": stalling(CHUNKED),
    "stalled before the first event": stalling(EVENTS_HEAD),
}


def closes_on_connect(writer) -> bool:
    return False


def resets_on_connect(writer) -> bool:
    end_hard(writer)
    return False


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    yield closed_port()


@asynccontextmanager
async def no_name() -> AsyncIterator[str]:
    yield "http://no-such-server.invalid:8000"


ABSENT: dict[str, Callable[[], AbstractAsyncContextManager[Server | str]]] = {
    "connection refused": nobody,
    "closed on connection": lambda: Server(accept=closes_on_connect),
    "reset on connection": lambda: Server(accept=resets_on_connect),
}

POLICIES = {"sends": (first, False), "holds": (holding, True)}
WAYS = [*((endpoint, False) for endpoint in ENDPOINTS), *((e, True) for e in STREAMING)]
everywhere = pytest.mark.parametrize(("endpoint", "stream"), WAYS)
both_policies = pytest.mark.parametrize("policy", POLICIES)


def expected(endpoint: str, stream: bool) -> bytes:
    return b"".join(events_of(endpoint)) if stream else answer_of(endpoint)


async def all_answered(
    live: Live, healthy: Server, endpoint: str, stream: bool, at_once: int = 2
) -> list[Asked]:
    """Ask, and see that the healthy server answered."""
    asked = [live.ask(endpoint, stream) for _ in range(at_once)]
    for ask in asked:
        await ask.done()
        assert (ask.status, ask.body) == (200, expected(endpoint, stream))
        assert ask.header("x-makespan-backend") == healthy.url
        assert ask.complete
    assert live.totals() | {"retries": 0} == {
        "requests": at_once,
        "finished": at_once,
        "retries": 0,
    }
    return asked


async def saves(fault: Behaviour, endpoint: str, stream: bool, policy: str, settings=None) -> None:
    choose, hold = POLICIES[policy]
    settings = settings or quick()
    settings = quick(hold=hold, timeouts=vars(settings.timeouts))
    async with (
        servers(fault, fault, good) as (bad, worse, healthy),
        routing(bad, worse, healthy, policy=lambda: choose, settings=settings) as live,
    ):
        await all_answered(live, healthy, endpoint, stream)
        assert len(healthy.calls) == 2
        assert len(bad.calls) + len(worse.calls) >= 2


@pytest.mark.parametrize("fault", [*BROKEN, *STORMS])
@everywhere
@both_policies
@alone
async def test_what_fails_before_its_first_byte_is_answered_by_another(
    fault: str, endpoint: str, stream: bool, policy: str
):
    await saves((BROKEN | STORMS)[fault], endpoint, stream, policy)


@pytest.mark.parametrize("fault", CUT)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@both_policies
@alone
async def test_a_whole_answer_that_is_cut_is_answered_by_another(
    fault: str, endpoint: str, policy: str
):
    await saves(CUT[fault], endpoint, False, policy)


@pytest.mark.parametrize("fault", STALLED)
@everywhere
@alone
async def test_a_server_from_which_nothing_comes_is_left_in_time(
    fault: str, endpoint: str, stream: bool
):
    await saves(STALLED[fault], endpoint, stream, "sends", SHORT)


@pytest.mark.parametrize("fault", ABSENT)
@everywhere
@both_policies
@alone
async def test_a_server_that_is_not_there_is_passed_over(
    fault: str, endpoint: str, stream: bool, policy: str
):
    choose, hold = POLICIES[policy]
    async with (
        ABSENT[fault]() as bad,
        servers(good) as (healthy,),
        routing(bad, healthy, policy=lambda: choose, settings=quick(hold=hold)) as live,
    ):
        await all_answered(live, healthy, endpoint, stream)


@alone
async def test_a_name_that_is_not_known_is_passed_over():
    async with (
        servers(good) as (healthy,),
        routing("http://no-such-server.invalid:8000", healthy) as live,
    ):
        await all_answered(live, healthy, CHAT, True, at_once=1)


# Nobody can answer.


async def gives_up(fault: Behaviour, settings=None) -> Asked:
    """The answer when the only server fails."""
    async with (
        servers(fault) as (bad,),
        routing(bad, settings=settings or quick(retry={"attempts": 2})) as live,
    ):
        asked = await live.get(CHAT)
        assert len(bad.calls) == 2
        assert live.totals() == {"requests": 1, "failed": 1, "retries": 1}
        return asked


@pytest.mark.parametrize("fault", [*BROKEN, *CUT])
@alone
async def test_after_the_last_attempt_there_is_a_clear_error(fault: str):
    asked = await gives_up((BROKEN | CUT)[fault])
    assert asked.status == 502
    assert asked.error["code"] == "bad_gateway"
    assert "backend" in asked.error["message"]
    assert QUESTION not in asked.error["message"]


@pytest.mark.parametrize("fault", STALLED)
@alone
async def test_after_the_last_time_limit_there_is_a_clear_error(fault: str):
    settings = quick(retry={"attempts": 2}, timeouts=vars(SHORT.timeouts))
    asked = await gives_up(STALLED[fault], settings)
    assert asked.status == 504
    assert asked.error["code"] == "gateway_timeout"


@pytest.mark.parametrize("status", ["408 Slow", "429 Busy", "500 Oh", "503 Full", "529 Full"])
@alone
async def test_the_last_answer_is_passed_on_as_it_is(status: str):
    body = b'{"object": "error", "message": "too much"}'
    asked = await gives_up(saying(whole(body, status, "Retry-After: 7", "X-Reason: load")))
    assert (asked.status, asked.body) == (int(status[:3]), body)
    assert asked.header("retry-after") == "7"
    assert asked.header("x-reason") == "load"
    assert asked.header("x-makespan-backend")


@pytest.mark.parametrize("settings", [quick(), quick(hold=True)])
@alone
async def test_without_any_backend_it_is_said_when_to_come_again(settings):
    async with routing(settings=settings) as live:
        asked = await live.get()
        assert asked.status == 503
        assert int(asked.header("retry-after") or "") > 0
        assert live.totals() == {"requests": 1, "failed": 1}


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
@alone
async def test_so_many_attempts_are_made_as_are_allowed(attempts: int):
    async with (
        servers(STORMS["500"]) as (bad,),
        routing(bad, settings=quick(retry={"attempts": attempts})) as live,
    ):
        assert (await live.get()).status == 500
        assert len(bad.calls) == attempts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 451, 499])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@alone
async def test_what_the_client_did_wrong_is_not_tried_again(status: int, endpoint: str):
    body = b'{"error": {"message": "not like this"}}'
    async with (
        servers(saying(whole(body, f"{status} No")), good) as (strict, other),
        routing(strict, other) as live,
    ):
        asked = await live.get(endpoint)
        assert (asked.status, asked.body) == (status, body)
        assert len(strict.calls) == 1
        assert not other.calls
        assert live.totals() == {"requests": 1, "finished": 1}
        assert live.backend(strict.url).breaker.state(0) == "closed"


# In the middle of a stream.

DYING: dict[str, Behaviour] = {
    "closed": close,
    "reset": reset,
    "half-closed": half_close,
    "stalled": silent,
    "closed in an event": closing(chunk(HALF)),
    "reset in an event": resetting(chunk(HALF)),
    "stalled in an event": stalling(chunk(HALF)),
    "closed before the end of an event": closing(chunk(b"data: {}\n")),
    "closed in a chunk": closing(b"100\r\ndata: {"),
    "a chunk of no size": closing(b"zz\r\ndata: {}\r\n"),
    "a chunk without its end": closing(b"2\r\ndata: {}\r\n\r\n"),
    "zeros": closing(bytes(100)),
}


class Dying:
    """Streams two events, and fails when it is told to."""

    def __init__(self, fault: str) -> None:
        self.now = asyncio.Event()
        self._fault = DYING[fault]

    async def __call__(self, call: Call) -> None:
        await call.send(EVENTS_HEAD, *(chunk(e) for e in events_of(call.path)[:2]))
        await self.now.wait()
        await self._fault(call)


@pytest.mark.parametrize("fault", DYING)
@pytest.mark.parametrize("endpoint", STREAMING)
@pytest.mark.parametrize("hold", [False, True])
@alone
async def test_a_server_that_dies_ends_its_stream_and_no_other(
    fault: str, endpoint: str, hold: bool, tmp_path: Path
):
    settings = quick(hold=hold, timeouts={"idle_s": 0.03} if "stalled" in fault else {})
    healthy, dying = Gate(), Dying(fault)
    begun = b"".join(events_of(endpoint)[:2])
    async with (
        servers(dying, healthy) as (bad, other),
        routing(bad, other, settings=settings, policy=Turns, log=tmp_path / "log") as live,
    ):
        live.dispatcher._policy.asked = 0
        doomed, spared = live.ask(endpoint, True), live.ask(endpoint, True)
        await eventually(lambda: doomed.body == begun)
        dying.now.set()
        await doomed.done()
        assert_ends_with_one_error(doomed, begun)
        if "stalled" not in fault:
            assert not spared.task.done()
            healthy.open.set()
            await spared.done()
            assert spared.body == expected(endpoint, True)
            outcomes = {line.backend: (line.outcome, line.status) for line in live.lines()}
            assert outcomes == {bad.url: ("failed", 200), other.url: ("finished", 200)}
        else:
            await spared.done()
        assert len(bad.calls) == len(other.calls) == 1  # what was begun is not tried again


def assert_ends_with_one_error(asked: Asked, begun: bytes) -> None:
    assert asked.status == 200
    assert asked.body.startswith(begun)
    *events, error, end = asked.body[len(begun) :].split(b"\n\n")
    assert end == b""
    assert "died" in json.loads(error.removeprefix(b"data:"))["error"]["message"]
    assert not any(events), "nothing else was said"
    assert asked.complete


# Over time.


async def storm(live: Live, server: Server, count: int) -> list[int]:
    return [(await live.get()).status for _ in range(count)]


@pytest.mark.parametrize("fault", ["500", "reset unanswered", "closed in the headers"])
@alone
async def test_a_server_that_fails_is_left_alone_and_tried_again_later(fault: str):
    once = {"attempts": 1}
    settings = quick(retry=once, breaker={"failures": 3, "successes": 2, "open_s": 0.05})
    async with servers((BROKEN | STORMS)[fault]) as (bad,), routing(bad, settings=settings) as live:
        breaker = live.backend(bad.url).breaker
        await storm(live, bad, 3)
        assert breaker._opened_s is not None
        assert breaker.state(breaker._opened_s) == "open"
        asked = await live.get()
        if asked.status == 503 and len(bad.calls) == 3:  # else the machine is slow
            assert int(asked.header("retry-after") or "") > 0
        await eventually(live.router.healthy)
        bad.behave = good
        assert await storm(live, bad, 3) == [200] * 3
        assert breaker._opened_s is None


@alone
async def test_an_open_breaker_lets_nothing_through():
    settings = quick(retry={"attempts": 1}, breaker={"failures": 3, "open_s": 3600.0})
    async with servers(STORMS["500"]) as (bad,), routing(bad, settings=settings) as live:
        assert await storm(live, bad, 6) == [500] * 3 + [503] * 3
        assert len(bad.calls) == 3
        assert not live.router.healthy()
        assert live.router.status()["backends"][0]["breaker"] == "open"


@pytest.mark.parametrize("status", ["408", "429"])
@alone
async def test_a_server_with_too_much_to_do_has_not_failed(status: str):
    settings = quick(retry={"attempts": 1}, breaker={"failures": 1})
    async with servers(STORMS[status]) as (busy,), routing(busy, settings=settings) as live:
        assert await storm(live, busy, 3) == [int(status)] * 3


@alone
async def test_a_server_that_cannot_be_reached_costs_no_attempt_while_others_can():
    absent = [closed_port() for _ in range(6)]
    settings = quick(retry={"attempts": 2})
    async with servers(good) as (healthy,), routing(*absent, healthy, settings=settings) as live:
        await all_answered(live, healthy, CHAT, True)


@alone
async def test_the_only_server_with_the_model_is_not_tried_without_end():
    named = saying(whole(b'{"data": [{"id": "m"}]}'), keep=True)
    other = saying(whole(b'{"data": [{"id": "n"}]}'), keep=True)
    settings = quick(retry={"attempts": 3})
    gone = Server(models=named)
    async with (
        servers(gone, Server(models=other)) as (_, wrong),
        routing(gone, wrong, settings=settings) as live,
    ):
        await eventually(lambda: all(b.models for b in live.seen))
        gone.stop()
        assert (await live.get()).status == 502
        assert live.router.status()["totals"]["retries"] == 2
        assert not wrong.calls


@alone
async def test_a_server_that_accepts_no_connection_is_left_in_time():
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):  # these fill its queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with servers(good) as (healthy,):
            settings = quick(timeouts={"connect_s": 0.03})
            async with routing(url, healthy, settings=settings) as live:
                await all_answered(live, healthy, COMPLETIONS, False, at_once=1)


@alone
async def test_a_slow_first_byte_is_waited_for_as_long_as_is_allowed():
    """A server may say at once that it will stream, and let the request wait in its queue."""
    ready = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.send(EVENTS_HEAD)
        await ready.wait()
        await call.send(*map(chunk, events_of(call.path)), END)

    settings = quick(timeouts={"idle_s": 0.1})
    async with servers(slow) as (server,), routing(server, settings=settings) as live:
        asked = live.ask(CHAT, True)
        await server.call()
        await asyncio.sleep(0.2)
        assert not asked.task.done()
        ready.set()
        assert (await asked.done()).body == expected(CHAT, True)


@alone
async def test_a_slow_client_is_no_slow_server():
    """Time that the client takes does not count as time in which nothing came."""
    settings = quick(timeouts={"idle_s": 0.1})
    async with servers(good) as (server,), routing(server, settings=settings) as live:
        asked = live.ask(CHAT, True)
        asked.reads.clear()
        await server.call()
        await asyncio.sleep(0.2)
        asked.reads.set()
        assert (await asked.done()).body == expected(CHAT, True)


# Everything at once.

MIXED: list[Behaviour] = [
    good,
    good,
    silent,
    *(BROKEN[name] for name in ("reset unanswered", "no HTTP", "closed before the first event")),
    *(CUT[name] for name in ("closed in the body", "a wrong second chunk")),
    *(STORMS[name] for name in ("500", "429")),
    stalling(EVENTS_HEAD, chunk(events_of(CHAT)[0])),
    closing(EVENTS_HEAD, chunk(events_of(CHAT)[0])),
    resetting(EVENTS_HEAD, chunk(events_of(CHAT)[0])),
    closing(EVENTS_HEAD, chunk(events_of(CHAT)[0]), b"zz\r\n"),
]

steps = st.lists(
    st.tuples(st.just("ask"), st.sampled_from(WAYS))
    | st.tuples(st.sampled_from(["leave", "add", "remove", "wait", "hang up"]), st.integers(0, 9)),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(st.sampled_from(range(len(MIXED))), min_size=1, max_size=3),
    steps=steps,
    policy=st.sampled_from([*POLICIES, "lookahead_hold"]),
    seed=st.integers(0, 3),
)
def test_whatever_happens_nothing_is_left(faults, steps, policy, seed):
    """`routing` checks all counters and tasks; here every request must have ended in some way."""
    choose = POLICIES[policy][0] if policy in POLICIES else baseline("lookahead_hold", seed)
    config = quick(
        hold=policy != "sends",
        retry={"attempts": 2},
        breaker={"failures": 2, "successes": 1, "open_s": 0.01},
        timeouts={"first_byte_s": 0.03, "idle_s": 0.03},
        limits={"in_flight": 3, "queue": 2, "queue_s": 0.05},
    )

    @alone
    async def run():
        async with (
            servers(*(MIXED[fault] for fault in faults)) as made,
            routing(*made, policy=lambda: choose, settings=config) as live,
        ):
            asked: list[Asked] = []
            for step, *what in steps:
                if step == "ask":
                    asked.append(live.ask(what[0][0], what[0][1]))
                else:
                    await disturb(live, made, asked, step, what[0])
            for ask in asked:
                await ask.done()
                assert ask.complete or ask._left.is_set()
            totals = live.router.status()["totals"]
            assert totals.pop("requests") == len(asked)
            totals.pop("retries")
            assert sum(totals.values()) == len(asked)
            assert totals["cancelled"] <= sum(not ask.complete for ask in asked)

    run()


async def disturb(
    live: Live, made: list[Server], asked: list[Asked], step: str, number: int
) -> None:
    server = made[number % len(made)]
    if step == "leave" and asked:
        asked[number % len(asked)].leave()
    elif step == "add":
        live.watch()
        live.router.add(BackendConfig(server.url))
    elif step == "remove":
        live.watch()
        await live.router.remove(server.url)
    elif step == "hang up":
        server.hang_up()
    else:
        for _ in range(number):
            await asyncio.sleep(0.001)
