"""Servers that misbehave on purpose, and a router in front of them, all in one event loop."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from makespan.agents.serve.app import application
from makespan.agents.serve.backend import Backend
from makespan.agents.serve.config import (
    BackendConfig,
    BreakerConfig,
    GaugeConfig,
    HealthConfig,
    Keys,
    RetryConfig,
    RouterConfig,
    TimeoutConfig,
)
from makespan.agents.serve.record import Log, Served, read_log
from makespan.agents.serve.router import Router
from makespan.agents.serve.server import server
from makespan.envs.core.contract import Policy
from makespan.envs.llm.decision import RoutingDecision

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"
STREAMING = (COMPLETIONS, CHAT, RESPONSES)
ENDPOINTS = (*STREAMING, EMBEDDINGS)

QUESTION = "what is hidden"
"""The text of every prompt: it must be found in no log and no error message."""

PATIENCE_S = 3.0
"""How long tests wait for what must come; no test passes by waiting so long."""


def body_of(endpoint: str, stream: bool = False, text: str = QUESTION) -> bytes:
    """A request."""
    messages = [{"role": "user", "content": text}]
    prompt = {
        COMPLETIONS: {"prompt": text, "max_tokens": 8},
        CHAT: {"messages": messages, "max_tokens": 8},
        RESPONSES: {"input": text, "max_output_tokens": 8},
        EMBEDDINGS: {"input": text},
    }[endpoint]
    return json.dumps({"model": "m", **prompt, **({"stream": True} if stream else {})}).encode()


def events_of(endpoint: str) -> list[bytes]:
    """The events of a whole stream of three tokens."""
    if endpoint == RESPONSES:
        words = [{"type": "response.output_text.delta", "delta": word} for word in "abc"]
        end = {"type": "response.completed", "response": {"usage": {"output_tokens": 3}}}
        return [
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            for event in (*words, end)
        ]
    if endpoint == CHAT:
        words = [{"choices": [{"delta": {"content": word}}]} for word in "abc"]
    else:
        words = [{"choices": [{"text": word}]} for word in "abc"]
    return [*(b"data: " + json.dumps(w).encode() + b"\n\n" for w in words), b"data: [DONE]\n\n"]


def answer_of(endpoint: str) -> bytes:
    """The body of an answer that is not streamed."""
    if endpoint == EMBEDDINGS:
        return b'{"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 4}}'
    name = "output_tokens" if endpoint == RESPONSES else "completion_tokens"
    return b'{"choices": [{"text": "abc"}], "usage": {"' + name.encode() + b'": 3}}'


def head(status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """The head of an answer, with `content-length` if the length is given."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer in one piece."""
    return head(status, *(headers or ("Content-Type: application/json",)), length=len(body)) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"
"""The end of a body in chunks."""

EVENTS_HEAD = head("200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked")


def events_head(*headers: str) -> bytes:
    return head("200 OK", "Content-Type: text/event-stream; charset=utf-8", *headers)


@dataclass
class Call:
    """A request as a server sees it."""

    path: str
    headers: dict[str, str]
    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    keep: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def streams(self) -> bool:
        return json.loads(self.body).get("stream") is True

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        end_hard(self.writer)

    async def gone(self) -> None:
        """Wait until the other side is gone."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass
        self.left.set()


def end_hard(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


Behaviour = Callable[[Call], Awaitable[None]]
"""What a server does with a request; when it returns the connection is closed, unless `keep`."""


async def good(call: Call) -> None:
    """Answer as it should be, and keep the connection."""
    if call.streams:
        await call.send(EVENTS_HEAD, *(chunk(e) for e in events_of(call.path)), END)
    else:
        await call.send(whole(answer_of(call.path)))
    call.keep = True


async def silent(call: Call) -> None:
    """Answer nothing."""
    await call.gone()


def saying(*parts: bytes, then: Behaviour | None = None, keep: bool = False) -> Behaviour:
    """Write these, and do something else."""

    async def behave(call: Call) -> None:
        await call.send(*parts)
        call.keep = keep
        if then is not None:
            await then(call)

    return behave


async def reset(call: Call) -> None:
    call.reset()


async def half_close(call: Call) -> None:
    """Say that nothing more comes, and go on listening."""
    call.writer.write_eof()
    await call.gone()


async def close(call: Call) -> None:
    """End the connection in good order."""


class Gate:
    """A behaviour that streams one event, and the others when it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        one, *others = events_of(call.path)
        await call.send(EVENTS_HEAD, chunk(one))
        await self.open.wait()
        await call.send(*map(chunk, others), END)
        call.keep = True


class Server:
    """A server on a port of its own.

    Args:
        behave: what it does with requests.
        health, metrics, models: what it does with those for these pages.
        accept: what it does with a connection before it reads anything; True: goes on.
    """

    def __init__(
        self,
        behave: Behaviour = good,
        health: Behaviour | None = None,
        metrics: Behaviour | None = None,
        models: Behaviour | None = None,
        accept: Callable[[asyncio.StreamWriter], bool] = lambda writer: True,
    ) -> None:
        self.behave = behave
        self.pages = {
            "/health": health or saying(whole(b""), keep=True),
            "/metrics": metrics or saying(whole(b"not here", "404 Not Found"), keep=True),
            "/v1/models": models or saying(whole(b"not here", "404 Not Found"), keep=True),
        }
        self.accept = accept
        self.calls: list[Call] = []
        self.asked: list[str] = []
        self.connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    async def call(self, number: int = 0) -> Call:
        """The request of that number, once it is there."""
        await eventually(lambda: len(self.calls) > number)
        return self.calls[number]

    def stop(self) -> None:
        """Take no more connections, and cut those that there are."""
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Cut all connections, like a process that is killed."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.accept(writer):
                while await self._one(reader, writer):
                    pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve a request; whether the connection goes on."""
        start = await reader.readuntil(b"\r\n\r\n")
        lines = start.decode("latin-1").split("\r\n")
        path = lines[0].split(" ")[1]
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(path)
        call = Call(path, headers, start, body, reader, writer, len(self.calls))
        if path in self.pages:
            await self.pages[path](call)
        else:
            self.calls.append(call)
            await self.behave(call)
        return call.keep


@asynccontextmanager
async def servers(*behaviours: Behaviour | Server) -> AsyncIterator[list[Server]]:
    """A server for each behaviour."""
    async with contextlib.AsyncExitStack() as stack:
        made = [b if isinstance(b, Server) else Server(b) for b in behaviours]
        yield [await stack.enter_async_context(server) for server in made]


def closed_port() -> str:
    """URL of a port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


async def eventually(condition: Callable[[], object]) -> None:
    """Return as soon as it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def soon(awaitable: Awaitable[Any]) -> Any:
    """Wait for what must come."""
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


# Policies.


def first(decision: RoutingDecision) -> int:
    """The lowest number that is legal."""
    return int(np.flatnonzero(decision.action_mask)[0])


def holding(decision: RoutingDecision) -> int:
    """Holds whenever it may."""
    if decision.can_hold and decision.action_mask[-1]:
        return len(decision.action_mask) - 1
    return first(decision)


class Turns:
    """One after the other."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, decision: RoutingDecision) -> int:
        legal = np.flatnonzero(decision.action_mask[: decision.replicas])
        self.asked += 1
        return int(legal[(self.asked - 1) % len(legal)])


# The router.

QUICK = RouterConfig(
    hold=False,
    prefix_index_blocks=64,
    retry=RetryConfig(attempts=4, first_s=0.0005, longest_s=0.002),
    breaker=BreakerConfig(failures=100),
    timeouts=TimeoutConfig(
        connect_s=1.0, first_byte_s=PATIENCE_S, idle_s=PATIENCE_S, request_s=PATIENCE_S
    ),
    health=HealthConfig(period_s=3600),
    gauges=GaugeConfig(period_s=3600),
)
"""Of a router that waits for nothing and looks at its backends once."""


def quick(**changes: Any) -> RouterConfig:
    """`QUICK` with other settings; a dictionary changes a part of them."""
    made = {
        name: replace(getattr(QUICK, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return replace(QUICK, **made)


class Asked:
    """A request that is under way, and what came back of it, in memory.

    Attributes:
        status, headers: of the answer; 0 before it has begun.
        parts: of its body, as they came.
        complete: its end has come.
        reads: while it is not set, the client takes nothing.
    """

    def __init__(self, app: Any, scope: dict[str, Any], body: Sequence[bytes]) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.complete = False
        self.reads = asyncio.Event()
        self.reads.set()
        self._body = list(body)
        self._left = asyncio.Event()
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            part = self._body.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._body)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            assert not self.status, "an answer begins once"
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            assert self.status, "first the head"
            assert not self.complete, "nothing comes after the end"
            if message["body"]:
                self.parts.append(message["body"])
            self.complete = not message.get("more_body")
            if self.complete:
                self._left.set()

    def leave(self) -> None:
        """The client goes away."""
        self._left.set()

    async def done(self) -> "Asked":
        """When the router is through with it."""
        await soon(self.task)
        return self

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def header(self, name: str) -> str | None:
        found = [v.decode("latin-1") for n, v in self.headers if n == name.encode()]
        assert len(found) < 2, f"{name} stands there twice"
        return found[0] if found else None

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body."""
        return json.loads(self.body)["error"]


class Live:
    """A router that runs."""

    def __init__(self, router: Router, log: Path | None) -> None:
        self.router = router
        self.app: Any = application(router)
        self._log = log
        self.seen: set[Backend] = set()
        self.watch()

    def watch(self) -> None:
        """Remember the backends, to look at them when they have been removed."""
        self.seen |= set(self.router._backends.values())

    def ask(
        self,
        endpoint: str = COMPLETIONS,
        stream: bool = False,
        body: bytes | Sequence[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> Asked:
        """Begin a request, in memory."""
        if body is None:
            body = body_of(endpoint, stream) if endpoint in ENDPOINTS else b""
        parts = [body] if isinstance(body, bytes) else list(body)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": endpoint,
            "raw_path": endpoint.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [
                (n.lower().encode(), v.encode("latin-1")) for n, v in (headers or {}).items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        return Asked(self.app, scope, parts)

    async def get(self, *args: Any, **options: Any) -> Asked:
        """The whole answer to a request."""
        return await self.ask(*args, **options).done()

    @property
    def dispatcher(self) -> Any:
        return self.router._dispatcher

    @property
    def admission(self) -> Any:
        return self.router.proxy._parts.admission

    def backend(self, url: str) -> Backend:
        return self.router._backends[url]

    def totals(self) -> dict[str, int]:
        """How requests ended, without what did not happen."""
        return {k: v for k, v in self.router.status()["totals"].items() if v}

    def lines(self) -> list[Served]:
        """What the log says."""
        assert self._log is not None
        return list(read_log(self._log))

    def counters(self) -> dict[str, Any]:
        """What is not zero of all that must be in the end."""
        self.watch()
        counted: dict[str, Any] = {
            f"{b.url} {name}": getattr(b.replica, name)
            for b in self.seen
            for name in ("requests", "prefill_tokens", "decoding", "decode_tokens")
        }
        counted |= {f"{b.url} rows": len(b.replica.in_flight()) for b in self.seen}
        counted |= {f"{b.url} trials": len(b.breaker._in_flight) for b in self.seen}
        counted |= {"held": self.dispatcher.held, "waiting jobs": len(self.dispatcher._held)}
        counted |= {"inside": self.admission.inside, "waiting": self.admission.waiting}
        return {name: count for name, count in counted.items() if count}


@asynccontextmanager
async def routing(
    *backends: Server | str,
    policy: Callable[[], Policy] = lambda: first,
    settings: RouterConfig = QUICK,
    keys: Keys | None = None,
    log: Path | None = None,
    **options: Any,
) -> AsyncIterator[Live]:
    """A router in front of these, to be asked in memory; in the end it must have nothing left."""
    before = asyncio.all_tasks()
    policies = {"tested": policy} | options.pop("shadows", {})
    router = Router(
        configs(*backends), policies, settings, keys, Log(log) if log else None, **options
    )
    async with router:
        live = Live(router, log)
        live.watch()
        yield live
        await eventually(lambda: not live.counters())
    await eventually(lambda: _left_over(before) == set())


def _left_over(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Tasks that are new and not of a server of these tests."""
    ours = ("Server._serve",)
    return {
        task
        for task in asyncio.all_tasks() - before
        if getattr(task.get_coro(), "__qualname__", "") not in ours
    }


def configs(*backends: Server | str) -> list[BackendConfig]:
    return [BackendConfig(b if isinstance(b, str) else b.url) for b in backends]


@asynccontextmanager
async def listening(
    *backends: Server | str,
    policy: Callable[[], Policy] = lambda: first,
    settings: RouterConfig = QUICK,
    keys: Keys | None = None,
    **options: Any,
) -> AsyncIterator["Listening"]:
    """A router on a port of its own, as `makespan serve` runs it."""
    router = Router(configs(*backends), {"tested": policy}, settings, keys, **options)
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = server(router, "127.0.0.1", 0, found.set_result)
    task = asyncio.create_task(running.serve())
    try:
        yield Listening(router, running, task, await soon(found))
    finally:
        running.should_exit = True
        await soon(task)


@dataclass
class Listening:
    """A router that listens."""

    router: Router
    server: Any
    task: asyncio.Task[None]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, *parts: bytes) -> bytes:
        """What comes back for these bytes until the connection is closed."""
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        try:
            return await soon(reader.read())
        finally:
            writer.close()


def alone(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that is a coroutine, run in an event loop of its own."""

    @wraps(test)
    def running(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))  # type: ignore[arg-type]

    return running
