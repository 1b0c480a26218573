"""A router that runs in the event loop of the test, asked in memory or over a port."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fault_backends import COMPLETIONS, ENDPOINTS, PATIENCE_S, Server, body_of, eventually, soon

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
