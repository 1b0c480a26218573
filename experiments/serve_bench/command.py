"""What a router in front of the servers costs: `makespan bench serve`.

The same client asks the same fake servers directly, through `makespan serve` and through routers of
others, all in turn and several times over; a round is compared with the direct connection of the
same round.

Exit status: 0; 1 if `makespan serve` did not start, requests failed or the measurement did, 2 for
bad input, 130 when interrupted, 143 when terminated. Everything that was started is stopped in any
case.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tyro

MISSING = 'the router takes more packages: pip install "makespan[serve]"'

FIRST_MEMORY = 10_000
"""Requests after which memory is measured for the first time."""


@dataclass(frozen=True)
class ServeBenchConfig:
    """Measure what a router adds to every answer, how much it carries, and its memory.

    Attributes:
        peers: environment that has vllm-router and sglang-router, which are left out without it.
        requests: after how many memory is measured for the last time, in the first round.
        repeats: rounds through all routers.
        quick: a few requests in one round, to see that everything works.
        json: print the measurements as JSON, alone, on stdout.
    """

    peers: Path | None = None
    requests: int = 100_000
    repeats: int = 3
    quick: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        for option in ("requests", "repeats"):
            if getattr(self, option) < 1:
                raise ValueError(f"--{option} must be at least 1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    config = tyro.cli(ServeBenchConfig, args=argv, prog="makespan bench serve")
    if not all(map(find_spec, ("httptools", "uvloop"))):
        print(f"error: {MISSING}", file=sys.stderr)
        return 2
    try:
        with termination_unwinds():
            outcome = measured(config)
    except KeyboardInterrupt:
        print("interrupted: everything that was started is stopped", file=sys.stderr)
        return 130
    except (OSError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(outcome, config.json)
    if failed := failures(outcome["systems"]):
        print(f"error: requests failed: {failed}", file=sys.stderr)
    return int(bool(failed) or any(name.startswith("makespan") for name in outcome["left_out"]))


def measured(config: ServeBenchConfig) -> dict[str, Any]:
    """What `rounds.bench` gives."""
    from makespan.experiments.serve_bench.measure import QUICK, Sizes
    from makespan.experiments.serve_bench.rounds import bench

    if config.quick:
        return bench(config.peers, QUICK, repeats=1)
    marks = sorted({min(FIRST_MEMORY, config.requests), config.requests})
    return bench(config.peers, Sizes(memory_after=marks), config.repeats)


@contextmanager
def termination_unwinds() -> Iterator[None]:
    """SIGTERM ends the process as an exception does, so that whatever was started is stopped."""

    def unwind(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def failures(systems: Mapping[str, Any]) -> str:
    """How many requests failed at each system, and in which ways; empty if none did."""
    errors = {
        name: sum((Counter(each["errors"]) for each in result["rounds"]), Counter[str]())
        for name, result in systems.items()
    }
    return ", ".join(
        f"{found.total():,} at {name} ({'; '.join(found)})"
        for name, found in errors.items()
        if found
    )


def show(outcome: dict[str, Any], as_json: bool) -> None:
    """Print the outcome, as tables or as JSON."""
    from makespan.experiments.serve_bench.table import screen
    from makespan.experiments.summary_tables import console

    if as_json:
        print(json.dumps(outcome, indent=2))
    else:
        console(sys.stdout).print(screen(outcome))
