"""The HTTP client that speaks to backends: one pool of connections, and few kinds of failure."""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal

import aiohttp

from makespan.agents.serve.config import TimeoutConfig

Kind = Literal["connect", "timeout", "broken"]
"""What went wrong: no connection; nothing came in time; what came was cut off or is no HTTP."""

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern one connection (RFC 9110, section 7.6.1)."""

OWN = frozenset({"server", "date"})
"""Headers of an answer that the router's own server writes."""

KEEP_ALIVE_S = 2.0
"""That an idle connection is kept. vLLM and SGLang close theirs after 5 s (uvicorn's default), and
a request that crosses that on its way fails."""

BODILESS = frozenset({204, 304})
"""Statuses of answers that have no body and say no length."""

UNSENDABLE = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
"""What no header may have (RFC 9110, section 5.5), and the router's own server refuses to send."""

MOST_BUFFERED = 256 * 2**20
"""Bytes of an answer that is not streamed, which is kept until it is whole."""


class UpstreamError(Exception):
    """A backend did not answer, or not to the end.

    Attributes:
        kind: what went wrong.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Head:
    """The beginning of an answer: status, and the headers that are passed on."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content_type: str

    @property
    def is_events(self) -> bool:
        """Whether the body is a stream of server-sent events."""
        return self.content_type == "text/event-stream"


class Answer:
    """An answer whose head has come.

    Attributes:
        head: status and headers.
        delimited: whether the end of the body is marked, so that a cut is noticed.

    Args:
        first_by: time of the event loop until which the body must begin.
        idle_s: between its pieces.
    """

    def __init__(self, response: aiohttp.ClientResponse, first_by: float, idle_s: float) -> None:
        self._response = response
        self._first_by = first_by
        self._idle_s = idle_s
        self._begun = False
        self.head = Head(response.status, _passed_on(response), response.content_type)
        lengths = response.headers
        self.delimited = "content-length" in lengths or "transfer-encoding" in lengths

    async def read(self) -> bytes:
        """The next piece of the body, as soon as it is there; empty at its end.

        Raises:
            UpstreamError: the body does not begin in time, or stops before its end, or for longer
                than `idle_s`.
        """
        now = asyncio.get_running_loop().time()
        with _failures():
            async with asyncio.timeout_at(now + self._idle_s if self._begun else self._first_by):
                chunk = await self._response.content.readany()
        if not (chunk or self._begun or self.delimited or self.head.status in BODILESS):
            raise UpstreamError("broken", "the answer ended before its body")
        self._begun = True
        return chunk

    async def body(self, most: int = MOST_BUFFERED) -> bytes:
        """The whole body.

        Raises:
            UpstreamError: as `read`, or it is longer than `most` bytes.
        """
        parts, size = [], 0
        while chunk := await self.read():
            size += len(chunk)
            if size > most:
                raise UpstreamError("broken", f"an answer of more than {most} bytes")
            parts.append(chunk)
        return b"".join(parts)


class Upstream:
    """A pool of connections to all backends; to be used in `async with`."""

    def __init__(self, timeouts: TimeoutConfig) -> None:
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Upstream":
        # The router bounds what is in flight; bodies are passed on as they are, packed or not.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ttl_dns_cache=10, keepalive_timeout=KEEP_ALIVE_S
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Answer]:
        """The answer to a request, once its head has come. Leaving before its end cancels it.

        Args:
            timeout_s: until the body begins, and between its pieces; None: the configuration's
                `first_byte_s` and `idle_s`.

        Raises:
            UpstreamError: it fails before that.
        """
        assert self._session is not None, "an Upstream is used in `async with`"
        # aiohttp has its doubts about large bodies as bytes.
        data = None if body is None else io.BytesIO(body)
        first_by = asyncio.get_running_loop().time() + (timeout_s or self._timeouts.first_byte_s)
        with _failures():
            async with asyncio.timeout_at(first_by):
                response = await self._session.request(
                    method, url, headers=_in_utf8(headers), data=data, allow_redirects=False
                )
        try:
            if not 200 <= response.status < 600:
                raise UpstreamError("broken", f"the answer has the status {response.status}")
            with _told_of_its_end(response):
                yield Answer(response, first_by, timeout_s or self._timeouts.idle_s)
        finally:
            # A connection whose answer was read to its end is back in the pool by now.
            response.close()


@contextmanager
def _told_of_its_end(response: aiohttp.ClientResponse) -> Iterator[None]:
    """See to it that nobody waits for a body whose connection is gone.

    Where the chunks of a body are malformed, aiohttp 3.14 closes the connection and says nothing
    to who reads the body.
    """
    connection, body = response.connection, response.content

    def tell(_: object = None) -> None:
        if not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("what came is no HTTP"))

    protocol = None if connection is None else connection.protocol
    closed = None if protocol is None else protocol.closed  # a protocol that is idle is false
    if closed is None:
        if connection:
            tell()
        yield
        return
    closed.remove_done_callback(_ignore)
    closed.add_done_callback(_ignore)  # once: else asyncio says that nobody asked how it ended
    closed.add_done_callback(tell)
    try:
        yield
    finally:
        closed.remove_done_callback(tell)


def _ignore(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


class _failures:
    """Turn the many errors of a client into `UpstreamError`s."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            raise UpstreamError("connect", _reason(error)) from None
        if isinstance(error, TimeoutError):
            raise UpstreamError("timeout", "nothing came in time") from None
        if isinstance(error, (aiohttp.ClientError, OSError, ValueError)):
            raise UpstreamError("broken", _reason(error)) from None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _in_utf8(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers, which were read as Latin-1, as aiohttp, which writes UTF-8, sends the same bytes.

    Bytes that are no UTF-8 arrive as the same characters.
    """
    return {name: value if value.isascii() else _utf8(value) for name, value in headers.items()}


def _utf8(value: str) -> str:
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _passed_on(response: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Headers of an answer without those of the connection, and those that may not be."""
    named = ",".join(response.headers.getall("connection", []))
    dropped = HOP_BY_HOP | OWN | {name.strip().lower() for name in named.split(",")}
    return [
        (lowered, value)
        for name, value in response.raw_headers
        if (lowered := name.lower()).decode("latin-1") not in dropped
        and not UNSENDABLE.search(value)
    ]
