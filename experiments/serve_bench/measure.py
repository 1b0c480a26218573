"""One round of measurements of one router, or of the servers without any."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from makespan.experiments.serve_bench.load import LoadConfig, as_argument
from makespan.experiments.serve_bench.processes import output
from makespan.experiments.serve_bench.systems import Running

MEMORY_CONCURRENCY = 64
"""Requests under way while the router is made to serve many, to see its memory grow."""

Load = Callable[..., dict[str, Any]]
"""Puts a load on a system, given settings of `LoadConfig`, and answers what the client measured."""


@dataclass(frozen=True)
class Sizes:
    """How much is asked of every system in a round.

    Attributes:
        rate: requests/s, in an open loop, at which latency is measured.
        timed: how many requests of either kind, whole and streamed, are sent at that rate.
        warm_up: requests of either kind before anything is timed.
        chunks: of a streamed answer.
        pause_ms: between its chunks, at the low rate.
        concurrency: requests under way in the closed loops, one after the other.
        streams: the same for closed loops of streamed answers.
        stream_pause_ms: between the chunks of those.
        seconds: of each closed loop.
        memory_after: requests after which memory is measured, ascending.
    """

    rate: float = 20.0
    timed: int = 300
    warm_up: int = 100
    chunks: int = 20
    pause_ms: float = 20.0
    concurrency: Sequence[int] = (4, 16, 64, 256)
    streams: Sequence[int] = (16, 64, 256, 512)
    stream_pause_ms: float = 5.0
    seconds: float = 2.0
    memory_after: Sequence[int] = (10_000, 100_000)


QUICK = Sizes(200.0, 4, 4, 3, 1.0, (2,), (2,), 1.0, 0.2, (20, 40))
"""To see that everything works."""


def measure(running: Running, sizes: Sizes, seeds: Iterator[int]) -> dict[str, Any]:
    """Latency at the low rate, memory after many requests, rates at saturation, errors by kind.

    Args:
        running: the system.
        sizes: how much is asked.
        seeds: of prompts; what the system has not seen must be new.

    Raises:
        CalledProcessError: the client failed.
    """
    errors: Counter[str] = Counter()

    def load(**settings: Any) -> dict[str, Any]:
        measured = run_client(LoadConfig(running.urls, seed=next(seeds), **settings))
        errors.update(measured["errors"])
        return measured

    start_mb = running.memory_mb()
    latency = latencies(load, sizes)
    memory = [] if start_mb is None else [(0, start_mb), *memory_growth(load, running, sizes)]
    figures = latency | saturation(load, sizes)
    return figures | {"memory_mb": memory, "errors": dict(errors)}


def run_client(config: LoadConfig) -> dict[str, Any]:
    """What the client measures in a process of its own."""
    module = "makespan.experiments.serve_bench.load"
    return json.loads(output([sys.executable, "-m", module, as_argument(config)]))


def latencies(load: Load, sizes: Sizes) -> dict[str, float | None]:
    """p50 and p99 of whole answers, first chunks and the way of each chunk, in ms."""
    streamed = {"chunks": sizes.chunks, "pause_ms": sizes.pause_ms}
    for kind in ({}, streamed):
        load(requests=sizes.warm_up, concurrency=8, **kind)
    whole = load(requests=sizes.timed, rate=sizes.rate)
    stream = load(requests=sizes.timed, rate=sizes.rate, **streamed)
    found = {
        "answer": whole["answer_ms"],
        "first_chunk": stream["first_ms"],
        "chunk": stream["chunk_ms"],
    }
    return {
        f"{what}_{quantile}_ms": (times or {}).get(quantile)
        for what, times in found.items()
        for quantile in ("p50", "p99")
    }


def memory_growth(load: Load, running: Running, sizes: Sizes) -> Iterator[tuple[int, float | None]]:
    """Requests so far, and the memory the system then has, in MiB."""
    asked = 2 * (sizes.warm_up + sizes.timed)
    for mark in sizes.memory_after:
        if mark > asked:
            load(requests=mark - asked, concurrency=MEMORY_CONCURRENCY)
            asked = mark
        yield asked, running.memory_mb()


def saturation(load: Load, sizes: Sizes) -> dict[str, Any]:
    """Requests/s and streamed chunks/s at every concurrency, and the largest of them."""
    requests = {
        concurrency: load(concurrency=concurrency, seconds=sizes.seconds)["requests_per_s"]
        for concurrency in sizes.concurrency
    }
    streamed = {
        "chunks": sizes.chunks,
        "pause_ms": sizes.stream_pause_ms,
        "seconds": sizes.seconds,
    }
    chunks = {
        streams: load(concurrency=streams, **streamed)["chunks_per_s"] for streams in sizes.streams
    }
    return {
        "requests_per_s": max(requests.values()),
        "chunks_per_s": max(chunks.values()),
        "requests_per_s_at": requests,
        "chunks_per_s_at": chunks,
    }
