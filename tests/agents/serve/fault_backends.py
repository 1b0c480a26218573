"""Servers that misbehave on purpose, in the event loop of the test."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

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


def closing(*parts: bytes) -> Behaviour:
    """Write these, and close the connection."""
    return saying(*parts, then=close)


def resetting(*parts: bytes) -> Behaviour:
    """Write these, and reset it."""
    return saying(*parts, then=reset)


def stalling(*parts: bytes) -> Behaviour:
    """Write these, and nothing more."""
    return saying(*parts, then=silent)


def halving(*parts: bytes) -> Behaviour:
    """Write these, and close this side."""
    return saying(*parts, then=half_close)


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


def alone(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run in an event loop of its own."""

    @wraps(test)
    def running(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))

    return running
