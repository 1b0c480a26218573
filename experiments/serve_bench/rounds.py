"""All systems in turn, and that several times, in another order each time."""

import dataclasses
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from makespan.experiments.serve_bench.measure import Sizes, measure
from makespan.experiments.serve_bench.systems import (
    NotStarted,
    System,
    fake_backends,
    started,
    systems,
)
from makespan.experiments.serve_bench.table import summaries
from makespan.experiments.watching import progress

BACKENDS = 4
"""Fake servers, all in one process."""

SEEDS_PER_ROUND = 1000
"""More than there are loads in a round of a system."""


def bench(peers: Path | None, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """What every router did in every round, what that comes to, and which were left out and why.

    Args:
        peers: environment that has the routers of others.
        sizes: how much is asked.
        repeats: number of rounds.

    Raises:
        CalledProcessError: the client failed.
        OSError: the fake servers did not start.
    """
    compared, left_out = systems(peers)
    with fake_backends(BACKENDS) as urls:
        results = _rounds(compared, left_out, urls, sizes, repeats)
    return {
        "cpus": os.cpu_count(),
        "sizes": dataclasses.asdict(sizes),
        "systems": results,
        "summaries": summaries({name: result["rounds"] for name, result in results.items()}),
        "left_out": left_out,
    }


def _rounds(
    compared: Sequence[System],
    left_out: dict[str, str],
    urls: Sequence[str],
    sizes: Sizes,
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """How each system was started, and its rounds; one that does not start joins `left_out`."""
    results: dict[str, dict[str, Any]] = {}
    turns = [(turn, each) for turn in range(repeats) for each in order(compared, turn, repeats)]
    with progress() as bars:
        bar = bars.add_task("", total=len(turns))
        for turn, system in turns:
            bars.update(bar, description=system.name)
            seeds = count(turn * SEEDS_PER_ROUND)
            try:
                if system.name not in left_out:
                    with started(system, urls) as running:
                        start = {"version": system.version, "command": running.command}
                        result = results.setdefault(system.name, start | {"rounds": []})
                        result["rounds"].append(measure(running, sizes_of(turn, sizes), seeds))
            except NotStarted as error:
                left_out[system.name] = str(error)
            bars.advance(bar)
    return results


def order(compared: Sequence[System], turn: int, repeats: int) -> list[System]:
    """The systems as a round takes them: direct first, the routers in another order each time."""
    direct, *routers = compared
    shift = turn * len(routers) // repeats
    return [direct, *routers[shift:], *routers[:shift]]


def sizes_of(turn: int, sizes: Sizes) -> Sizes:
    """How much a round asks: memory takes many requests, and only the first round measures it."""
    return dataclasses.replace(sizes, memory_after=()) if turn else sizes
