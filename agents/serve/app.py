"""The router's HTTP interface: the routed endpoints, and pages about the router itself."""

import base64
import binascii
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from makespan.agents.serve.backends_file import backend_of
from makespan.agents.serve.config import BackendConfig
from makespan.agents.serve.exchange import RETRY_AFTER_S, Receive, Scope, Send, error_body
from makespan.agents.serve.exporter import ENDPOINTS
from makespan.agents.serve.router import Router
from makespan.agents.serve.status_page import status_page

MOST_ADMIN_BYTES = 64 * 1024

SCRIPTS, BROWSERS = (b"bearer",), (b"bearer", b"basic")
"""Schemes of authorization. A browser sends the basic one by itself, also where another site has
made it ask, so nothing can be changed with that."""

Handler = Callable[[Request], Awaitable[Response]]


def application(router: Router) -> Starlette:
    """The ASGI application of a router; its lifespan starts and stops it."""
    pages = Pages(router)
    client, admin = router.keys.client, router.keys.admin

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with router:
            yield

    routes = [Route(path, Guarded(router, client), methods=["POST"]) for path in ENDPOINTS]
    routes += [
        Route("/health", pages.health),
        Route("/v1/models", _with_key(pages.models, client)),
        Route("/metrics", _with_key(pages.metrics, client)),
        Route("/status", _with_key(pages.status, client)),
        Route("/", _with_key(pages.page, client)),
    ]
    if admin:
        path, methods = "/admin/backends", ["GET", "POST", "DELETE"]
        routes.append(Route(path, _with_key(pages.backends, admin, SCRIPTS), methods=methods))
    return Starlette(routes=routes, lifespan=lifespan)


class Guarded:
    """The routed endpoints behind a key; an empty key lets everybody in."""

    def __init__(self, router: Router, key: str) -> None:
        self._router = router
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = dict(scope["headers"]).get(b"authorization", b"")
        if _opens(sent, self._key, BROWSERS):
            await self._router.proxy(scope, receive, send)
        else:
            self._router.turned_away(scope["path"], 401)
            await _unauthorized(BROWSERS)(scope, receive, send)


def _with_key(handler: Handler, key: str, schemes: Collection[bytes] = BROWSERS) -> Handler:
    """The handler for those who have the key."""

    async def guarded(request: Request) -> Response:
        sent = request.headers.get("authorization", "").encode("latin-1")
        return await handler(request) if _opens(sent, key, schemes) else _unauthorized(schemes)

    return guarded


def _opens(sent: bytes, key: str, schemes: Collection[bytes]) -> bool:
    """Whether an `authorization` header has the key, told in constant time.

    As a bearer token, or as the password of the basic scheme, which browsers ask people for.
    """
    if not key:
        return True
    scheme, _, credentials = sent.partition(b" ")
    if scheme.lower() not in schemes:
        return False
    if scheme.lower() == b"basic":
        try:
            credentials = base64.b64decode(credentials, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    return hmac.compare_digest(credentials.strip(), key.encode())


def _unauthorized(schemes: Collection[bytes]) -> Response:
    whose = "the administrator's key" if schemes == SCRIPTS else "a valid API key"
    body = error_body(401, f"{whose} is needed: authorization: Bearer KEY")
    # The last one: browsers ask people for a password where it is the basic one.
    headers = {"www-authenticate": f'{[*schemes][-1].decode().title()} realm="makespan"'}
    return Response(body, 401, headers, "application/json")


class Pages:
    """What the router answers itself."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def health(self, request: Request) -> Response:
        """200 while requests can be served, else 503."""
        if self._router.healthy():
            return JSONResponse({"status": "ok"})
        status = "draining" if self._router.draining else "no backend is available"
        return JSONResponse({"status": status}, 503, {"retry-after": str(RETRY_AFTER_S)})

    async def models(self, request: Request) -> Response:
        """The union of what the backends serve."""
        return JSONResponse({"object": "list", "data": await self._router.models()})

    async def metrics(self, request: Request) -> Response:
        """The router's own metrics, for Prometheus."""
        body, content_type = self._router.metrics()
        return Response(body, headers={"content-type": content_type})

    async def status(self, request: Request) -> Response:
        """What the page shows, as JSON."""
        return JSONResponse(self._router.status(), headers={"cache-control": "no-store"})

    async def page(self, request: Request) -> Response:
        """The status page."""
        body, headers = status_page()
        return Response(body, headers=headers)

    async def backends(self, request: Request) -> Response:
        """List, add or remove backends: `{"url": ..., "hardware": ..., "model": ...}`."""
        try:
            if request.method == "POST":
                added = self._router.add(await _backend_in(request))
                return self._listed(201 if added else 200)
            if request.method == "DELETE":
                removed = await self._router.remove((await _backend_in(request)).url)
                return self._listed(200 if removed else 404)
        except ValueError as error:
            return Response(error_body(400, str(error)), 400, media_type="application/json")
        return self._listed(200)

    def _listed(self, status: int) -> Response:
        return JSONResponse({"backends": self._router.urls()}, status)


async def _backend_in(request: Request) -> BackendConfig:
    """The backend that the body of a request names.

    Raises:
        ValueError: it names none.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_ADMIN_BYTES:
            raise ValueError(f"the body is longer than {MOST_ADMIN_BYTES} bytes")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError('the body must be JSON like {"url": "http://127.0.0.1:8000"}') from None
    return backend_of(values)
