"""The client that asks: open loop at a fixed mean rate, or closed loop as fast as answers come.

It runs as a process of its own: `python -m makespan.experiments.serve_bench.load JSON`, a
`LoadConfig`, prints what was measured as JSON.
"""

import asyncio
import gc
import itertools
import json
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httptools
import uvloop

from makespan.experiments.serve_bench.fake_backend import MODEL

SYSTEM_PROMPTS = 8
WORDS = ("a", "router", "places", "every", "request", "where", "its", "prefix", "is", "cached")

STALL_S = 15.0
"""Without any answer or chunk for so long, what is still awaited is counted as an error."""

RAMP = 0.25
"""Share of a closed loop's time that is not counted: until then not all are under way."""

STAMP = re.compile(rb'"(?:content|text)": ?"(\d+) "')
"""When a chunk was sent, ns."""


@dataclass(frozen=True)
class LoadConfig:
    """What is asked, and how fast.

    Attributes:
        urls: servers, which are asked in turn.
        requests: how many, unless `seconds` is given.
        rate: mean of requests/s in an open loop with exponential gaps; 0 for a closed loop.
        concurrency: requests under way in a closed loop.
        seconds: how long a closed loop goes on; 0 to count requests.
        chunks: of each streamed answer; 0 for answers that are not streamed.
        pause_ms: time between the chunks of an answer.
        words: of an answer that is not streamed.
        prompt_chars: length of the prompts, a quarter of it a shared system prompt.
        seed: no two loads of a running router should have the same, for prompts would come again.
    """

    urls: Sequence[str]
    requests: int = 0
    rate: float = 0.0
    concurrency: int = 1
    seconds: float = 0.0
    chunks: int = 0
    pause_ms: float = 0.0
    words: int = 4
    prompt_chars: int = 4000
    seed: int = 0


@dataclass
class Tally:
    """What has come so far; times in ns."""

    answers: int = 0
    chunks: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    answer_ns: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    chunk_ns: list[int] = field(default_factory=list)

    @property
    def moves(self) -> int:
        """Grows with everything that happens."""
        return self.answers + self.chunks + self.errors.total()


class Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request under way."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the number of stamped chunks of its answer, when it is complete.

        Raises:
            ConnectionError: from the future, for any other answer than status 200.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._rest, self._chunks = b"", 0
        self._sent_ns = time.monotonic_ns()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._now_ns = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("no HTTP")

    def on_body(self, body: bytes) -> None:
        *events, self._rest = (self._rest + body).split(b"\n\n")
        for event in events:
            if stamp := STAMP.search(event):
                self._note_chunk(int(stamp[1]))

    def _note_chunk(self, sent_ns: int) -> None:
        if not self._chunks:
            self._tally.first_ns.append(self._now_ns - self._sent_ns)
        self._chunks += 1
        self._tally.chunks += 1
        self._tally.chunk_ns.append(self._now_ns - sent_ns)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._fail(f"status {status}")
        elif self._answer and not self._answer.done():
            self._tally.answer_ns.append(self._now_ns - self._sent_ns)
            self._answer.set_result(self._chunks)
        if not self._parser.should_keep_alive():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("connection lost")

    def _fail(self, why: str) -> None:
        self.transport.close()
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))


Ask = Callable[[], Coroutine[Any, Any, None]]
"""Has one request answered."""


class Client:
    """Asks servers in turn over connections that are kept."""

    def __init__(self, config: LoadConfig, tally: Tally) -> None:
        self._config, self._tally = config, tally
        hosts = [url.removeprefix("http://").rstrip("/") for url in config.urls]
        self._hosts = itertools.cycle(hosts)
        self._idle: dict[str, list[Connection]] = {host: [] for host in hosts}
        self._bodies = bodies(config)
        self._connections: list[Connection] = []

    async def ask(self) -> None:
        """Have one request answered, and note how that went."""
        host, body = next(self._hosts), next(self._bodies)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            connection = await self._connection(host)
            chunks = await connection.ask((head + body).encode())
        except OSError as error:
            self._tally.errors[str(error)] += 1
            return
        self._idle[host].append(connection)
        if chunks == self._config.chunks:
            self._tally.answers += 1
        else:
            self._tally.errors[f"{chunks} chunks of {self._config.chunks}"] += 1

    async def _connection(self, host: str) -> Connection:
        while self._idle[host]:
            connection = self._idle[host].pop()
            if not connection.transport.is_closing():
                return connection
        name, _, port = host.partition(":")
        connect = asyncio.get_running_loop().create_connection
        _, connection = await connect(lambda: Connection(self._tally), name, int(port))
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.transport.close()


def bodies(config: LoadConfig) -> Iterator[str]:
    """Chat requests without end: one of a few system prompts, and a question nobody asked yet."""
    rng = random.Random(config.seed)
    system_chars = config.prompt_chars // 4
    question_chars = config.prompt_chars - system_chars
    text = " ".join(rng.choices(WORDS, k=20_000 + config.prompt_chars))
    shared = " ".join(random.Random(0).choices(WORDS, k=SYSTEM_PROMPTS * system_chars))
    form = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "system", "content": "%s"}, {"role": "user", "content": "%s"}],
            "max_tokens": config.chunks or config.words,
            "stream": config.chunks > 0,
            "seed": round(1000 * config.pause_ms),
        }
    )
    while True:
        system = system_chars * rng.randrange(SYSTEM_PROMPTS)
        question = rng.randrange(20_000)
        yield form % (
            shared[system : system + system_chars],
            f"{rng.getrandbits(64):x} {text[question : question + question_chars]}",
        )


async def measure(config: LoadConfig) -> dict[str, Any]:
    """Put the load on the servers; rates, quantiles in ms, and errors by kind."""
    tally = Tally()
    client = Client(config, tally)
    try:
        rates = await _put(config, client.ask, tally)
    finally:
        client.close()
    return rates | {
        "answers": tally.answers,
        "chunks": tally.chunks,
        "errors": dict(tally.errors),
        "answer_ms": quantiles_ms(tally.answer_ns),
        "first_ms": quantiles_ms(tally.first_ns),
        "chunk_ms": quantiles_ms(tally.chunk_ns),
    }


async def _put(config: LoadConfig, ask: Ask, tally: Tally) -> dict[str, float]:
    """Ask in the way that is wanted; the rates."""
    if config.seconds:
        return await _closed_loop_for(config, ask, tally)
    begin_s, turns = time.monotonic(), iter(range(config.requests))
    if config.rate:
        tasks = await _open_loop(config, ask)
    else:
        tasks = _closed_loop(config, ask, lambda: next(turns, None) is None)
    await _settle(tasks, tally)
    return _rates(tally, Tally(), time.monotonic() - begin_s)


async def _open_loop(config: LoadConfig, ask: Ask) -> list[asyncio.Task[None]]:
    rng, due_s, tasks = random.Random(config.seed), time.monotonic(), []
    for _ in range(config.requests):
        due_s += rng.expovariate(config.rate)
        await asyncio.sleep(due_s - time.monotonic())
        tasks.append(asyncio.create_task(ask()))
    return tasks


def _closed_loop(
    config: LoadConfig, ask: Ask, over: Callable[[], bool]
) -> list[asyncio.Task[None]]:
    async def go_on() -> None:
        while not over():
            await ask()

    return [asyncio.create_task(go_on()) for _ in range(config.concurrency)]


async def _closed_loop_for(config: LoadConfig, ask: Ask, tally: Tally) -> dict[str, float]:
    """The rates, and the share of a core that the client takes, from the end of the ramp on."""
    end_s = time.monotonic() + config.seconds
    tasks = _closed_loop(config, ask, lambda: time.monotonic() >= end_s)
    await asyncio.sleep(RAMP * config.seconds)
    before, before_s = Tally(tally.answers, tally.chunks), time.monotonic()
    before_cpu_s = time.process_time()
    await asyncio.sleep(end_s - time.monotonic())
    seconds = time.monotonic() - before_s
    busy = {"client_busy": (time.process_time() - before_cpu_s) / seconds}
    rates = _rates(tally, before, seconds)
    await _settle(tasks, tally)
    return rates | busy


async def _settle(tasks: Sequence[asyncio.Task[None]], tally: Tally) -> None:
    """Wait for all tasks, as long as anything happens."""
    pending = set(tasks)
    while pending:
        moves = tally.moves
        _, pending = await asyncio.wait(pending, timeout=STALL_S)
        if pending and tally.moves == moves:
            tally.errors["no answer"] += len(pending)
            for task in pending:
                task.cancel()
            return


def _rates(now: Tally, before: Tally, seconds: float) -> dict[str, float]:
    return {
        "requests_per_s": (now.answers - before.answers) / seconds,
        "chunks_per_s": (now.chunks - before.chunks) / seconds,
    }


def quantiles_ms(times_ns: Sequence[int]) -> dict[str, float] | None:
    """p50 and p99 in ms; None of fewer than two."""
    if len(times_ns) < 2:
        return None
    cuts = statistics.quantiles(times_ns, n=100, method="inclusive")
    return {"p50": cuts[49] / 1e6, "p99": cuts[98] / 1e6}


def as_argument(config: LoadConfig) -> str:
    """What `main` reads."""
    return json.dumps(asdict(config))


def main(argument: str) -> None:
    """Measure, and print the result as JSON."""
    gc.disable()  # a collection would be a delay, and there is little to collect
    print(json.dumps(uvloop.run(measure(LoadConfig(**json.loads(argument))))))


if __name__ == "__main__":
    main(sys.argv[1])
