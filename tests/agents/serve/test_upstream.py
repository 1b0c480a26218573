"""The client that speaks to backends, alone, against servers of raw bytes."""

import asyncio
import gc
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fault_backends import (
    COMPLETIONS,
    END,
    EVENTS_HEAD,
    PATIENCE_S,
    Behaviour,
    Call,
    Gate,
    Server,
    alone,
    chunk,
    close,
    closed_port,
    closing,
    end_hard,
    events_head,
    events_of,
    eventually,
    half_close,
    head,
    reset,
    saying,
    servers,
    silent,
    soon,
    stalling,
    whole,
)

from makespan.agents.serve import upstream as module
from makespan.agents.serve.config import TimeoutConfig
from makespan.agents.serve.upstream import Answer, Upstream, UpstreamError

NEVER_S = 3600.0
SHORT_S = 0.05

PATIENT = TimeoutConfig(connect_s=PATIENCE_S, first_byte_s=PATIENCE_S, idle_s=PATIENCE_S)
FIRST_SHORT = TimeoutConfig(connect_s=NEVER_S, first_byte_s=SHORT_S, idle_s=NEVER_S)
IDLE_SHORT = TimeoutConfig(connect_s=NEVER_S, first_byte_s=NEVER_S, idle_s=SHORT_S)
ALL_LONG = TimeoutConfig(connect_s=NEVER_S, first_byte_s=NEVER_S, idle_s=NEVER_S)

TEXT = "Content-Type: text/plain"
JSON_HEAD = head("200 OK", "Content-Type: application/json", "Content-Length: 100")
CHUNKED = head("200 OK", TEXT, "Transfer-Encoding: chunked")
OK = whole(b"ok", "200 OK", TEXT)


def keeping(*parts: bytes) -> Behaviour:
    return saying(*parts, keep=True)


@asynccontextmanager
async def asking(
    url: str, timeouts: TimeoutConfig = PATIENT, **options: Any
) -> AsyncIterator[Answer]:
    """The answer to one request by a client of its own."""
    async with Upstream(timeouts) as client, asked(client, url, **options) as answer:
        yield answer


def asked(client: Upstream, url: str, **options: Any) -> AbstractAsyncContextManager[Answer]:
    """One more request; what it is does not matter where nothing is given."""
    given = {"method": "POST", "headers": {}, "body": b"{}"} | options
    return client.request(url=url + COMPLETIONS, **given)


async def body_from(client: Upstream, server: Server, **options: Any) -> bytes:
    async with asked(client, server.url, **options) as answer:
        return await answer.body()


async def failure_of(work: Awaitable[object]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await work
    assert str(caught.value)
    return caught.value


async def failure(url: str, timeouts: TimeoutConfig = PATIENT, **options: Any) -> UpstreamError:
    """How a request for a whole body fails."""

    async def ask() -> bytes:
        async with asking(url, timeouts, **options) as answer:
            return await answer.body()

    return await failure_of(ask())


# Requests.

REQUESTS = {
    "nothing": b"",
    "a byte": b"x",
    "bytes that are no text": bytes(range(256)),
    "packed": gzip.compress(b"{}"),
    "what looks like chunks": b"5\r\nhello\r\n0\r\n\r\n",
    "megabytes": bytes(range(256)) * 2**14,
}


@pytest.mark.parametrize("body", REQUESTS)
@alone
async def test_a_request_is_sent_as_it_is_with_its_length_and_nothing_of_the_clients_own(body: str):
    sent = REQUESTS[body]
    async with servers(closing(OK)) as (server,), asking(server.url, body=sent) as answer:
        await answer.body()
        (call,) = server.calls
        assert call.body == sent
        assert call.head.decode().split("\r\n") == [
            f"POST {COMPLETIONS} HTTP/1.1",
            f"Host: {server.url.removeprefix('http://')}",
            f"Content-Length: {len(sent)}",
            "",
            "",
        ]


@alone
async def test_a_request_without_a_body_says_nothing_of_one():
    async with servers(closing(OK)) as (server,):
        async with asking(server.url, method="GET", body=None) as answer:
            await answer.body()
        start = f"GET {COMPLETIONS} HTTP/1.1\r\nHost: {server.url.removeprefix('http://')}\r\n\r\n"
        assert server.calls[0].head == start.encode()


@alone
async def test_headers_are_sent_as_they_were_given():
    given = {
        "user-agent": "somebody",
        "accept": "text/event-stream",
        "accept-encoding": "br;q=1, gzip",
        "content-type": "application/json; charset=utf-8",
        "authorization": "Bearer key",
        "x-request-id": "a b  c",
    }
    async with servers(closing(OK)) as (server,), asking(server.url, headers=given) as answer:
        await answer.body()
        headers = server.calls[0].headers
        assert {name: headers.get(name) for name in given} == given
        assert set(headers) == {*given, "host", "content-length"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("žluť".encode().decode("latin-1"), "žluť"),  # UTF-8, as the router reads it
        ("\xfc", "\xfc"),  # no UTF-8: arrives as the same character
        ("€", "€"),
    ],
)
@alone
async def test_headers_beyond_ascii_are_sent_in_utf_8(given: str, sent: str):
    headers = {"x-session-id": given, "x-request-id": "mine"}
    async with servers(closing(OK)) as (server,), asking(server.url, headers=headers) as answer:
        await answer.body()
        assert (
            f"\r\nx-session-id: {sent}\r\nx-request-id: mine\r\n".encode() in server.calls[0].head
        )


@alone
async def test_a_path_of_the_backend_stays():
    async with servers(closing(OK)) as (server,), asking(f"{server.url}/v2/a-b") as answer:
        await answer.body()
        assert server.calls[0].path == f"/v2/a-b{COMPLETIONS}"


@alone
async def test_cookies_are_passed_on_and_not_kept():
    answer_with_cookies = whole(b"ok", "200 OK", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2")
    async with servers(keeping(answer_with_cookies)) as (server,), Upstream(PATIENT) as client:
        named = server.url.replace("127.0.0.1", "localhost")  # addresses have no cookies anyway
        for _ in range(2):
            async with asked(client, named) as answer:
                found = [value for name, value in answer.head.headers if name == b"set-cookie"]
                assert found == [b"a=1; Path=/", b"b=2"]
                await answer.body()
        assert not any("cookie" in call.headers for call in server.calls)


@alone
async def test_the_environment_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A proxy for the rest of the world, and passwords for its hosts, are nothing to backends."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, closed_port())
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with servers(closing(OK)) as (server,), asking(server.url) as answer:
        assert await answer.body() == b"ok"
        assert "authorization" not in server.calls[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
@alone
async def test_redirections_are_not_followed(status: int, method: str):
    elsewhere = Server()
    async with servers(elsewhere):
        go = whole(b"there", f"{status} Go", f"Location: {elsewhere.url}/")
        async with servers(closing(go)) as (server,), asking(server.url, method=method) as answer:
            assert answer.head.status == status
            assert (b"location", f"{elsewhere.url}/".encode()) in answer.head.headers
            assert await answer.body() == b"there"
        assert elsewhere.connections == 0


@alone
async def test_more_requests_than_a_client_usually_has_connections_are_there_at_once():
    tasks: list[asyncio.Task[bytes]] = []
    async with servers(silent) as (server,), Upstream(ALL_LONG) as client:
        for total in (50, 100, 150):  # the server's own queue of connections is short
            tasks += [asyncio.create_task(body_from(client, server)) for _ in range(50)]
            await eventually(lambda n=total: len(server.calls) == n)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_without_being_entered_there_is_no_client():
    async def ask() -> None:
        async with asked(Upstream(PATIENT), "http://127.0.0.1:9"):
            pass

    with pytest.raises(AssertionError, match="async with"):
        asyncio.run(ask())


# The head of an answer.


async def headers_of(*lines: str | bytes) -> list[tuple[bytes, bytes]]:
    """Those that are passed on of an answer with these."""
    raw = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    said = b"\r\n".join([b"HTTP/1.1 200 OK", *raw, b"Content-Length: 2", b"", b"ok"])
    async with servers(closing(said)) as (server,), asking(server.url) as answer:
        assert await answer.body() == b"ok"
        assert answer.head.headers[-1] == (b"content-length", b"2")
        return answer.head.headers[:-1]


DROPPED = {
    "of the connection": ("Keep-Alive: timeout=5", "Connection: keep-alive"),
    "of a proxy": ("Proxy-Authenticate: Basic", "Proxy-Authorization: Basic abc"),
    "of transfer": ("TE: trailers", "Trailer: X-After", "Upgrade: h2c"),
    "in capitals": ("KEEP-ALIVE: timeout=5", "SERVER: me"),
    "of the server": ("Server: uvicorn", "Date: Thu, 01 Jan 1970 00:00:00 GMT"),
    "named by the connection": ("Connection: close, X-Hop ,x-skip", "X-Hop: 1", "X-SKIP: 2"),
    # Lines of the same name are one list (RFC 9110, section 5.3).
    "named by a second one": ("Connection: close", "Connection: X-Hop", "X-Hop: 1"),
    "named before": ("X-Hop: 1", "connection: X-HOP"),
    "named and not there": ("Connection: X-Hop",),
    "named with nothing between": ("Connection: ,, X-Hop,", "X-Hop: 1"),
}


@pytest.mark.parametrize("dropped", DROPPED)
@alone
async def test_headers_that_concern_the_connection_are_dropped(dropped: str):
    found = await headers_of("X-One: 1", *DROPPED[dropped], "X-Two: 2")
    assert found == [(b"x-one", b"1"), (b"x-two", b"2")]


@alone
async def test_a_body_in_chunks_is_not_said_to_be():
    async with (
        servers(closing(CHUNKED, chunk(b"ok"), END)) as (server,),
        asking(server.url) as answer,
    ):
        assert answer.head.headers == [(b"content-type", b"text/plain")]


@alone
async def test_other_headers_are_passed_on_in_their_order_and_under_names_in_small_letters():
    found = await headers_of("X-B: 1", "x-a: 2", "X-B: 3", "Content-Encoding: br", "Retry-After: 7")
    assert found == [
        (b"x-b", b"1"),
        (b"x-a", b"2"),
        (b"x-b", b"3"),
        (b"content-encoding", b"br"),
        (b"retry-after", b"7"),
    ]


@pytest.mark.parametrize("value", [b"a\tb", b"\xfc", "žluť".encode(), b"", b'"a, b"; c=d', b"a  b"])
@alone
async def test_a_value_that_may_be_sent_is_passed_on_byte_for_byte(value: bytes):
    assert await headers_of(b"X-A: " + value) == [(b"x-a", value)]


@pytest.mark.parametrize("byte", [*range(1, 9), 11, 12, *range(14, 32), 127])
@alone
async def test_a_value_that_may_not_be_sent_is_dropped_and_its_answer_is_not(byte: int):
    assert await headers_of(b"X-A: a%cb" % byte, "X-B: 1") == [(b"x-b", b"1")]


@pytest.mark.parametrize(
    ("line", "content_type", "is_events"),
    [
        ("Content-Type: text/event-stream", "text/event-stream", True),
        ("CONTENT-TYPE: Text/Event-Stream;charset=utf-8", "text/event-stream", True),
        ("Content-Type: application/json", "application/json", False),
        ("Content-Type: text/event-streams", "text/event-streams", False),
        ("Content-Type: nonsense", "application/octet-stream", False),
        ("X-Nothing: 1", "application/octet-stream", False),
    ],
)
@alone
async def test_the_kind_of_the_content_is_told(line: str, content_type: str, is_events: bool):
    async with (
        servers(closing(whole(b"ok", "200 OK", line))) as (server,),
        asking(server.url) as answer,
    ):
        assert (answer.head.content_type, answer.head.is_events) == (content_type, is_events)


@pytest.mark.parametrize("status", [200, 201, 400, 404, 418, 429, 500, 503, 529, 599])
@alone
async def test_any_status_of_an_answer_is_an_answer(status: int):
    async with (
        servers(closing(whole(b"so", f"{status} So"))) as (server,),
        asking(server.url) as answer,
    ):
        assert (answer.head.status, await answer.body()) == (status, b"so")


@pytest.mark.parametrize("hints", [["100 Continue"], ["103 Early Hints", "103 Early Hints"]])
@alone
async def test_what_comes_before_the_answer_is_passed_over(hints: list[str]):
    async with (
        servers(closing(*(head(hint, "X-Hint: 1") for hint in hints), OK)) as (server,),
        asking(server.url) as answer,
    ):
        assert answer.head.status == 200
        assert b"x-hint" not in dict(answer.head.headers)
        assert await answer.body() == b"ok"


# Its body.

ENDS = {
    "its length": ((whole(b"body"),), True),
    "chunks": ((CHUNKED, chunk(b"bo"), chunk(b"dy"), END), True),
    "a trailer": ((CHUNKED, chunk(b"body"), b"0\r\nX-After: 1\r\n\r\n"), True),
    "the end of the connection": ((events_head(), b"body"), False),
    "HTTP/1.0": ((b"HTTP/1.0 200 OK\r\n\r\nbody",), False),
}


@pytest.mark.parametrize("end", ENDS)
@alone
async def test_it_is_told_whether_the_end_of_a_body_is_marked(end: str):
    parts, delimited = ENDS[end]
    async with servers(closing(*parts)) as (server,), asking(server.url) as answer:
        assert answer.delimited is delimited
        assert await answer.body() == b"body"


@alone
async def test_a_piece_is_there_before_the_next_is_sent():
    gate = Gate()
    one, *others = events_of(COMPLETIONS)
    async with servers(gate) as (server,), asking(server.url) as answer:
        assert await soon(answer.read()) == one
        gate.open.set()
        read = b""
        while piece := await soon(answer.read()):
            read += piece
        assert read == b"".join(others)
        assert await answer.read() == b""  # and so it stays


@alone
async def test_packed_bodies_stay_packed():
    packed = gzip.compress(b"plain")
    async with (
        servers(closing(whole(packed, "200 OK", "Content-Encoding: gzip"))) as (server,),
        asking(server.url) as answer,
    ):
        assert await answer.body() == packed


NO_BODIES = {
    "no length": whole(b""),
    "no chunks": CHUNKED + END,
    "204": head("204 No Content"),
    "304": head("304 Not Modified"),
    "304 that says how long it would be": head("304 Not Modified", "Content-Length: 5"),
}


@pytest.mark.parametrize("empty", NO_BODIES)
@alone
async def test_an_empty_body_is_a_body(empty: str):
    async with servers(keeping(NO_BODIES[empty])) as (server,), asking(server.url) as answer:
        assert await soon(answer.body()) == b""


LONG = b"x" * 1000
LENGTHS = {
    "its length": (whole(LONG),),
    "chunks": (CHUNKED, *(chunk(LONG[:100]) for _ in range(10)), END),
    "the end of the connection": (events_head(), LONG),
}


@pytest.mark.parametrize("end", LENGTHS)
@alone
async def test_a_body_as_long_as_the_limit_is_taken(end: str):
    async with servers(closing(*LENGTHS[end])) as (server,), asking(server.url) as answer:
        assert await answer.body(most=1000) == LONG


@pytest.mark.parametrize("end", LENGTHS)
@alone
async def test_a_body_longer_than_the_limit_is_refused(end: str):
    async with servers(closing(*LENGTHS[end])) as (server,), asking(server.url) as answer:
        error = await failure_of(answer.body(most=999))
        assert (error.kind, str(error)) == ("broken", "an answer of more than 999 bytes")


@alone
async def test_a_body_without_end_is_not_read_beyond_its_limit():
    async def endless(call: Call) -> None:
        await call.send(CHUNKED)
        while not call.writer.is_closing():
            await call.send(chunk(LONG))

    async with servers(endless) as (server,), Upstream(PATIENT) as client:
        with pytest.raises(UpstreamError, match="more than 100000 bytes"):
            async with asked(client, server.url) as answer:
                await soon(answer.body(most=100_000))
        await eventually(lambda: not server._writers)  # the server was told


# Failures.


@alone
async def test_where_nobody_listens_there_is_no_connection():
    assert (await failure(closed_port())).kind == "connect"


@alone
async def test_where_the_name_is_unknown_there_is_no_connection():
    assert (await failure("http://no-such-server.invalid:8000")).kind == "connect"


@alone
async def test_where_nobody_encrypts_there_is_no_connection():
    async with servers(Server(accept=lambda writer: False)) as (server,):
        assert (await failure(server.url.replace("http:", "https:"))).kind == "connect"


@alone
async def test_where_nobody_accepts_there_is_no_connection():
    timeouts = TimeoutConfig(connect_s=SHORT_S, first_byte_s=NEVER_S, idle_s=NEVER_S)
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (one, two):  # these fill its queue
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        assert (await soon(failure(url, timeouts))).kind == "connect"


CUT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: applica"

LATE_FIRST = {
    "nothing at all": (),
    "half of the status line": (b"HTTP/1.1 20",),
    "half of the head": (CUT_HEAD,),
    "only 100 Continue": (head("100 Continue"),),
    "no body of a known length": (JSON_HEAD,),
    "no chunk": (CHUNKED,),
    "half of the size of a chunk": (CHUNKED, b"1"),
    "no body of unknown length": (events_head(),),
}
LATE_NEXT = {
    "half of a body": (JSON_HEAD, b"{"),
    "half of a chunk": (CHUNKED, b"a\r\nhello"),
    "a chunk": (CHUNKED, chunk(b"hello")),
    "no end of unknown length": (events_head(), b"hello"),
}


async def too_late(parts: tuple[bytes, ...], timeouts: TimeoutConfig, **options: Any) -> None:
    """The request fails in time, and the server is told."""
    async with servers(stalling(*parts)) as (server,):
        error = await soon(failure(server.url, timeouts, **options))
        assert (error.kind, str(error)) == ("timeout", "nothing came in time")
        for call in server.calls:  # none if the machine is so slow that nothing was sent
            await soon(call.left.wait())


@pytest.mark.parametrize("late", LATE_FIRST)
@alone
async def test_what_does_not_begin_in_time_is_given_up(late: str):
    await too_late(LATE_FIRST[late], FIRST_SHORT)


@pytest.mark.parametrize("late", LATE_NEXT)
@alone
async def test_what_does_not_go_on_in_time_is_given_up(late: str):
    await too_late(LATE_NEXT[late], IDLE_SHORT)


@pytest.mark.parametrize("late", LATE_FIRST | LATE_NEXT)
@alone
async def test_a_request_may_have_a_time_limit_of_its_own(late: str):
    await too_late((LATE_FIRST | LATE_NEXT)[late], ALL_LONG, timeout_s=SHORT_S)


@alone
async def test_a_head_that_comes_byte_by_byte_is_given_up_too():
    """The limit is one for all of what comes before the body, not for each piece of it."""

    async def dribble(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await call.send(b"X-A: 1\r\n")
            await asyncio.sleep(SHORT_S / 5)

    async with servers(dribble) as (server,):
        assert (await soon(failure(server.url, FIRST_SHORT))).kind == "timeout"


@alone
async def test_time_in_which_nobody_reads_does_not_count():
    gate = asyncio.Event()

    async def two_pieces(call: Call) -> None:
        await call.send(CHUNKED, chunk(b"one"))
        await gate.wait()
        await call.send(chunk(b"two"), END)

    async with servers(two_pieces) as (server,), asking(server.url, IDLE_SHORT) as answer:
        assert await answer.read() == b"one"
        gate.set()
        await asyncio.sleep(2 * SHORT_S)
        assert await answer.body() == b"two"


BROKEN: dict[str, Behaviour] = {
    "closed unanswered": close,
    "reset unanswered": reset,
    "half-closed unanswered": half_close,
    "closed in the head": closing(CUT_HEAD),
    "reset in the head": saying(CUT_HEAD, then=reset),
    "no HTTP": closing(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a status that there is not": keeping(whole(b"{}", "999 Odd")),
    "another protocol": stalling(head("101 Switching Protocols", "Upgrade: x", length=0)),
    "a zero in a header": closing(head("200 OK", "X-A: a\0b", "Content-Length: 2"), b"{}"),
    "no body and no length": closing(events_head()),
    "closed in the body": closing(JSON_HEAD, b"{"),
    "reset in the body": saying(JSON_HEAD, b"{", then=reset),
    "half-closed in the body": saying(JSON_HEAD, b"{", then=half_close),
    "closed between chunks": closing(CHUNKED, chunk(b"{")),
    "closed in a chunk": closing(CHUNKED, b"a\r\nhello"),
    "a chunk of no size": closing(CHUNKED, b"zz\r\n{}\r\n"),
    "a wrong second chunk": keeping(CHUNKED, chunk(b"{"), b"zz\r\n}\r\n"),
    "a chunk longer than its size": keeping(CHUNKED, b"1\r\n{}\r\n", END),
}


@pytest.mark.parametrize("fault", BROKEN)
@alone
async def test_an_answer_that_is_none_or_not_whole_is_broken(fault: str):
    async with servers(BROKEN[fault]) as (server,):
        assert (await soon(failure(server.url))).kind == "broken"


@alone
async def test_asyncio_has_nothing_to_say_about_a_failure(caplog: pytest.LogCaptureFixture):
    """Of a future whose exception nobody asked for it says so when it is thrown away."""
    faults = (BROKEN["reset in the body"], BROKEN["a wrong second chunk"])
    async with servers(*faults) as made:
        for server in made:
            assert (await failure(server.url)).kind == "broken"
    gc.collect()
    assert caplog.text == ""


@alone
async def test_a_connection_that_ends_at_once_is_no_answer():
    def ends(writer: asyncio.StreamWriter) -> bool:
        end_hard(writer)
        return False

    async with servers(Server(accept=ends), Server(accept=lambda writer: False)) as made:
        for server in made:
            assert (await failure(server.url)).kind == "broken"


@pytest.mark.parametrize(
    "headers", [{"x-a": "a\nx-b: b"}, {"x-a": "a\0"}, {"x-a": "a\r"}, {"x-a\n": "a"}]
)
@alone
async def test_a_header_that_cannot_be_sent_is_not(headers: dict[str, str]):
    async with servers(closing(OK)) as (server,):
        assert (await failure(server.url, headers=headers)).kind == "broken"
        assert not server.calls


@alone
async def test_what_is_no_url_fails_like_a_request():
    assert (await failure("nonsense")).kind == "broken"


@alone
async def test_a_cut_of_a_body_without_a_marked_end_is_not_noticed():
    """So `delimited` is told to those who can see it otherwise."""
    async with (
        servers(closing(events_head(), b"data: hal")) as (server,),
        asking(server.url) as answer,
    ):
        assert not answer.delimited
        assert await answer.body() == b"data: hal"


@alone
async def test_an_answer_that_comes_before_the_whole_request_was_taken_is_an_answer():
    ended = asyncio.Event()
    refusal = whole(b"too much", "413 Content Too Large", "Connection: close")

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        while await reader.read(2**16):
            pass
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asking(url, body=bytes(10_000_000)) as answer:
            assert (answer.head.status, await soon(answer.body())) == (413, b"too much")
        await soon(ended.wait())


# Connections.


@pytest.mark.parametrize("begun", [(JSON_HEAD,), (JSON_HEAD, b"{"), (EVENTS_HEAD, chunk(b"data:"))])
@alone
async def test_leaving_before_the_end_closes_the_connection(begun: tuple[bytes, ...]):
    async with servers(stalling(*begun)) as (server,), Upstream(PATIENT) as client:
        for number in range(2):
            async with asked(client, server.url) as answer:
                if len(begun) > 1:
                    assert await answer.read()
            await soon((await server.call(number)).left.wait())
        assert server.connections == 2


@alone
async def test_an_error_of_the_reader_closes_the_connection_and_is_passed_on():
    async with servers(stalling(JSON_HEAD)) as (server,), Upstream(PATIENT) as client:
        with pytest.raises(KeyError):
            async with asked(client, server.url):
                raise KeyError
        await soon(server.calls[0].left.wait())


@pytest.mark.parametrize("begun", [(), (CUT_HEAD,), (JSON_HEAD, b"{")])
@alone
async def test_being_cancelled_closes_the_connection_and_is_no_failure(begun: tuple[bytes, ...]):
    async with servers(stalling(*begun)) as (server,), Upstream(PATIENT) as client:
        task = asyncio.create_task(body_from(client, server))
        call = await server.call()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(call.left.wait())


@alone
async def test_the_end_of_the_client_ends_what_is_being_read():
    async with servers(stalling(JSON_HEAD, b"{")) as (server,):
        async with Upstream(PATIENT) as client:
            task = asyncio.create_task(failure_of(body_from(client, server)))
            call = await server.call()
        assert (await soon(task)).kind == "broken"
        await soon(call.left.wait())


WHOLE = {
    "its length": (OK,),
    "chunks": (CHUNKED, chunk(b"ok"), END),
    "events": (EVENTS_HEAD, *map(chunk, events_of(COMPLETIONS)), END),
    "no body": (head("204 No Content"),),
    "an error": (whole(b"oh", "500 Oh"),),
}


@pytest.mark.parametrize("end", WHOLE)
@alone
async def test_the_connection_of_a_whole_answer_is_used_again(end: str):
    async with servers(keeping(*WHOLE[end])) as (server,), Upstream(PATIENT) as client:
        for _ in range(3):
            await body_from(client, server)
        assert (len(server.calls), server.connections) == (3, 1)


@alone
async def test_requests_at_once_have_a_connection_each_and_later_ones_use_them():
    gate = asyncio.Event()

    async def together(call: Call) -> None:
        await gate.wait()
        await keeping(OK)(call)

    async with servers(together) as (server,), Upstream(PATIENT) as client:
        for total in (3, 6):
            tasks = [asyncio.create_task(body_from(client, server)) for _ in range(3)]
            await eventually(lambda n=total: len(server.calls) == n)
            gate.set()
            await asyncio.gather(*tasks)
        assert (len(server.calls), server.connections) == (6, 3)


@alone
async def test_the_connection_of_a_broken_answer_is_not_used_again():
    async with servers(BROKEN["a wrong second chunk"]) as (server,), Upstream(PATIENT) as client:
        for _ in range(2):
            await failure_of(body_from(client, server))
        assert (len(server.calls), server.connections) == (2, 2)


@alone
async def test_what_follows_a_whole_answer_is_not_taken_for_the_next():
    async def behave(call: Call) -> None:
        await keeping(whole(b"%d" % call.number) + whole(b"poison"))(call)

    async with servers(behave) as (server,), Upstream(PATIENT) as client:
        assert [await body_from(client, server) for _ in range(3)] == [b"0", b"1", b"2"]


@alone
async def test_connections_of_two_servers_are_not_mixed_up():
    async with (
        servers(keeping(whole(b"a")), keeping(whole(b"b"))) as (a, b),
        Upstream(PATIENT) as client,
    ):
        for _ in range(2):
            assert await body_from(client, a) == b"a"
            assert await body_from(client, b) == b"b"
        assert (a.connections, b.connections) == (1, 1)


@alone
async def test_an_idle_connection_is_closed_in_time_and_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
):
    """Servers keep theirs longer, so that no request crosses their closing of it."""
    monkeypatch.setattr(module, "KEEP_ALIVE_S", SHORT_S)
    waiting_for_more = saying(OK, then=silent)
    async with servers(waiting_for_more) as (server,), Upstream(PATIENT) as client:
        for number in range(2):
            assert await body_from(client, server) == b"ok"
            await soon(server.calls[number].left.wait())  # by the client: the server waits
        assert server.connections == 2


def test_idle_connections_are_given_up_before_the_servers_close_them():
    of_uvicorn_s = 5.0  # vLLM's and SGLang's server
    assert 0 < module.KEEP_ALIVE_S <= of_uvicorn_s / 2


@alone
async def test_a_server_that_closes_its_idle_connections_fails_no_later_request():
    async with servers(saying(OK, then=half_close)) as (server,), Upstream(PATIENT) as client:
        for number in range(3):
            assert await body_from(client, server) == b"ok"
            await soon(server.calls[number].left.wait())  # the client has seen it
        assert server.connections == 3


@pytest.mark.parametrize("end", [close, reset])
@alone
async def test_a_request_that_crosses_the_closing_fails_and_is_not_sent_again(end: Behaviour):
    """Who asks must know: the server may have begun to work on it."""

    async def once(call: Call) -> None:
        await (keeping(OK) if call.number == 0 else end)(call)

    async with servers(once) as (server,), Upstream(PATIENT) as client:
        assert await body_from(client, server) == b"ok"
        assert (await failure_of(body_from(client, server))).kind == "broken"
        assert (len(server.calls), server.connections) == (2, 1)


@alone
async def test_the_end_of_the_client_closes_idle_connections():
    async with servers(saying(OK, then=silent)) as (server,):
        async with Upstream(PATIENT) as client:
            await body_from(client, server)
        await soon(server.calls[0].left.wait())
