"""What is passed on, and how, when nothing fails."""

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest
from fault_backends import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    END,
    ENDPOINTS,
    EVENTS_HEAD,
    QUESTION,
    RESPONSES,
    STREAMING,
    Call,
    Gate,
    Server,
    alone,
    answer_of,
    body_of,
    chunk,
    closed_port,
    events_head,
    events_of,
    eventually,
    good,
    head,
    saying,
    servers,
    silent,
    soon,
    whole,
)
from running_router import holding, listening, quick, routing

from makespan.agents.serve.config import Keys

JSON = "Content-Type: application/json"


# Streams.


@pytest.mark.parametrize("endpoint", STREAMING)
@pytest.mark.parametrize("hold", [False, True])
@alone
async def test_the_first_event_is_there_before_the_second_is_sent(endpoint: str, hold: bool):
    gate = Gate()
    one, *others = events_of(endpoint)
    async with servers(gate) as (server,), routing(server, settings=quick(hold=hold)) as live:
        asked = live.ask(endpoint, True)
        await eventually(lambda: asked.body == one)
        assert not asked.complete
        gate.open.set()
        await asked.done()
        assert asked.body == one + b"".join(others)
        assert live.totals() == {"requests": 1, "finished": 1}


STREAMS = {
    "one byte each": [bytes([b]) for b in b"".join(events_of(CHAT))],
    "all at once": [b"".join(events_of(CHAT))],
    "CRLF": [e.replace(b"\n", b"\r\n") for e in events_of(CHAT)],
    "comments": [b": ping\n\n", *events_of(CHAT)],
    "a mark of the byte order": [b"\xef\xbb\xbf", *events_of(CHAT)],
    "no JSON": [b"data: {not json\n\n", b"data: [DONE]\n\n"],
    "no event at all": [b"nothing of the kind \xff\x00\xfe"],
    "no end of the last event": [b'data: {"choices": []}'],
    "after its end": [*events_of(CHAT), b"data: more\n\n"],
    "a long event": [b"data: " + b"x" * 300_000 + b"\n\n", b"data: [DONE]\n\n"],
    "fields without a value": [b"data\n\nid\nretry\n\n"],
    "numbers that are none": [b'data: {"usage": {"completion_tokens": 99999999999999999999}}\n\n'],
    "fewer tokens than before": [
        *events_of(CHAT)[:3],
        b'data: {"usage": {"completion_tokens": 1}}\n\n',
        b'data: {"choices": [{"delta": {"content": "d"}}]}\n\n',
        b"data: [DONE]\n\n",
    ],
    "empty": [],
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("endpoint", STREAMING)
@alone
async def test_streams_are_passed_on_byte_for_byte(stream: str, endpoint: str):
    parts = STREAMS[stream]
    async with (
        servers(saying(EVENTS_HEAD, *map(chunk, parts), END, keep=True)) as (server,),
        routing(server) as live,
    ):
        asked = await live.get(endpoint, True)
        assert (asked.status, asked.body) == (200, b"".join(parts))
        assert asked.header("content-type") == "text/event-stream"
        assert live.totals() == {"requests": 1, "finished": 1}


ENDS = {
    "its length": lambda body: [events_head(f"Content-Length: {len(body)}"), body],
    "the end of the connection": lambda body: [events_head(), body],
    "an extension of a chunk": lambda body: [
        EVENTS_HEAD,
        b"%x;a=b\r\n" % len(body),
        body,
        b"\r\n0\r\n\r\n",
    ],
    "a trailer": lambda body: [EVENTS_HEAD, chunk(body), b"0\r\nX-After: all\r\n\r\n"],
    "capitals": lambda body: [
        head("200 OK", "CONTENT-TYPE: Text/Event-Stream", "TRANSFER-ENCODING: Chunked"),
        chunk(body),
        END,
    ],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("endpoint", STREAMING[:2])
@alone
async def test_streams_may_end_in_every_way_of_http(end: str, endpoint: str):
    body = b"".join(events_of(endpoint))
    async with servers(saying(*ENDS[end](body))) as (server,), routing(server) as live:
        asked = await live.get(endpoint, True)
        assert asked.body == body
        assert asked.header("content-length") is None
        assert live.totals() == {"requests": 1, "finished": 1}


@alone
async def test_a_stream_that_stops_without_its_last_event_is_said_to_have_failed():
    one = events_of(CHAT)[0]
    async with servers(saying(events_head(), one)) as (server,), routing(server) as live:
        asked = await live.get(CHAT, True)
        assert asked.body.startswith(one)
        assert b"died" in asked.body
        assert live.totals() == {"requests": 1, "failed": 1}


@alone
async def test_a_stream_shorter_than_its_length_ends_with_an_error():
    body = b"".join(events_of(CHAT)[:2])
    gate = asyncio.Event()

    async def cut(call: Call) -> None:
        await call.send(events_head("Content-Length: 100000"), body)
        await gate.wait()

    async with servers(cut) as (server,), listening(server) as live:
        reader, writer = await live.connect()
        writer.write(request(CHAT, body_of(CHAT, True)))
        got = await soon(reader.readuntil(body))
        gate.set()
        got += await soon(reader.readuntil(END))  # a whole answer by the rules of HTTP
        assert b"died" in got
        assert b"content-length" not in got
        writer.close()


@alone
async def test_a_client_that_does_not_read_makes_the_server_wait():
    sent = 0

    async def endless(call: Call) -> None:
        nonlocal sent
        await call.send(EVENTS_HEAD)
        while True:
            await call.send(chunk(b"data: " + b"x" * 10_000 + b"\n\n"))
            sent += 10_000

    async with servers(endless) as (server,), routing(server) as live:
        asked = live.ask(CHAT, True)
        asked.reads.clear()
        before = -1
        while sent != before:  # until nothing moves
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
        assert sent < 20_000_000  # what the sockets between them take
        assert asked.body == b""
        asked.reads.set()
        await eventually(lambda: sum(map(len, asked.parts)) > sent / 2 and sent > before)
        asked.leave()
        await asked.done()
        assert live.totals() == {"requests": 1, "cancelled": 1}


def request(endpoint: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {endpoint} HTTP/1.1", "Host: router", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# Clients that leave.


async def leaves(live, asked, server: Server) -> None:
    """The client goes away; the server must see that, and nothing may be left."""
    call = await server.call()
    asked.leave()
    await asked.done()
    await soon(call.left.wait())
    assert live.totals() == {"requests": 1, "cancelled": 1}
    assert not live.counters()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("hold", [False, True])
@alone
async def test_a_client_that_leaves_before_the_first_byte_is_not_waited_for(
    endpoint: str, hold: bool
):
    async with servers(silent) as (server,), routing(server, settings=quick(hold=hold)) as live:
        await leaves(live, live.ask(endpoint, endpoint in STREAMING), server)


@pytest.mark.parametrize("endpoint", STREAMING)
@alone
async def test_a_client_that_leaves_in_mid_stream_ends_it_at_the_server(endpoint: str):
    one = events_of(endpoint)[0]
    async with (
        servers(saying(EVENTS_HEAD, chunk(one), then=silent)) as (server,),
        routing(server) as live,
    ):
        asked = live.ask(endpoint, True)
        await eventually(lambda: asked.body == one)
        await leaves(live, asked, server)


@pytest.mark.parametrize("begun", [b"", EVENTS_HEAD + chunk(b"data: 1\n\n")])
@alone
async def test_a_connection_that_is_closed_ends_the_request_at_the_server(begun: bytes):
    async with (
        servers(saying(begun, then=silent)) as (server,),
        listening(server) as live,
    ):
        reader, writer = await live.connect()
        writer.write(request(CHAT, body_of(CHAT, True)))
        call = await server.call()
        if begun:
            await soon(reader.readuntil(b"data: 1"))
        writer.close()
        await soon(call.left.wait())
        await eventually(lambda: live.router.status()["totals"]["cancelled"] == 1)


@alone
async def test_a_client_that_leaves_while_it_is_held_is_logged_as_held(tmp_path: Path):
    gate = Gate()
    async with (
        servers(gate) as (server,),
        routing(
            server, policy=lambda: holding, settings=quick(hold=True), log=tmp_path / "log"
        ) as live,
    ):
        first = live.ask(CHAT, True)
        await eventually(lambda: first.parts)
        held = live.ask(CHAT, True)
        await eventually(lambda: live.dispatcher.held == 1)
        held.leave()
        await held.done()
        (line,) = live.lines()
        assert (line.outcome, line.choice, line.backend) == ("cancelled", "hold", None)
        assert 0 < line.held_s <= line.e2e_s
        gate.open.set()
        await first.done()


@pytest.mark.parametrize("endpoint", STREAMING)
@alone
async def test_the_first_token_is_not_the_first_byte(endpoint: str, tmp_path: Path):
    """Servers keep a connection alive with comments, and `/v1/responses` begins with news."""
    news = b'event: x\ndata: {"type":"response.created"}\n\n' if endpoint == RESPONSES else b""
    gate = asyncio.Event()

    async def behave(call):
        await call.send(EVENTS_HEAD, chunk(b": ping\n\n" + news))
        await gate.wait()
        await call.send(*map(chunk, events_of(endpoint)), END)
        call.keep = True

    async with servers(behave) as (server,), routing(server, log=tmp_path / "log") as live:
        asked = live.ask(endpoint, True)
        await eventually(lambda: asked.parts)
        await asyncio.sleep(0.02)
        gate.set()
        await asked.done()
        (line,) = live.lines()
        assert line.ttft_s is not None
        assert line.ttft_s >= 0.02


@alone
async def test_an_error_does_not_say_where_the_backend_is():
    url = closed_port()
    async with routing(url) as live:
        asked = await live.get()
        assert asked.status == 502
        assert "it cannot be reached" in asked.error["message"]
        assert url.rpartition(":")[2] not in asked.error["message"]


@pytest.mark.parametrize("status", [408, 429, 503])
@alone
async def test_what_nobody_answered_has_failed(status: int):
    busy = saying(whole(b"{}", f"{status} Busy"), keep=True)
    async with servers(busy) as (server,), routing(server) as live:
        assert (await live.get()).status == status
        assert live.totals()["failed"] == 1


@alone
async def test_a_model_with_a_long_name_is_not_logged_at_length(tmp_path: Path):
    async with servers(good) as (server,), routing(server, log=tmp_path / "log") as live:
        body = json.dumps({"model": "m" * 10_000, "prompt": "x"}).encode()
        await live.get(COMPLETIONS, body=body)
        assert server.calls[0].body == body
        assert live.lines()[0].model == "m" * 256


@alone
async def test_a_client_that_leaves_is_logged_as_cancelled(tmp_path: Path):
    async with (
        servers(silent) as (server,),
        routing(server, log=tmp_path / "log") as live,
    ):
        await leaves(live, live.ask(CHAT, True), server)
        (line,) = live.lines()
        assert (line.outcome, line.status, line.backend) == ("cancelled", 0, server.url)


@alone
async def test_a_client_that_leaves_is_no_fault_of_the_server():
    async with (
        servers(silent) as (server,),
        routing(server, settings=quick(breaker={"failures": 1})) as live,
    ):
        await leaves(live, live.ask(CHAT, True), server)
        assert live.router.healthy()


@alone
async def test_a_client_that_leaves_between_two_attempts_ends_them():
    settings = quick(retry={"first_s": 3600.0, "longest_s": 3600.0})
    async with (
        servers(saying(whole(b"", "500 Oh"), keep=True)) as (server,),
        routing(server, settings=settings) as live,
    ):
        asked = live.ask()
        await server.call()
        await eventually(lambda: live.router.status()["backends"][0]["errors"])
        asked.leave()
        await asked.done()
        assert live.totals() == {"requests": 1, "cancelled": 1}
        assert len(server.calls) == 1


# Requests.

BODIES = {
    "odd spacing": b'  {"model" :"m",\r\n\t"prompt":  "a" }\n\n',
    "unicode": '{"model": "m", "prompt": "žluťoučký 😀 \\ud83d"}'.encode(),
    "keys twice": b'{"prompt": "a", "prompt": "b", "model": "m"}',
    "large numbers": b'{"model": "m", "prompt": "a", "seed": 123456789012345678901234567890}',
    "unknown fields": b'{"model": "m", "prompt": "a", "vllm_xargs": {"a": [1, null]}}',
    "two megabytes": b'{"model": "m", "prompt": "' + b"a" * 2**21 + b'"}',
    "no prompt": b"{}",
    "a prompt of tokens": b'{"model": "m", "prompt": [1, 2, 3]}',
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@alone
async def test_requests_are_passed_on_byte_for_byte(body: str, endpoint: str):
    sent = BODIES[body]
    parts = [sent[:7], sent[7:100], b"", sent[100:]]
    async with (
        servers(saying(whole(b"{}"), keep=True)) as (server,),
        routing(server) as live,
    ):
        asked = await live.get(endpoint, body=parts)
        assert asked.status == 200
        call = server.calls[0]
        assert (call.path, call.body) == (endpoint, sent)
        assert call.headers["content-length"] == str(len(sent))
        assert "transfer-encoding" not in call.headers


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"null", b'{"a":', b"\xff\xfe{}", b"[" * 9999])
@alone
async def test_what_is_no_json_object_is_refused_and_sent_nowhere(body: bytes):
    async with servers(good) as (server,), routing(server) as live:
        asked = await live.get(CHAT, body=body)
        assert asked.status == 400
        assert asked.error["type"] == "invalid_request_error"
        assert not server.calls
        assert live.totals() == {"requests": 1, "rejected": 1}


@alone
async def test_only_headers_that_are_listed_reach_the_server():
    sent = {
        "Accept": "text/event-stream",
        "Content-Type": "application/json",
        "X-Request-Id": "mine",
        "X-Session-Id": "s1",
        "User-Agent": "tests",
        "Traceparent": "00-1-2-03",
        "Cookie": "secret=1",
        "X-Forwarded-For": "1.2.3.4",
        "Connection": "keep-alive, X-Session-Id",
        "Keep-Alive": "timeout=5",
        "Transfer-Encoding": "chunked",
        "TE": "trailers",
        "Upgrade": "h2c",
        "Proxy-Authorization": "Basic abc",
        "Expect": "100-continue",
        "X-Makespan-Backend": "http://elsewhere",
        "X-Slo-Class": "chat",
    }
    async with servers(good) as (server,), routing(server) as live:
        assert (await live.get(headers=sent)).status == 200
        headers = server.calls[0].headers
        kept = (
            "accept",
            "content-type",
            "x-request-id",
            "x-session-id",
            "user-agent",
            "traceparent",
        )
        assert set(headers) == {*kept, "host", "content-length"}
        assert all(headers[name.lower()] == sent[name] for name in sent if name.lower() in kept)


@pytest.mark.parametrize(
    ("keys", "seen"),
    [
        (Keys(), "Bearer of-the-client"),
        (Keys(client="of-the-client"), None),
        (Keys(backend="of-the-router"), "Bearer of-the-router"),
        (Keys(client="of-the-client", backend="of-the-router"), "Bearer of-the-router"),
    ],
)
@alone
async def test_a_server_sees_the_key_that_is_meant_for_it(keys: Keys, seen: str | None):
    async with servers(good) as (server,), routing(server, keys=keys) as live:
        await live.get(headers={"Authorization": "Bearer of-the-client"})
        assert server.calls[0].headers.get("authorization") == seen


# Answers.


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
@alone
async def test_the_answer_says_who_served(endpoint: str, stream: bool):
    async with servers(good, good) as made, routing(*made, policy=lambda: last) as live:
        asked = await live.get(endpoint, stream and endpoint in STREAMING)
        assert asked.header("x-makespan-backend") == made[1].url


def last(decision) -> int:
    return decision.replicas - 1


WAYS = {
    "its length": lambda body: [whole(body, "200 OK", JSON, "X-Own: kept")],
    "chunks": lambda body: [
        head("200 OK", JSON, "X-Own: kept", "Transfer-Encoding: chunked"),
        *(chunk(bytes([b])) for b in body),
        END,
    ],
    "the end of the connection": lambda body: [head("200 OK", JSON, "X-Own: kept"), body],
    "HTTP/1.0": lambda body: [
        b"HTTP/1.0 200 OK\r\nX-Own: kept\r\n" + JSON.encode() + b"\r\n\r\n",
        body,
    ],
    "bare line ends": lambda body: [
        b"HTTP/1.1 200 OK\nX-Own: kept\n%s\nContent-Length: %d\n\n" % (JSON.encode(), len(body)),
        body,
    ],
    "after 100 Continue": lambda body: [
        head("100 Continue"),
        whole(body, "200 OK", JSON, "X-Own: kept"),
    ],
    "after two hints": lambda body: [
        head("103 Early Hints", "Link: </a>"),
        head("103 Early Hints"),
        whole(body, "200 OK", JSON, "X-Own: kept"),
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@alone
async def test_answers_are_passed_on_byte_for_byte(way: str, endpoint: str):
    body = answer_of(endpoint) + " ünï".encode()
    async with servers(saying(*WAYS[way](body))) as (server,), routing(server) as live:
        asked = await live.get(endpoint)
        assert (asked.status, asked.body) == (200, body)
        assert asked.header("content-length") == str(len(body))
        assert asked.header("x-own") == "kept"
        assert live.totals() == {"requests": 1, "finished": 1}


@alone
async def test_more_than_the_length_says_is_neither_passed_on_nor_taken_for_the_next_answer():
    poison = whole(b'{"poison": 1}')
    answers = [whole(b'{"n": 1}') + poison, whole(b'{"n": 2}'), whole(b'{"n": 3}')]

    async def behave(call: Call) -> None:
        await call.send(answers[call.number])
        call.keep = True

    async with servers(behave) as (server,), routing(server) as live:
        bodies = [(await live.get()).body for _ in answers]
        assert bodies == [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}']


@pytest.mark.parametrize("stream", [False, True])
@alone
async def test_packed_answers_stay_packed(stream: bool):
    plain = b"".join(events_of(CHAT)) if stream else answer_of(CHAT)
    packed = gzip.compress(plain)
    kind = "text/event-stream" if stream else "application/json"
    answer = whole(packed, "200 OK", f"Content-Type: {kind}", "Content-Encoding: gzip")
    async with servers(saying(answer)) as (server,), routing(server) as live:
        asked = await live.get(CHAT, stream, headers={"Accept-Encoding": "gzip"})
        assert asked.body == packed
        assert asked.header("content-encoding") == "gzip"
        assert server.calls[0].headers["accept-encoding"] == "gzip"


@alone
async def test_an_answer_that_only_says_to_be_packed_is_passed_on_too():
    answer = whole(b"no gzip", "200 OK", "Content-Encoding: gzip")
    async with servers(saying(answer)) as (server,), routing(server) as live:
        assert (await live.get(CHAT)).body == b"no gzip"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@alone
async def test_redirections_are_passed_on_and_not_followed(status: int):
    elsewhere = Server(good)

    async def redirect(call: Call) -> None:
        await call.send(whole(b"", f"{status} Go", f"Location: {elsewhere.url}{CHAT}"))

    async with servers(redirect, elsewhere) as (server, _), routing(server) as live:
        asked = await live.get(CHAT)
        assert asked.status == status
        assert asked.header("location") == f"{elsewhere.url}{CHAT}"
        assert not elsewhere.calls


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@alone
async def test_answers_without_a_body_say_no_length(status: str):
    async with servers(saying(head(status))) as (server,), listening(server) as live:
        got = await live.raw(request(CHAT, body_of(CHAT), "Connection: close"))
        assert got.startswith(f"HTTP/1.1 {status}\r\n".encode())
        assert b"content-length" not in got
        assert b"transfer-encoding" not in got
        assert got.endswith(b"\r\n\r\n")


@alone
async def test_headers_of_the_connection_are_not_passed_on():
    answer = whole(
        b"{}",
        "200 OK",
        "Connection: close, X-Hop",
        "Keep-Alive: timeout=5",
        "X-Hop: 1",
        "Proxy-Authenticate: Basic",
        "Trailer: X",
        "Server: vllm",
        "Date: never",
        "X-Request-Id: of-the-server",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
    )
    async with servers(saying(answer)) as (server,), routing(server) as live:
        asked = await live.get(headers={"X-Request-Id": "mine"})
        names = sorted(name.decode() for name, _ in asked.headers)
        assert names == [
            "content-length",
            "set-cookie",
            "set-cookie",
            "x-makespan-backend",
            "x-request-id",
        ]
        assert asked.header("x-request-id") == "mine"


@pytest.mark.parametrize("strange", ["\x01", "\x7f", "\x80\xff", "\t", " "])
@alone
async def test_strange_headers_of_a_server_harm_nothing(strange: str):
    answer = whole(b"{}", "200 OK", f"X-Strange: a{strange}b", "X-Plain: kept")
    async with servers(saying(answer)) as (server,), listening(server) as live:
        got = await live.raw(request(CHAT, body_of(CHAT), "Connection: close"))
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"x-plain: kept\r\n" in got
        assert not re.search(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]", got)


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "\x7f", "é", " ", "x" * 1000])
@alone
async def test_a_name_for_a_request_cannot_split_headers(name: str):
    async with servers(good) as (server,), routing(server) as live:
        asked = await live.get(headers={"X-Request-Id": name})
        assert asked.status == 200
        assert re.fullmatch(r"[!-~]{1,128}", asked.header("x-request-id") or "")
        assert "x-evil" not in server.calls[0].headers
        assert live.totals() == {"requests": 1, "finished": 1}


@alone
async def test_every_request_has_a_name():
    async with servers(good) as (server,), routing(server) as live:
        names = {(await live.get()).header("x-request-id") for _ in range(3)}
        assert len(names) == 3
        assert None not in names


# What is written down.


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
@alone
async def test_what_was_served_is_logged(endpoint: str, stream: bool, tmp_path: Path):
    stream = stream and endpoint in STREAMING
    async with servers(good) as (server,), routing(server, log=tmp_path / "log") as live:
        asked = await live.get(endpoint, stream, headers={"X-Slo-Class": "chat"})
        (line,) = live.lines()
        assert line.id == asked.header("x-request-id")
        assert (line.endpoint, line.stream, line.model) == (endpoint, stream, "m")
        assert (line.outcome, line.status, line.attempts) == ("finished", 200, 1)
        assert line.output_tokens == (0 if endpoint == EMBEDDINGS else 3)
        assert line.backend == line.choice == server.url
        assert (line.ttft_s is not None) == stream
        assert line.slo_class == "chat"
        assert line.prompt_tokens > 0


@alone
async def test_no_log_holds_what_was_said_or_a_key(tmp_path: Path, caplog, capfd):
    import logging
    import sys

    from makespan.agents.serve.router import access, log_access_to

    secrets = (QUESTION, "secret-key", "secret-answer")
    caplog.set_level(logging.DEBUG)
    log_access_to(sys.stdout)
    try:
        answer = saying(whole(b'{"choices": [{"text": "secret-answer"}]}'), keep=True)
        async with (
            servers(answer, saying(b"HTTP/1.1 200 OK\r\nsecret-answer\r\n\r\n")) as (server, bad),
            routing(bad, server, keys=Keys(client="secret-key"), log=tmp_path / "log") as live,
        ):
            authorization = {"Authorization": "Bearer secret-key"}
            for endpoint in ENDPOINTS:
                await live.get(endpoint, headers=authorization)
            await live.get(headers={"Authorization": f"Bearer {QUESTION}"})
            await live.get(headers=authorization, body=QUESTION.encode())
            page = json.dumps(live.router.status()) + live.router.metrics()[0].decode()
    finally:
        access.handlers.clear()
        access.setLevel(logging.WARNING)
    out, err = capfd.readouterr()
    assert out.count('"outcome": "finished"') == len(ENDPOINTS)
    assert out.count('"outcome": "rejected"') == 1
    written = (tmp_path / "log").read_text()
    assert written.count("\n") == len(ENDPOINTS)
    for text in (out, err, caplog.text, written, page):
        assert not any(secret in text for secret in secrets)


@pytest.mark.parametrize("stream", [False, True])
@alone
async def test_a_chunked_request_of_a_real_client_is_served(stream: bool):
    body = body_of(RESPONSES, stream)
    async with servers(good) as (server,), listening(server) as live:
        start = f"POST {RESPONSES} HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n"
        got = await live.raw(
            start.encode() + b"Connection: close\r\n\r\n",
            *(chunk(bytes([b])) for b in body),
            END,
        )
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.calls[0].body == body
        assert f"x-makespan-backend: {server.url}".encode() in got


@alone
async def test_connections_are_used_again_by_both_sides():
    async with servers(good) as (server,), listening(server) as live:
        reader, writer = await live.connect()
        for stream in (True, False, True):
            writer.write(request(CHAT, body_of(CHAT, stream)))
            answer = await soon(reader.readuntil(END if stream else answer_of(CHAT)))
            assert answer.startswith(b"HTTP/1.1 200")
        writer.close()
        assert len(server.calls) == 3
        assert server.connections <= 3  # one for requests, and the monitor's


@alone
async def test_requests_of_which_the_policy_holds_one_are_all_served():
    gate = Gate()
    async with (
        servers(gate) as (server,),
        routing(server, policy=lambda: holding, settings=quick(hold=True)) as live,
    ):
        asked = [live.ask(COMPLETIONS, True) for _ in range(5)]
        await eventually(lambda: live.dispatcher.held == 4)
        await server.call()
        assert len(server.calls) == 1
        gate.open.set()
        for ask in asked:
            assert (await ask.done()).body == b"".join(events_of(COMPLETIONS))
        assert live.totals() == {"requests": 5, "finished": 5}
