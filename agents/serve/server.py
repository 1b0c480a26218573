"""The server that the router runs in: uvicorn, with limits on what a client may send before it is
answered."""

import logging
import math
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from makespan.agents.serve.app import application
from makespan.agents.serve.config import LimitConfig, TimeoutConfig
from makespan.agents.serve.router import Router

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
BACKLOG = 4096

END = b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large" + END
TOO_SLOW = b"HTTP/1.1 408 Request Timeout" + END


def protocol(limits: LimitConfig, timeouts: TimeoutConfig) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, which waits without end for a head without end, with limits to both."""

    class Limited(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._ended = False
            self._await_head()

        def _await_head(self) -> None:
            self._in_head, self._head_bytes = True, 0
            self._deadline = self.loop.call_later(timeouts.request_s, self._end, TOO_SLOW)

        def data_received(self, data: bytes) -> None:
            self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes > limits.head_bytes:
                self._end(TOO_LARGE)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if not self._in_head:  # a further request on the same connection
                self._await_head()

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._deadline.cancel()
            # The application has its own limit, and says so; this is for bodies that it does not
            # wait for.
            self._deadline = self.loop.call_later(2 * timeouts.request_s, self.transport.close)
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > limits.head_bytes:
                self._end(TOO_LARGE)
                raise ValueError("the head is too large")  # stops the parser
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._deadline.cancel()
            super().on_message_complete()

        def _end(self, answer: bytes) -> None:
            if not self._ended:
                self._ended = True
                self.transport.write(answer)
                self.transport.close()

        def send_400_response(self, msg: str) -> None:
            if not self._ended:
                super().send_400_response(msg)

        def connection_lost(self, exc: Exception | None) -> None:
            self._deadline.cancel()
            super().connection_lost(exc)

    return Limited


class Server(uvicorn.Server):
    """Serves until it is told to stop (SIGTERM, Ctrl-C), then answers what is in flight."""

    def __init__(
        self, config: uvicorn.Config, router: Router, started: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._router = router
        self._told = started

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._told(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: Any) -> None:
        if not self._router.draining:
            drain_s = self._router.settings.timeouts.drain_s
            log.info("stopping: what is in flight has %g s to end (--timeouts.drain-s)", drain_s)
        self._router.draining = True
        super().handle_exit(sig, frame)


def server(
    router: Router, host: str, port: int, started: Callable[[str], None] = lambda url: None
) -> Server:
    """A server of the router; `run()` it, or await `serve()`.

    Args:
        port: 0: any free one.
        started: is told the URL once requests are accepted.
    """
    settings = router.settings
    config = uvicorn.Config(
        application(router),
        host=host,
        port=port,
        http=protocol(settings.limits, settings.timeouts),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.timeouts.drain_s),
    )
    return Server(config, router, started)
