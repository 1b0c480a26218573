"""A request and what became of it, the answer to its client, and what requests are served with."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from makespan.agents.serve.admission import Admission
from makespan.agents.serve.backend import Backend
from makespan.agents.serve.config import Keys, RouterConfig
from makespan.agents.serve.dispatcher import Assignment, Dispatcher, Wait
from makespan.agents.serve.lengths import OutputLengths
from makespan.agents.serve.meter import TextTokens
from makespan.agents.serve.prompt import Prompt, TokenCounter
from makespan.agents.serve.status import Outcome
from makespan.agents.serve.telemetry import Telemetry
from makespan.agents.serve.upstream import Upstream
from makespan.agents.serve.view import Incoming

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

REQUEST_ID = b"x-request-id"
RETRY_AFTER_S = 1

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


@dataclass
class Exchange:
    """A request and what became of it, for the log and the metrics.

    Attributes:
        arrived_s: seconds of the monotonic clock.
        outcome: `finished`, `failed` (no backend answered, or one died in mid-stream), `cancelled`
            (the client left) or `rejected` (by the router).
        status: of the answer; 0: none was begun.
        ttft_s: from arrival to the first token of a streamed answer.
    """

    id: str
    endpoint: str
    arrived_s: float
    prompt: Prompt | None = None
    incoming: Incoming | None = None
    assignment: Assignment | None = None
    wait: Wait = field(default_factory=Wait)
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
    text_tokens: TextTokens
    lengths: OutputLengths
    telemetry: Telemetry
    hash_key: bytes
    ended: Callable[[Exchange], None]


class Reply:
    """The answer to a client: where it is written, whoever writes it."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange = exchange
        self._send = send

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error of the router's own."""
        body = error_body(refusal.status, str(refusal))
        headers = [(b"content-type", b"application/json")]
        if refusal.status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
        await self.start(refusal.status, headers, len(body))
        await self.pass_on(body, last=True)

    async def break_off(self, status: int, message: str) -> None:
        """End a stream that cannot go on, by an event that says why."""
        await self.pass_on(b"data: " + error_body(status, message) + b"\n\n", last=True)

    async def start(self, status: int, headers: list[Any], length: int | None = None) -> None:
        """Begin the answer."""
        self._exchange.status = status
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


def error_body(status: int, message: str) -> bytes:
    """An error as OpenAI's API words it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": CODES.get(status)}
    return json.dumps({"error": error}).encode()


def kind_of(endpoint: str, prompt: Prompt) -> tuple[str, str, str]:
    """What answers of like length have in common."""
    return endpoint, prompt.model, prompt.slo_class
