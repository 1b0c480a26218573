"""The router's own endpoints: keys, administration, limits to what clients send, and its end."""

import asyncio
import base64
import json
import signal

import pytest
from fault_backends import (
    CHAT,
    COMPLETIONS,
    ENDPOINTS,
    Call,
    Gate,
    Server,
    alone,
    body_of,
    closed_port,
    eventually,
    saying,
    servers,
    soon,
    whole,
)
from running_router import QUICK, Listening, listening, quick, routing

from makespan.agents.serve import monitor
from makespan.agents.serve.config import Keys

KEYS = Keys(client="let me in", admin="I decide", backend="of the servers")
PAGES = ("/v1/models", "/metrics", "/status", "/")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()}


WRONG = {
    "none": {},
    "another": bearer("let me in!"),
    "a part": bearer("let me"),
    "the administrator's": bearer(KEYS.admin),
    "no scheme": {"authorization": KEYS.client},
    "another scheme": {"authorization": f"Digest {KEYS.client}"},
    "no base64": {"authorization": "Basic ###"},
    "not in ASCII": {"authorization": "Bearer \xfc"},
}


@pytest.mark.parametrize("wrong", WRONG)
@alone
async def test_without_the_key_nothing_is_told_and_nothing_is_routed(wrong: str):
    async with servers(Server()) as (server,), routing(server, keys=KEYS) as live:
        for endpoint in ENDPOINTS:
            asked = await live.get(endpoint, headers=WRONG[wrong])
            assert (asked.status, asked.error["code"]) == (401, "invalid_api_key")
        for page in PAGES:
            assert (await live.get(page, headers=WRONG[wrong], method="GET")).status == 401
        assert server.calls == []
        assert (await live.get("/health", method="GET")).status == 200


@pytest.mark.parametrize(
    "right", [bearer(KEYS.client), basic(KEYS.client)], ids=["bearer", "basic"]
)
@alone
async def test_the_key_opens_and_stays_with_the_router(right: dict[str, str]):
    async with servers(Server()) as (server,), routing(server, keys=KEYS) as live:
        assert (await live.get(CHAT, headers=right)).status == 200
        assert server.calls[0].headers["authorization"] == f"Bearer {KEYS.backend}"
        for page in PAGES:
            assert (await live.get(page, headers=right, method="GET")).status == 200


@alone
async def test_models_are_those_of_all_servers_once():
    def listing(*names: str) -> Server:
        data = [{"id": name, "object": "model"} for name in names]
        return Server(models=saying(whole(json.dumps({"data": data}).encode()), keep=True))

    async with (
        servers(listing("b", "a"), listing("c", "b"), Server()) as made,
        routing(*made, closed_port()) as live,
    ):
        asked = await live.get("/v1/models", method="GET")
        assert [model["id"] for model in json.loads(asked.body)["data"]] == ["a", "b", "c"]


@alone
async def test_models_that_are_loaded_later_are_routed_to(monkeypatch):
    """As adapters are: they are looked for again from time to time."""
    named = ["base"]

    async def listing(call):
        data = {"data": [{"id": name} for name in named]}
        await call.send(whole(json.dumps(data).encode()))
        call.keep = True

    monkeypatch.setattr(monitor, "MODELS_PERIOD_S", 0.005)
    async with servers(Server(models=listing)) as (server,), routing(server) as live:
        backend = live.backend(server.url)
        await eventually(lambda: backend.models == {"base"})
        named.append("adapter")
        await eventually(lambda: backend.models == {"base", "adapter"})


@alone
async def test_health_says_when_nobody_can_serve():
    async with routing() as live:
        asked = await live.get("/health", method="GET")
        assert (asked.status, asked.header("retry-after")) == (503, "1")


# Administration.


async def administer(live, method: str, values: object, key: str = KEYS.admin):
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    return await live.get("/admin/backends", body=body, headers=bearer(key), method=method)


@alone
async def test_backends_are_added_and_removed_while_it_runs():
    async with servers(Server(), Server()) as (one, two), routing(one, keys=KEYS) as live:
        url = {"url": two.url}
        for method, status, there in (
            ("POST", 201, [one.url, two.url]),
            ("POST", 200, [one.url, two.url]),
            ("GET", 200, [one.url, two.url]),
            ("DELETE", 200, [one.url]),
            ("DELETE", 404, [one.url]),
        ):
            asked = await administer(live, method, url)
            assert asked.status == status
            assert json.loads(asked.body) == {"backends": there}


@alone
async def test_what_is_in_flight_on_a_removed_backend_is_answered():
    gate = Gate()
    async with servers(gate) as (server,), routing(server, keys=KEYS) as live:
        asked = live.ask(CHAT, True, headers=bearer(KEYS.client))
        await eventually(lambda: asked.parts)
        assert (await administer(live, "DELETE", {"url": server.url})).status == 200
        refused = await live.get(CHAT, headers=bearer(KEYS.client))
        assert refused.status == 503
        gate.open.set()
        assert b"[DONE]" in (await asked.done()).body


BAD = {
    "no JSON": (b"{", "JSON"),
    "no URL": ({"hardware": "A100"}, "url"),
    "another field": ({"url": "http://a:1", "speed": "2"}, "speed"),
    "no text": ({"url": "http://a:1", "model": 7}, "model"),
    "unknown hardware": ({"url": "http://a:1", "hardware": "A10000"}, "A10000"),
    "no URL of a server": ({"url": "file:///etc/passwd"}, "file:///etc/passwd"),
    "too long": (b" " * 70_000, "longer"),
}


@pytest.mark.parametrize("bad", BAD)
@alone
async def test_a_bad_backend_is_refused_by_name_and_changes_nothing(bad: str):
    values, name = BAD[bad]
    async with servers(Server()) as (server,), routing(server, keys=KEYS) as live:
        asked = await administer(live, "POST", values)
        assert asked.status == 400
        assert name in asked.error["message"]
        assert live.router.urls() == [server.url]


@alone
async def test_administration_takes_its_own_key_and_does_not_exist_without():
    async with servers(Server()) as (server,):
        async with routing(server, keys=KEYS) as live:
            assert (await administer(live, "GET", {}, KEYS.client)).status == 401
        async with routing(server) as live:
            assert (await administer(live, "GET", {}, "")).status == 404


@alone
async def test_a_browser_cannot_be_made_to_administer():
    """It sends a password that it was once given by itself, also for the forms of other sites."""
    async with servers(Server()) as (server,), routing(server, keys=KEYS) as live:
        body = json.dumps({"url": "http://evil:1"}).encode()
        asked = await live.get("/admin/backends", body=body, headers=basic(KEYS.admin))
        assert asked.status == 401
        assert asked.header("www-authenticate") == 'Bearer realm="makespan"'
        assert live.router.urls() == [server.url]


@alone
async def test_a_wrong_key_is_counted():
    async with servers(Server()) as (server,), routing(server, keys=KEYS) as live:
        await live.get(CHAT, headers=bearer("wrong"))
        assert live.totals() == {"requests": 1, "rejected": 1}
        assert b'code="401"' in live.router.metrics()[0]


# What a client may send.


def request_head(*headers: str) -> bytes:
    lines = (f"POST {COMPLETIONS} HTTP/1.1", "host: router", *headers, "", "")
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("whole_head", [True, False])
@alone
async def test_a_head_that_is_too_long_is_refused(whole_head: bool):
    settings = quick(limits={"head_bytes": 2000})
    async with servers(Server()) as (server,), listening(server, settings=settings) as router:
        long = request_head("x-long: " + "a" * 3000, "content-length: 0")
        answer = await router.raw(long if whole_head else long.rstrip())
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert server.calls == []


@alone
async def test_a_body_that_is_too_long_is_refused_declared_or_not():
    settings = quick(limits={"body_bytes": 1000})
    long = body_of(COMPLETIONS, text="a" * 2000)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(long), long)
    async with servers(Server()) as (server,), listening(server, settings=settings) as router:
        for parts in (
            (request_head(f"content-length: {len(long)}", "connection: close"), long),
            (request_head("transfer-encoding: chunked", "connection: close"), chunked),
        ):
            assert (await router.raw(*parts)).startswith(b"HTTP/1.1 413 ")
        assert server.calls == []


@pytest.mark.parametrize(
    "begun", [b"", b"POST /v1/comp", request_head("content-length: 100"), request_head()[:-2]]
)
@alone
async def test_a_client_that_is_too_slow_is_not_waited_for(begun: bytes):
    settings = quick(timeouts={"request_s": 0.05})
    async with servers(Server()) as (server,), listening(server, settings=settings) as router:
        reader, writer = await router.connect()
        writer.write(begun)
        assert (await soon(reader.readuntil(b"\r\n"))).startswith(b"HTTP/1.1 408 ")
        writer.close()
        assert server.calls == []


@alone
async def test_several_requests_on_one_connection_are_each_held_to_the_limits():
    settings = quick(limits={"head_bytes": 2000})
    body = body_of(COMPLETIONS)
    asked = request_head(f"content-length: {len(body)}", "x-fill: " + "a" * 1500) + body
    async with servers(Server()) as (server,), listening(server, settings=settings) as router:
        reader, writer = await router.connect()
        for number in range(1, 4):
            writer.write(asked)
            assert (await soon(reader.readuntil(b"\r\n"))).startswith(b"HTTP/1.1 200 ")
            await eventually(lambda n=number: len(server.calls) == n)
            await soon(reader.readuntil(b'"usage": {"completion_tokens": 3}}'))
        writer.close()


# Its end.


async def ask(router: Listening, stream: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    body = body_of(CHAT, stream)
    reader, writer = await router.connect()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: r\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return reader, writer


@alone
async def test_what_is_in_flight_is_answered_before_it_stops():
    gate = Gate()
    async with servers(gate) as (server,), listening(server, settings=QUICK) as router:
        reader, writer = await ask(router, True)
        await soon(reader.readuntil(b"data: "))
        router.server.handle_exit(signal.SIGTERM, None)
        assert router.router.draining
        await eventually(lambda: not any(s.is_serving() for s in router.server.servers))
        assert not router.task.done()
        gate.open.set()
        assert b"[DONE]" in await soon(reader.read())
        writer.close()
        router.server._captured_signals.clear()  # else uvicorn raises them again when it is done
        await soon(router.task)


@alone
async def test_it_waits_for_what_is_in_flight_only_so_long():
    left = asyncio.Event()

    async def never(call: Call) -> None:
        await call.gone()
        left.set()

    settings = quick(timeouts={"drain_s": 1.0})
    async with servers(never) as (server,), listening(server, settings=settings) as router:
        _, writer = await ask(router, False)
        await server.call()
        router.server.should_exit = True
        await soon(router.task)
        await soon(left.wait())
        writer.close()
