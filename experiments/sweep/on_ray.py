"""Ray: where it runs, and cells as its tasks."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from makespan.experiments.regimes.cells import Metrics, cores
from makespan.experiments.sweep.grid import Cell, Grid, measure

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # GPUs stay visible; else a FutureWarning
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # traces may be relative paths
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a box, whatever the verbosity
}
"""Environment variables of Ray, where they are not set already."""

RETRIES = 3
"""How often a cell is begun anew whose worker was killed."""

CONNECT_S = 10
"""How long a cluster may take to answer."""

IN_FLIGHT = 1000
"""Cells that Ray has been given at a time: its scheduler slows down with a queue of many more."""


class CellError(RuntimeError):
    """A cell cannot be replayed; the message names it and says why."""


def environment() -> None:
    """Set up Ray's environment variables; it reads most of them when it is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def ray_running(address: str) -> Iterator[None]:
    """Ray, on this machine or connected to the cluster at `address`, until the block ends.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at that address.
    """
    environment()
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        _see_that_it_answers(address)
        ray.init(address=address, **quiet)
    else:
        # On the loopback device: the ports of a cluster of one are nobody else's business.
        here = {"num_cpus": cores(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(address="local", **here, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _see_that_it_answers(address: str) -> None:
    """Ray itself tries for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no Ray cluster at {address}: {error}") from None


def measure_all(grid: Grid, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Metrics]]:
    """Replay the cells wherever Ray has a core; what comes of each, as they are finished.

    Raises:
        CellError: a policy failed, or its worker died again and again.
    """
    submit = _submitter(grid)
    pending: dict[Any, Cell] = {}
    for cell in cells:
        pending[submit(cell)] = cell
        if len(pending) == IN_FLIGHT:
            yield _next_finished(pending)
    while pending:
        yield _next_finished(pending)


def _submitter(grid: Grid) -> Callable[[Cell], Any]:
    """Makes a task of a cell. Requests and policies go into Ray's object store, each once."""
    import ray

    task = ray.remote(max_retries=RETRIES)(measure)
    rules = {variant.label: ray.put(variant.make) for variant in grid.variants}

    @lru_cache(maxsize=1)  # cells come policy after policy on the same requests
    def requests(trace: str, load: float, seed: int) -> Any:
        return ray.put(grid.scenarios[trace, load].workloads[seed])

    def submit(cell: Cell) -> Any:
        workload = requests(cell.trace, cell.load, cell.seed)
        fleet = grid.scenarios[cell.trace, cell.load].fleet
        return task.remote(workload, fleet, rules[cell.variant.label], cell.seed)

    return submit


def _next_finished(pending: dict[Any, Cell]) -> tuple[Cell, Metrics]:
    import ray

    (done,), _ = ray.wait(list(pending))
    cell = pending.pop(done)
    try:
        return cell, ray.get(done)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", error)
        raise CellError(f"{cell.name}: {type(cause).__name__}: {cause}") from error
