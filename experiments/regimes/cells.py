"""The cells of the comparison: replayed by several processes, and kept as they are finished."""

import json
import os
import signal
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from makespan.agents.whole_file import write_text
from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import FleetConfig
from makespan.envs.llm.fleet import Fleet
from makespan.experiments import metrics, policies
from makespan.experiments.regimes.traffic import Traffic
from makespan.experiments.run_folder import plain
from makespan.experiments.scenario import stream
from makespan.traces import TraceWarning
from makespan.traces.workload import Workload

Metrics = dict[str, float]
"""Of one cell: name -> value (`makespan.experiments.metrics.summarise`)."""

Key = tuple[str, str, int, str]
"""What tells a cell from the others: regime, policy, seed, where its requests come from."""


@dataclass(frozen=True)
class Cell:
    """One policy on the requests of one seed in one regime; what a process needs to replay it.

    Attributes:
        regime: its name.
        policy: label of the policy.
        seed: of the run.
        policies: comma list of policies in which the label is found.
        traffic: where the requests come from.
        requests: how many.
        rate: so many per second.
        fleet: what serves them.
    """

    regime: str
    policy: str
    seed: int
    policies: str
    traffic: Traffic
    requests: int
    rate: float
    fleet: FleetConfig

    @property
    def key(self) -> Key:
        """What tells it from other cells of the run, also of a run that found other traces."""
        return self.regime, self.policy, self.seed, self.traffic.origin


class CellFile:
    """Finished cells as JSON Lines: what has been appended stays, whatever happens next.

    Args:
        path: the file; made, with its folder, by the first `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[Key, Metrics]:
        """The cells; a last line that was not written to its end is removed from the file."""
        if not self.path.exists():
            return {}
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        if whole != lines:
            write_text(self.path, "".join(whole))
        return dict(map(_from_line, whole))

    def append(self, key: Key, values: Metrics) -> None:
        """Keep a cell; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps([*key, plain(values)]) + "\n")
            file.flush()
            os.fsync(file.fileno())


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure_all(
    cells: Sequence[Cell], processes: int
) -> Generator[tuple[Cell, Metrics], None, None]:
    """Replay the cells in so many processes; what comes of each, as they are finished."""
    # One process per core is enough; NumPy reads this when it is loaded, in the processes to come.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Forking copies whatever threads and locks the caller has; spawning works everywhere.
    workers = max(1, min(processes, len(cells)))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_process) as pool:
        futures = {pool.submit(measure, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def measure(cell: Cell) -> Metrics:
    """Replay one cell."""
    policy = _factories(cell.policies)[cell.policy](stream(cell.seed, 2))
    requests = _requests(cell.traffic, cell.requests, cell.rate, cell.seed)
    fleet = Fleet(requests, cell.fleet, seed=stream(cell.seed, 1))
    return metrics.summarise(simulate(fleet, policy).log, len(cell.fleet.replicas))


def _start_process() -> None:
    """Set up a process of the pool."""
    # Ctrl-C reaches every process of the terminal; the one that started the others tidies up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The process that started this one has read the same traces, and said so.
    warnings.simplefilter("ignore", TraceWarning)


@cache
def _factories(names: str) -> dict[str, policies.Factory]:
    return policies.resolve(names)


# Cells come policy after policy on the same requests.
@lru_cache(maxsize=1)
def _requests(traffic: Traffic, requests: int, rate: float, seed: int) -> Workload:
    return traffic.draw(requests, rate, seed)


def _from_line(line: str) -> tuple[Key, Metrics]:
    *key, values = json.loads(line)
    regime, policy, seed, origin = key
    known = {name: np.nan if value is None else value for name, value in values.items()}
    return (regime, policy, seed, origin), known
