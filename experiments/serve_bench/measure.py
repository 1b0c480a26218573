"""One round of measurements of one router, or of the servers without any."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        stream_pause_ms: between the chunks of those; so short that the servers, not the pause,
            bound what is offered.
        seconds: of each closed loop.
        cpu_at: the one of `concurrency` and of `streams` at which CPU time is measured.
        memory_after: requests after which memory is measured, ascending.
    """

    rate: float = 50.0
    timed: int = 1000
    warm_up: int = 100
    chunks: int = 20
    pause_ms: float = 20.0
    concurrency: Sequence[int] = (4, 16, 64, 256)
    streams: Sequence[int] = (16, 64, 256, 512)
    stream_pause_ms: float = 1.0
    seconds: float = 2.0
    cpu_at: int = 64
    memory_after: Sequence[int] = (10_000, 100_000)


QUICK = Sizes(200.0, 4, 4, 3, 1.0, (2,), (2,), 1.0, 0.2, 2, (20, 40))
"""To see that everything works."""


def measure(running: Running, sizes: Sizes, seeds: Iterator[int]) -> dict[str, Any]:
    """Latency at the low rate, memory after many requests, rates at saturation, errors by kind.

    Every system has the same loads in the same order, hence the same prompts and bursts, if it is
    given the same seeds.

    Args:
        running: the system.
        sizes: how much is asked.
        seeds: of loads; the prompts of one must be new to the system.

    Raises:
        CalledProcessError: the client failed.
    """
    errors: Counter[str] = Counter()

    def load(**settings: Any) -> dict[str, Any]:
        before_s = running.cpu_s()
        measured = run_client(LoadConfig(running.urls, seed=next(seeds), **settings))
        errors.update(measured["errors"])
        return measured | {"cpu_s": difference(running.cpu_s(), before_s)}

    start_mb = running.memory_mb()
    latency = latencies(load, sizes)
    grown = [(0, start_mb), *memory_growth(load, running, sizes)]
    figures = latency | saturation(load, sizes)
    memory = [] if start_mb is None else grown
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
    """What a system carries, in whole answers and streamed chunks, and how busy the client is."""
    streamed = {"chunks": sizes.chunks, "pause_ms": sizes.stream_pause_ms}
    whole = {n: load(concurrency=n, seconds=sizes.seconds) for n in sizes.concurrency}
    streams = {n: load(concurrency=n, seconds=sizes.seconds, **streamed) for n in sizes.streams}
    busy = max(run["client_busy"] for run in (*whole.values(), *streams.values()))
    return {
        "client_busy": busy,
        **carried("request", "answers", whole, sizes.cpu_at),
        **carried("chunk", "chunks", streams, sizes.cpu_at),
    }


def carried(
    what: str, counted: str, runs: Mapping[int, Mapping[str, Any]], cpu_at: int
) -> dict[str, Any]:
    """The largest rate, the CPU time for each request or chunk, and both at every concurrency."""
    rates = {n: run[f"{what}s_per_s"] for n, run in runs.items()}
    cpu_us = {n: each_us(run["cpu_s"], run[counted]) for n, run in runs.items()}
    return {
        f"{what}s_per_s": max(rates.values()),
        f"{what}s_per_s_at": rates,
        f"cpu_us_per_{what}": cpu_us[cpu_at],
        f"cpu_us_per_{what}_at": cpu_us,
    }


def each_us(cpu_s: float | None, count: int) -> float | None:
    """CPU time for each of `count`, in us."""
    return None if cpu_s is None or not count else 1e6 * cpu_s / count


def difference(after: float | None, before: float | None) -> float | None:
    """What has been added; None if that is not known."""
    return None if after is None or before is None else after - before
