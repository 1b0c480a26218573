"""How fast the simulator is, and what it needs: `makespan bench llm`.

`makespan bench serve` measures the live router (`makespan.experiments.serve_bench`), and
`makespan bench jobshop` job shops (`makespan.experiments.jobshop.bench`).

The work is that of a measurement of Vidur, a peer simulator: replicas of Llama-2-7B on A100, token
counts of the Azure conversation trace, Poisson arrivals at 3 requests/s per replica, least-loaded
routing. Every cell runs in a process of its own, so that its peak memory is its own, and after a
warm-up, so that compilation is left out. The share of the bare clock is simulated requests per
time-out that SimPy manages in the same process with nothing else to do; it compares machines.
"""

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import simpy
import tyro

from makespan.baselines.llm import make
from makespan.envs.core.contract import simulate
from makespan.envs.core.registry import load
from makespan.envs.llm.config import EngineConfig, FleetConfig, GaugeConfig, ReplicaConfig
from makespan.envs.llm.fleet import STATUS, Fleet
from makespan.traces.arrivals import Poisson
from makespan.traces.synthetic import (
    SessionConfig,
    SyntheticConfig,
    SystemPromptConfig,
    generate,
)
from makespan.traces.workload import Workload

OTHERS: Mapping[str, str] = {
    "serve": "makespan.experiments.serve_bench.command:main",
    "jobshop": "makespan.experiments.jobshop.bench:main",
}
"""Benchmarks with options of their own: first argument -> what takes the others."""

Caching = Literal["off", "on", "sessions"]
"""Prefix caching off; on, with prompts that share nothing; on, with conversations that re-send
their history behind shared system prompts (longer prompts, so more work per request)."""

RATE_PER_REPLICA = 3.0
WARM_UP_REQUESTS = 500
CLOCK_TIMEOUTS = 200_000
ENVIRONMENT_DECISIONS = 20_000

COLUMNS = {
    "caching": "prefix\ncaching",
    "replicas": "\nreplicas",
    "requests": "\nrequests",
    "rejected": "\nrejected",
    "seconds": "\nseconds",
    "cpu_seconds": "CPU\nseconds",
    "requests_per_s": "\nrequests/s",
    "steps_per_s": "engine\nsteps/s",
    "jumps_per_request": "jumps per\nrequest",
    "share_of_clock": "share of\nbare clock",
    "peak_memory_mb": "peak\nMiB",
}
"""Measurement -> head of its column."""


@dataclass(frozen=True)
class BenchConfig:
    """Measure the speed and memory of a simulator.

    Attributes:
        world: which simulator.
        requests: sizes of the workload.
        replicas: sizes of the fleet; the arrival rate grows with them.
        caching: `off`, `on` (prompts share nothing), `sessions` (prompts share prefixes).
        json: print the measurements as JSON, alone, on stdout.
    """

    world: tyro.conf.Positional[Literal["llm"]] = "llm"
    requests: tuple[int, ...] = (2_000, 20_000, 200_000, 1_000_000)
    replicas: tuple[int, ...] = (4, 16, 64)
    caching: tuple[Caching, ...] = ("off", "on", "sessions")
    json: bool = False

    def __post_init__(self) -> None:
        for option in ("requests", "replicas"):
            if any(size < 1 for size in getattr(self, option)):
                raise ValueError(f"--{option} must be at least 1")


@dataclass(frozen=True)
class CellConfig:
    """One measurement."""

    requests: int
    replicas: int
    caching: Caching


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in OTHERS:
        return load("benchmark", OTHERS, arguments[0])(arguments[1:])
    config = tyro.cli(BenchConfig, args=arguments, prog="makespan bench")
    outcome = bench(config)
    if config.json:
        print(json.dumps(outcome, indent=2))
    else:
        _print_tables(outcome)
    return 0


def bench(config: BenchConfig) -> dict[str, Any]:
    """Every cell, how cost grows with size, and the speed of the gymnasium environment."""
    cells = [
        CellConfig(requests, replicas, caching)
        for caching in config.caching
        for replicas in config.replicas
        for requests in config.requests
    ]
    measured = _with_progress(cells)
    return {
        "cells": measured,
        "growth": growth_exponents(measured),
        "environment_decisions_per_s": in_own_process("environment"),
    }


def in_own_process(task: str) -> Any:
    """What the task, `environment` or a cell as JSON, gives in a fresh Python process."""
    command = [sys.executable, "-m", "makespan.experiments.bench", task]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(cell: CellConfig) -> dict[str, Any]:
    """Replay one workload and say what it took, by the wall clock and in memory.

    Timed is everything from the workload in memory to the log of all requests. A few requests are
    longer than the model's context; engines reject them, which costs next to nothing.
    """
    _replay(dataclasses.replace(cell, requests=WARM_UP_REQUESTS))
    clock_rate = bare_clock_rate(CLOCK_TIMEOUTS)
    seconds, cpu_seconds, counters, log = _replay(cell)
    return dataclasses.asdict(cell) | {
        "rejected": int((log["status"] == STATUS.index("rejected")).sum()),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "requests_per_s": cell.requests / seconds,
        "steps_per_s": counters["steps"] / seconds,
        "jumps_per_request": counters["jumps"] / cell.requests,
        "clock_events_per_s": clock_rate,
        "share_of_clock": cell.requests / seconds / clock_rate,
        "peak_memory_mb": peak_memory_mb(),
    }


def bench_workload(cell: CellConfig) -> Workload:
    """The requests of a cell."""
    sessions = cell.caching == "sessions"
    description = SyntheticConfig(
        requests=cell.requests,
        arrivals=Poisson(RATE_PER_REPLICA * cell.replicas),
        sessions=SessionConfig(longest=3000) if sessions else None,
        system_prompts=SystemPromptConfig() if sessions else None,
    )
    return generate(description)


def bench_fleet(cell: CellConfig) -> FleetConfig:
    """The fleet of a cell; gauges, which least-loaded routing does not read, once a second."""
    engine = EngineConfig(enable_prefix_caching=cell.caching != "off")
    replica = ReplicaConfig(hardware="A100", model="Llama-2-7B", engine=engine)
    gauges = GaugeConfig(period_s=1.0)
    return FleetConfig(replicas=(replica,) * cell.replicas, gauges=gauges)


def bare_clock_rate(timeouts: int) -> float:
    """Process time-outs per second that SimPy manages by itself, with four processes."""
    clock = simpy.Environment()

    def ticking() -> Any:
        for _ in range(timeouts // 4):
            yield clock.timeout(1.0)

    for _ in range(4):
        clock.process(ticking())
    start = time.perf_counter()
    clock.run()
    return timeouts / (time.perf_counter() - start)


def environment_rate(decisions: int) -> float:
    """Steps per second of the gymnasium environment with 8 replicas, chosen in turn."""
    from makespan.envs.llm.env import LLMRouterEnv

    env = LLMRouterEnv(replicas=8, rate=8 * RATE_PER_REPLICA, requests=decisions)
    for count in (WARM_UP_REQUESTS, decisions):
        env.reset(seed=0)
        start = time.perf_counter()
        for step in range(count):
            env.step(step % 8)
    return decisions / (time.perf_counter() - start)


def growth_exponents(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Slope of log(seconds) over log(requests) for each fleet; 1 is a flat cost per request."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["caching"], cell["replicas"]), []).append(cell)
    return [
        {"caching": caching, "replicas": replicas, "exponent": _slope(group)}
        for (caching, replicas), group in groups.items()
        if len({cell["requests"] for cell in group}) > 1
    ]


def peak_memory_mb() -> float:
    """Largest resident set of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform.startswith("linux") else 1024**2)


def _replay(cell: CellConfig) -> tuple[float, float, dict[str, int], dict[str, np.ndarray]]:
    """Seconds it took, by the clock and of the processor, the fleet's counters and its log."""
    workload, config = bench_workload(cell), bench_fleet(cell)
    start, cpu_start = time.perf_counter(), time.process_time()
    fleet = simulate(Fleet(workload, config), make("least_requests"))
    log = fleet.log
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return seconds, cpu_seconds, fleet.counters, log


def _slope(cells: Sequence[dict[str, Any]]) -> float:
    requests, seconds = ([cell[name] for cell in cells] for name in ("requests", "seconds"))
    return statistics.linear_regression(np.log(requests), np.log(seconds)).slope


def _with_progress(cells: Sequence[CellConfig]) -> list[dict[str, Any]]:
    from tqdm import tqdm

    bar = tqdm(cells, unit="cell", disable=not sys.stderr.isatty())
    return [in_own_process(json.dumps(dataclasses.asdict(cell))) for cell in bar]


def _print_tables(outcome: dict[str, Any]) -> None:
    from rich.table import Table

    from makespan.experiments.summary_tables import console

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in COLUMNS.values():
        table.add_column(head, justify="right")
    for cell in outcome["cells"]:
        table.add_row(*(_text(cell[name]) for name in COLUMNS))
    screen = console(sys.stdout)
    screen.print(table)
    for fit in outcome["growth"]:
        screen.print(
            f"prefix caching {fit['caching']}, {fit['replicas']} replicas: "
            f"seconds grow as requests ** {fit['exponent']:.3f}"
        )
    screen.print(
        "gymnasium environment, 8 replicas: "
        f"{outcome['environment_decisions_per_s']:,.0f} decisions/s"
    )


def _text(value: str | float) -> str:
    from makespan.experiments.summary_tables import number

    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number(value)


def _run_task(task: str) -> Any:
    """What a process of its own does: see `in_own_process`."""
    if task == "environment":
        return environment_rate(ENVIRONMENT_DECISIONS)
    return measure(CellConfig(**json.loads(task)))


if __name__ == "__main__":
    print(json.dumps(_run_task(sys.argv[1])))
