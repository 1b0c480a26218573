"""The router as a whole: its parts put together, started, changed while it runs, and stopped."""

import asyncio
import json
import logging
import math
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from makespan.agents.serve.admission import Admission
from makespan.agents.serve.backend import Backend
from makespan.agents.serve.backends_file import BackendsFile, follow
from makespan.agents.serve.config import BackendConfig, Keys, RouterConfig
from makespan.agents.serve.dispatcher import Choice, Dispatcher
from makespan.agents.serve.exchange import Exchange, Parts, kind_of
from makespan.agents.serve.lengths import OutputLengths
from makespan.agents.serve.meter import TextTokens
from makespan.agents.serve.monitor import Monitor
from makespan.agents.serve.prompt import TokenCounter
from makespan.agents.serve.proxy import Proxy
from makespan.agents.serve.record import Log, Served, utc
from makespan.agents.serve.status import BackendState
from makespan.agents.serve.telemetry import Telemetry
from makespan.agents.serve.upstream import Upstream, UpstreamError
from makespan.agents.serve.view import Incoming
from makespan.envs.core.contract import Policy

Makers = Mapping[str, Callable[[], Policy]]
"""Name of a policy -> what makes a fresh one."""

access = logging.getLogger("makespan.serve.access")
access.propagate = False
access.setLevel(logging.WARNING)  # until `log_access_to`


class Router:
    """Backends, a policy, and what stands between; to be used in `async with`.

    Args:
        backends: at the start.
        policies: the policy, and behind it those that are asked but not followed.
        settings: everything else.
        keys: secrets.
        log: where served requests are written.
        tokenizer: a `tokenizer.json`; None: tokens are estimated from characters.
        backends_file: that `backends` come from; it is followed while the router runs.

    Attributes:
        proxy: the ASGI application of the routed endpoints.
        draining: it is about to stop.

    Raises:
        ValueError: two backends have the same URL, or one is on unknown hardware.
    """

    def __init__(
        self,
        backends: Sequence[BackendConfig],
        policies: Makers,
        settings: RouterConfig | None = None,
        keys: Keys | None = None,
        log: Log | None = None,
        tokenizer: Path | None = None,
        backends_file: BackendsFile | None = None,
    ) -> None:
        self.settings = settings or RouterConfig()
        self.keys = keys or Keys()
        self.draining = False
        self._began_s = time.monotonic()
        self._log = log
        self._backends_file = backends_file
        self._backends: dict[str, Backend] = {}
        self._resources = AsyncExitStack()
        policy, *shadows = policies
        self._dispatcher = Dispatcher(
            self.settings,
            policy,
            policies[policy],
            {name: policies[name] for name in shadows},
            self._decided,
        )
        self._admission = Admission(self.settings.limits)
        self._telemetry = Telemetry(
            policy,
            shadows,
            self._states,
            held=lambda: self._dispatcher.held,
            queued=lambda: self._admission.waiting,
            old_after_s=self.settings.gauges.old_after_s,
            now=self._began_s,
            lost=lambda: self._log.lost if self._log else 0,
        )
        self._upstream = Upstream(self.settings.timeouts)
        self._monitor = Monitor(
            self._upstream,
            self.settings,
            self._monitor_headers(),
            changed=self._dispatcher.offer,
            renewed=lambda: self._dispatcher.use(self._dispatcher.backends),
        )
        self._lengths = OutputLengths()
        self.proxy = Proxy(self._parts(TokenCounter(tokenizer)))
        self._new = [self._make(config) for config in _distinct(backends)]

    def _parts(self, counter: TokenCounter) -> Parts:
        return Parts(
            settings=self.settings,
            keys=self.keys,
            upstream=self._upstream,
            dispatcher=self._dispatcher,
            admission=self._admission,
            counter=counter,
            text_tokens=TextTokens(counter),
            lengths=self._lengths,
            telemetry=self._telemetry,
            hash_key=secrets.token_bytes(16),
            ended=self._ended,
        )

    async def __aenter__(self) -> "Router":
        await self._resources.enter_async_context(self._upstream)
        self._resources.push_async_callback(self._monitor.close)
        for backend in self._new:
            self._add(backend)
        self._dispatcher.warm_up()
        if self._backends_file is not None:
            following = asyncio.create_task(follow(self._backends_file, self.replace))
            self._resources.callback(following.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()
        if self._log is not None:
            self._log.close()

    # Backends.

    def _make(self, config: BackendConfig) -> Backend:
        return Backend(config, self.settings)

    def _add(self, backend: Backend) -> None:
        self._backends[backend.url] = backend
        self._monitor.watch(backend)
        self._dispatcher.use(list(self._backends.values()))

    def add(self, config: BackendConfig) -> bool:
        """Route to one more backend; False if it is one already.

        Raises:
            ValueError: it is on unknown hardware.
        """
        if config.url in self._backends:
            return False
        self._add(self._make(config))
        return True

    async def remove(self, url: str) -> bool:
        """Route no more to a backend; what is in flight there is answered. False: it is none."""
        backend = self._backends.pop(url.rstrip("/"), None)
        if backend is None:
            return False
        self._dispatcher.use(list(self._backends.values()))
        await self._forget(backend)
        return True

    async def _forget(self, backend: Backend) -> None:
        """A backend is no longer in the list."""
        backend.draining = True
        self._telemetry.removed(backend.url)
        await self._monitor.leave(backend)

    async def replace(self, configs: Sequence[BackendConfig]) -> None:
        """Route to exactly these from now on. Those that stay as they are keep their state.

        Raises:
            ValueError: two have the same URL, or one is on unknown hardware; then nothing changes.
        """
        wanted = {config.url: config for config in _distinct(configs)}
        kept = {url for url, b in self._backends.items() if wanted.get(url) == b.config}
        new = [self._make(config) for url, config in wanted.items() if url not in kept]
        gone = [self._backends.pop(url) for url in list(self._backends) if url not in kept]
        for backend in new:
            self._backends[backend.url] = backend
            self._monitor.watch(backend)
        # At once: in between there may be none, and who is held would be turned away.
        self._dispatcher.use(list(self._backends.values()))
        for backend in gone:
            await self._forget(backend)

    def urls(self) -> list[str]:
        """Of the backends, in the order in which policies number them."""
        return list(self._backends)

    def _monitor_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys.backend}"} if self.keys.backend else {}

    # What is said of it.

    async def models(self) -> list[dict[str, Any]]:
        """The models of all backends that answer, each once."""

        async def of(backend: Backend) -> list[dict[str, Any]]:
            try:
                return await self._monitor.models(backend)
            except (UpstreamError, ValueError):
                return []

        found = await asyncio.gather(*(of(backend) for backend in self._backends.values()))
        by_name = {str(model.get("id")): model for models in reversed(found) for model in models}
        return [by_name[name] for name in sorted(by_name)]

    def healthy(self) -> bool:
        """Whether requests can be served."""
        now = time.monotonic()
        return not self.draining and any(not b.why(now) for b in self._backends.values())

    def status(self) -> dict[str, Any]:
        """What the status page shows."""
        return self._telemetry.snapshot(time.monotonic(), self.draining)

    def metrics(self) -> tuple[bytes, str]:
        """The router's own metrics, and their content type."""
        return self._telemetry.metrics()

    def reopen_log(self) -> None:
        """Begin a new log file where the old one was moved away."""
        if self._log is not None:
            self._log.reopen()

    def _states(self) -> list[BackendState]:
        now = time.monotonic()
        return [_state_of(backend, now) for backend in self._backends.values()]

    def _decided(self, now: float, id: str, request: Incoming, choice: Choice) -> None:
        self._telemetry.decision(
            now,
            id,
            request.prompt_tokens,
            choice.chosen,
            choice.policy,
            choice.shadows,
            choice.seconds,
        )

    def turned_away(self, endpoint: str, status: int) -> None:
        """A request was answered before it was read."""
        self._telemetry.ended(endpoint, status, "rejected", None, None, 0.0)

    def _ended(self, exchange: Exchange) -> None:
        """A request is over: metrics, the predictor, the logs."""
        took_s = time.monotonic() - exchange.arrived_s
        url = exchange.assignment.backend.url if exchange.assignment else None
        self._telemetry.ended(
            exchange.endpoint,
            exchange.status,
            exchange.outcome,
            url,
            exchange.ttft_s,
            took_s,
            exchange.wait.choice,
        )
        if exchange.outcome == "finished" and exchange.output_tokens and exchange.prompt:
            self._lengths.learn(
                kind_of(exchange.endpoint, exchange.prompt),
                exchange.prompt.prompt_tokens,
                exchange.output_tokens,
            )
        if self._log is not None and exchange.prompt is not None:
            self._log.write(self._served(exchange, took_s))
        if access.isEnabledFor(logging.INFO):
            access.info(_access_line(exchange, url, took_s))

    def _served(self, exchange: Exchange, took_s: float) -> Served:
        """The line of the log about a request."""
        prompt, incoming = exchange.prompt, exchange.incoming
        assignment = exchange.assignment
        choice = exchange.wait.choice
        assert prompt is not None
        assert incoming is not None
        predicted = incoming.predicted_tokens
        return Served(
            arrival_s=exchange.arrived_s - self._began_s,
            wall=utc(time.time() - took_s),
            id=exchange.id,
            endpoint=exchange.endpoint,
            model=prompt.model,
            prompt_tokens=prompt.prompt_tokens,
            output_tokens=exchange.output_tokens,
            predicted_tokens=None if math.isnan(predicted) else predicted,
            prefix_hashes=tuple(prompt.prefix_hashes.tolist()),
            session=prompt.session,
            priority=prompt.priority,
            slo_class=prompt.slo_class,
            stream=prompt.stream,
            backend=assignment.backend.url if assignment else None,
            policy=choice.policy if choice else self._dispatcher.policy,
            choice=choice.chosen if choice else None,
            shadow=dict(choice.shadows) if choice else {},
            decision_s=choice.seconds if choice else 0.0,
            held_s=exchange.wait.held_s,
            attempts=exchange.attempts,
            ttft_s=exchange.ttft_s,
            e2e_s=took_s,
            status=exchange.status,
            outcome=exchange.outcome,
        )


def _distinct(configs: Sequence[BackendConfig]) -> Sequence[BackendConfig]:
    seen = set()
    for config in configs:
        if config.url in seen:
            raise ValueError(f"backend {config.url} is named twice")
        seen.add(config.url)
    return configs


def _state_of(backend: Backend, now: float) -> BackendState:
    replica, why = backend.replica, backend.why(now)
    return BackendState(
        url=backend.url,
        up=not why,
        why=why,
        breaker=backend.breaker.state(now),
        in_flight=replica.requests,
        prefill_tokens=replica.prefill_tokens,
        decode_tokens=replica.decode_tokens,
        running=replica.running,
        waiting=replica.waiting,
        kv_usage=replica.kv_usage,
        gauge_age_s=now - replica.scraped_s,
    )


def _access_line(exchange: Exchange, url: str | None, took_s: float) -> str:
    """One JSON object: who was served by whom, how and how long; nothing of what was said."""
    return json.dumps(
        {
            "wall": utc(time.time() - took_s),
            "id": exchange.id,
            "endpoint": exchange.endpoint,
            "status": exchange.status,
            "outcome": exchange.outcome,
            "backend": url,
            "attempts": exchange.attempts,
            "prompt_tokens": exchange.prompt.prompt_tokens if exchange.prompt else None,
            "output_tokens": exchange.output_tokens,
            "ttft_ms": None if exchange.ttft_s is None else round(1000 * exchange.ttft_s, 3),
            "ms": round(1000 * took_s, 3),
        }
    )


def log_access_to(stream: Any = sys.stdout) -> None:
    """Write the access log, one JSON object per line."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    access.addHandler(handler)
    access.setLevel(logging.INFO)
