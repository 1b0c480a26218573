"""From a client's request to a backend's answer: one object per request, one method per stage."""

import asyncio
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from makespan.agents.serve.admission import Admission, Full
from makespan.agents.serve.backend import Backend
from makespan.agents.serve.config import Keys, RouterConfig
from makespan.agents.serve.dispatcher import Assignment, Dispatcher, NoBackend
from makespan.agents.serve.lengths import OutputLengths
from makespan.agents.serve.meter import TokenMeter
from makespan.agents.serve.prompt import BadRequest, Prompt, TokenCounter, read_prompt
from makespan.agents.serve.status import Outcome
from makespan.agents.serve.telemetry import Telemetry
from makespan.agents.serve.upstream import BODILESS, Answer, Head, Upstream, UpstreamError
from makespan.agents.serve.view import Incoming

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RETRIED = frozenset({408, 429, *range(500, 600)})
"""Statuses of an answer after which another backend is tried."""

PATIENT = frozenset({408, 429})
"""Those of them that are no fault of the backend's: it has too much to do."""

BACKEND = b"x-makespan-backend"
REQUEST_ID = b"x-request-id"
RETRY_AFTER_S = 1

LONG_BODY = 32 * 2**10
"""Bytes of a body that takes so long to read that it is done beside the event loop."""

CODES = {400: "invalid_request", 401: "invalid_api_key", 408: "request_timeout"}
CODES |= {413: "request_too_large", 502: "bad_gateway", 503: "overloaded", 504: "gateway_timeout"}
"""Status of an error that the router answers itself -> `code` in its body."""


class Refusal(Exception):
    """The router answers with an error of its own.

    Attributes:
        status: of the answer.
        unreached: no connection to the backend was made.
    """

    def __init__(self, status: int, message: str, unreached: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.unreached = unreached


class ClientLeft(Exception):
    """The client is gone before its request was whole."""


@dataclass
class Exchange:
    """A request and what became of it, for the log and the metrics.

    Attributes:
        arrived_s: seconds of the monotonic clock.
        outcome: `finished`, `failed` (no backend answered, or one died in mid-stream), `cancelled`
            (the client left) or `rejected` (by the router).
        status: of the answer; 0: none was begun.
        ttft_s: from arrival to the first byte of a streamed answer.
    """

    id: str
    endpoint: str
    arrived_s: float
    prompt: Prompt | None = None
    incoming: Incoming | None = None
    assignment: Assignment | None = None
    attempts: int = 0
    status: int = 0
    outcome: Outcome = "rejected"
    output_tokens: int = 0
    ttft_s: float | None = None
    tried: set[Backend] = field(default_factory=set)


@dataclass
class Parts:
    """What requests are served with."""

    settings: RouterConfig
    keys: Keys
    upstream: Upstream
    dispatcher: Dispatcher
    admission: Admission
    counter: TokenCounter
    lengths: OutputLengths
    telemetry: Telemetry
    hash_key: bytes
    ended: Callable[[Exchange], None]


class Proxy:
    """An ASGI application that serves the routed endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._served += 1
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        exchange = Exchange(
            _name_of(headers.get("x-request-id", "")) or uuid.uuid4().hex,
            scope["path"],
            time.monotonic(),
        )
        service = Service(self._parts, exchange, self._served, headers, send)
        try:
            body = await self._read(receive, headers)
            await _while_connected(service.serve(body), receive, exchange)
        except Refusal as refusal:
            await service.refuse(refusal)
        except ClientLeft:
            exchange.outcome = "cancelled"
        finally:
            self._parts.ended(exchange)

    async def _read(self, receive: Receive, headers: Mapping[str, str]) -> bytes:
        """The body of a request, if it is small enough and comes in time."""
        most = self._parts.settings.limits.body_bytes
        if headers.get("content-length", "0").isdecimal():
            _check_size(int(headers.get("content-length", "0")), most)
        try:
            async with asyncio.timeout(self._parts.settings.timeouts.request_s):
                return await _whole_body(receive, most)
        except TimeoutError:
            raise Refusal(408, "the body of the request did not come in time") from None


def _name_of(sent: str) -> str:
    """The client's name for a request, as far as it can stand in a header."""
    return "".join(c for c in sent if " " < c <= "~")[:128]


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise Refusal(413, f"the body of the request is longer than {most} bytes")


async def _whole_body(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        _check_size(size, most)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _while_connected(work: Any, receive: Receive, exchange: Exchange) -> None:
    """Do the work until it is done or the client leaves, which cancels it."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            exchange.outcome = "cancelled"
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
    finally:
        gone.cancel()
        if not task.done():  # the server stops, and waits no longer
            exchange.outcome = "cancelled"
            task.cancel()
            await asyncio.wait({task})


class Service:
    """Serves one request."""

    def __init__(
        self,
        parts: Parts,
        exchange: Exchange,
        number: int,
        headers: Mapping[str, str],
        send: Send,
    ) -> None:
        self._parts = parts
        self._exchange = exchange
        self._number = number
        self._headers = headers
        self._send = send
        self._started = False

    async def serve(self, body: bytes) -> None:
        """Answer the request, whatever happens."""
        exchange = self._exchange
        try:
            await self._read_prompt(body)
            async with self._parts.admission:
                exchange.outcome = "failed"
                await self._try_backends(body)
        except BadRequest as error:
            await self.refuse(Refusal(400, str(error)))
        except Full:
            await self.refuse(Refusal(503, "the router has too many requests; try again later"))
        except NoBackend:
            await self.refuse(Refusal(503, "no backend is available; try again later"))
        except Refusal as refusal:
            await self.refuse(refusal)
        except asyncio.CancelledError:
            exchange.outcome = "cancelled"
            raise

    async def _read_prompt(self, body: bytes) -> None:
        parts, exchange = self._parts, self._exchange
        look = (exchange.endpoint, body, self._headers, parts.counter, parts.hash_key)
        if len(body) > LONG_BODY:
            prompt = await asyncio.to_thread(read_prompt, *look)
        else:
            prompt = read_prompt(*look)
        exchange.prompt = prompt
        exchange.incoming = Incoming(
            index=self._number,
            arrival_s=exchange.arrived_s,
            prompt_tokens=prompt.prompt_tokens,
            prefix_hashes=prompt.prefix_hashes,
            session=prompt.session,
            priority=prompt.priority,
            slo_class=prompt.slo_class,
            predicted_tokens=parts.lengths.predict(
                kind_of(exchange.endpoint, prompt), prompt.prompt_tokens, prompt.max_tokens
            ),
        )

    async def _try_backends(self, body: bytes) -> None:
        """Ask one backend after the other until one answers.

        A backend that cannot be reached costs no attempt while there are others to try: a request
        is not lost because many servers are down at once.

        Raises:
            NoBackend, Refusal: none does.
        """
        retry, tried = self._parts.settings.retry, self._exchange.tried
        prompt, failed = self._exchange.prompt, 0
        model = prompt.model if prompt else ""
        while True:
            assignment = await self._route()
            last = failed + 1 == retry.attempts
            failure = await _Attempt(self, assignment, body, last).answer()
            if failure is None:
                return
            tried.add(assignment.backend)
            if not (failure.unreached and self._parts.dispatcher.untried(tried, model)):
                failed += 1
            if failed == retry.attempts:
                raise failure
            await asyncio.sleep(retry.wait_s(max(failed, 1), random.random()))

    async def _route(self) -> Assignment:
        exchange = self._exchange
        assert exchange.incoming is not None
        assert exchange.prompt is not None
        assignment = await self._parts.dispatcher.route(
            exchange.incoming,
            exchange.id,
            exchange.prompt.model,
            exchange.attempts,
            exchange.tried,
        )
        if exchange.attempts:
            self._parts.telemetry.retried(assignment.backend.url)
        exchange.attempts += 1
        exchange.assignment = assignment
        return assignment

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error of the router's own."""
        body = error_body(refusal.status, str(refusal))
        headers = [(b"content-type", b"application/json")]
        if refusal.status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
        await self.start(refusal.status, headers, len(body))
        await self.pass_on(body, last=True)

    async def start(self, status: int, headers: list[Any], length: int | None = None) -> None:
        """Begin the answer."""
        self._exchange.status = status
        self._started = True
        headers = [h for h in headers if h[0] != REQUEST_ID]
        headers.append((REQUEST_ID, self._exchange.id.encode("latin-1", "replace")))
        # A stream may become longer, by an error.
        headers = [h for h in headers if h[0] != b"content-length"]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def pass_on(self, body: bytes, last: bool) -> None:
        """A piece of the answer; waits while the client does not take it."""
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})


class _Attempt:
    """Asks one backend, and passes on what it answers."""

    def __init__(self, service: Service, assignment: Assignment, body: bytes, last: bool) -> None:
        self._service = service
        self._parts = service._parts
        self._exchange = service._exchange
        self._assignment = assignment
        self._body = body
        self._last = last
        self._streamed = False
        self._verdict: bool | None = None

    async def answer(self) -> Refusal | None:
        """None if the client has its answer; else why not, and nothing of one was sent."""
        backend = self._assignment.backend
        headers = forwarded(self._service._headers, self._exchange.id, self._parts)
        url = backend.url + self._exchange.endpoint
        try:
            async with self._parts.upstream.request("POST", url, headers, self._body) as answer:
                return await self._receive(answer)
        except UpstreamError as error:
            self._verdict = False
            self._parts.telemetry.error(backend.url, error.kind)
            status = 504 if error.kind == "timeout" else 502
            message = f"the backend did not answer: {error}"
            return Refusal(status, message, unreached=error.kind == "connect")
        finally:
            self._parts.dispatcher.settle(self._assignment, self._streamed, self._verdict)

    async def _receive(self, answer: Answer) -> Refusal | None:
        status = answer.head.status
        if status in RETRIED:
            self._verdict = None if status in PATIENT else False
            self._parts.telemetry.error(self._assignment.backend.url, str(status))
            if not self._last:
                return Refusal(502, f"the backend answered {status}")
        if answer.head.is_events and status == 200:
            await self._stream(answer)
        else:
            await self._copy(answer)
        return None

    async def _copy(self, answer: Answer) -> None:
        """Pass on an answer that is not streamed, once it is whole."""
        body = await answer.body()
        status = answer.head.status
        if status not in RETRIED:
            self._verdict = True
        if status == 200:
            self._exchange.output_tokens = TokenMeter().whole(body)
        self._exchange.outcome = "finished" if status < 500 else "failed"
        await self._start(answer.head, None if status in BODILESS else len(body))
        await self._service.pass_on(body, last=True)

    async def _start(self, head: Head, length: int | None) -> None:
        url = self._assignment.backend.url.encode()
        await self._service.start(head.status, [*head.headers, (BACKEND, url)], length)

    async def _stream(self, answer: Answer) -> None:
        """Pass on events as they come, byte for byte, from the moment that there is one."""
        chunk = await answer.read()  # fails before anything is sent: then another is asked
        meter = TokenMeter(self._exchange.endpoint)
        await self._start(answer.head, None)
        try:
            while chunk:
                await self._event(chunk, meter)
                chunk = await answer.read()
            if not (answer.delimited or meter.done):
                raise UpstreamError("broken", "the stream ended without its last event")
        except UpstreamError as error:
            self._verdict = False
            self._exchange.outcome = "failed"
            self._parts.telemetry.error(self._assignment.backend.url, f"stream {error.kind}")
            await self._service.pass_on(_error_event(str(error)), last=True)
            return
        self._streamed = self._verdict = True
        self._exchange.outcome = "finished"
        await self._service.pass_on(b"", last=True)

    async def _event(self, chunk: bytes, meter: TokenMeter) -> None:
        tokens = meter.feed(chunk)
        if tokens:
            self._parts.dispatcher.count(self._assignment, tokens)
            self._exchange.output_tokens = meter.tokens
        if self._exchange.ttft_s is None:
            self._exchange.ttft_s = time.monotonic() - self._exchange.arrived_s
        await self._service.pass_on(chunk, last=False)


def forwarded(headers: Mapping[str, str], id: str, parts: Parts) -> dict[str, str]:
    """Headers of a request that reach the backend, under the name that the router gave it."""
    headers = {**headers, "x-request-id": id}
    kept = {name: headers[name] for name in parts.settings.headers if name in headers}
    if parts.keys.backend:
        kept["authorization"] = f"Bearer {parts.keys.backend}"
    elif not parts.keys.client and "authorization" in headers:
        kept["authorization"] = headers["authorization"]
    return kept


def error_body(status: int, message: str) -> bytes:
    """An error as OpenAI's API words it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": CODES.get(status)}
    return json.dumps({"error": error}).encode()


def _error_event(message: str) -> bytes:
    """The last event of a stream whose backend died. Empty lines end what it had begun."""
    body = error_body(502, f"the backend died in the middle of this answer: {message}")
    return b"\n\ndata: " + body + b"\n\n"


def kind_of(endpoint: str, prompt: Prompt) -> tuple[str, str, str]:
    """What answers of like length have in common."""
    return endpoint, prompt.model, prompt.slo_class
