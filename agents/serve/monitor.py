"""Keeps watch over backends: a task for the health of each, one for its models, one for gauges."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from makespan.agents.serve.backend import Backend
from makespan.agents.serve.config import RouterConfig
from makespan.agents.serve.scrape import ScrapeError, parse
from makespan.agents.serve.upstream import Upstream, UpstreamError

PROBE = {"prompt": "0", "max_tokens": 1, "temperature": 0}
"""The least that makes an engine step."""

MOST_READ = 16 * 2**20
"""Bytes of an answer to the monitor."""

MODELS_PERIOD_S = 10.0
"""Between two looks at what a backend serves: adapters are loaded while it runs."""

Look = Callable[[Backend], Coroutine[Any, Any, None]]

log = logging.getLogger(__name__)


class Monitor:
    """Watches backends while they are in use.

    Args:
        upstream: the client.
        settings: periods, time limits.
        headers: that go with every request, the backends' key for one.
        changed: is called when a backend came back or went away.
        renewed: is called when an engine's KV cache is found to be another than policies know.
    """

    def __init__(
        self,
        upstream: Upstream,
        settings: RouterConfig,
        headers: Mapping[str, str],
        changed: Callable[[], None],
        renewed: Callable[[], None],
    ) -> None:
        self._upstream = upstream
        self._settings = settings
        self._headers = dict(headers)
        self._changed = changed
        self._renewed = renewed
        self._tasks: dict[Backend, list[asyncio.Task[None]]] = {}

    def watch(self, backend: Backend) -> None:
        """Begin to watch a backend."""
        health_s, gauges_s = self._settings.health.period_s, self._settings.gauges.period_s
        self._tasks[backend] = [
            asyncio.create_task(_repeat(self._check, backend, health_s)),
            asyncio.create_task(_repeat(self._scrape, backend, gauges_s)),
            asyncio.create_task(_repeat(self._find_models, backend, MODELS_PERIOD_S)),
        ]

    async def leave(self, backend: Backend) -> None:
        """Stop watching a backend."""
        tasks = self._tasks.pop(backend, [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop watching all."""
        for backend in list(self._tasks):
            await self.leave(backend)

    async def _check(self, backend: Backend) -> None:
        try:
            good = await self._answers(backend)
        except UpstreamError:
            good = False
        if backend.checked(good):
            log.warning("%s is %s", backend.url, "back" if good else "gone: it fails its checks")
            self._changed()
        if good and not backend.models:
            await self._find_models(backend)

    async def _answers(self, backend: Backend) -> bool:
        """Whether `/health` says so; a server without such a page lives if it answers at all."""
        status, _ = await self._get(backend, "/health", self._settings.health.timeout_s)
        return status in (200, 404)

    async def _find_models(self, backend: Backend) -> None:
        with suppress(UpstreamError, ValueError):  # not known: not held against the backend
            await self.models(backend)

    async def models(self, backend: Backend) -> list[dict[str, Any]]:
        """What a backend lists under `/v1/models`; from now on it is known to serve these.

        Raises:
            UpstreamError: it does not answer.
            ValueError: it answers with something else.
        """
        _, body = await self._get(backend, "/v1/models", self._settings.health.timeout_s)
        try:
            found = json.loads(body)
        except RecursionError:
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("data"), list):
            raise ValueError(f"{backend.url}/v1/models has no list of models")
        models = [model for model in found["data"] if isinstance(model, dict) and "id" in model]
        backend.models = frozenset(str(model["id"]) for model in models)
        return models

    async def _scrape(self, backend: Backend) -> None:
        timeout_s = self._settings.gauges.timeout_s
        with suppress(UpstreamError, ScrapeError):  # then the old values stay, and age
            status, body = await self._get(backend, "/metrics", timeout_s)
            report = parse(body.decode("utf-8", "replace")) if status == 200 else None
            if report is not None and backend.scraped(time.monotonic(), report):
                self._renewed()
        if backend.trust.due_probe(time.monotonic()):
            await self._probe(backend)

    async def _probe(self, backend: Backend) -> None:
        """Make a backend step whose gauges are stuck."""
        log.warning("the gauges of %s are stuck: sending it one token's work", backend.url)
        body = json.dumps(PROBE | {"model": next(iter(backend.models), "")}).encode()
        headers = self._headers | {"content-type": "application/json"}
        url = f"{backend.url}/v1/completions"
        with suppress(UpstreamError):  # the health checks judge it
            await self._ask("POST", url, headers, body, self._settings.health.timeout_s)

    async def _get(self, backend: Backend, path: str, timeout_s: float) -> tuple[int, bytes]:
        return await self._ask("GET", backend.url + path, self._headers, None, timeout_s)

    async def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> tuple[int, bytes]:
        """Status and body of an answer that must be whole in time.

        Raises:
            UpstreamError: it is not, or too long.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._upstream.request(method, url, headers, body, timeout_s) as answer,
            ):
                return answer.head.status, await answer.body(MOST_READ)
        except TimeoutError:
            raise UpstreamError("timeout", "the answer was not whole in time") from None


async def _repeat(look: Look, backend: Backend, period_s: float) -> None:
    """Look now and every `period_s`, jittered so that backends are not asked in step."""
    while True:
        try:
            await look(backend)
        except Exception:
            log.exception("watching %s failed; going on", backend.url)
        await asyncio.sleep(period_s * random.uniform(0.9, 1.1))
