"""Where the requests of a regime come from: a public trace, or the synthetic workload."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from makespan.envs.llm.capacity import CAPACITY_REQUESTS
from makespan.experiments.fidelity.sources import Sources
from makespan.experiments.regimes.regime import Kind
from makespan.experiments.scenario import stream
from makespan.traces import catalogue
from makespan.traces.readers import read
from makespan.traces.synthetic import synthetic
from makespan.traces.transform import slice_count, to_rate
from makespan.traces.workload import Workload

SAMPLE_SEED = 0
"""Of the synthetic requests that capacity is measured on; no cell draws from this stream."""


@dataclass(frozen=True)
class Traffic:
    """Requests of one kind, as this machine has them.

    Attributes:
        kind: what they are.
        file: the public trace; None: they are synthetic.
    """

    kind: Kind
    file: Path | None

    @property
    def stands_in(self) -> bool:
        """Whether synthetic requests replace a trace that is not here."""
        return self.file is None and bool(self.kind.public)

    @property
    def origin(self) -> str:
        """What is replayed: the trace's file, or the synthetic workload."""
        return f"synthetic {self.kind.synthetic}" if self.file is None else self.file.name

    def check(self, requests: int) -> None:
        """See that windows of so many requests can be cut.

        Raises:
            TraceError: the trace cannot be read.
            ValueError: the trace is too short.
        """
        if (
            self.file is not None
            and (there := len(held_out(self.file, self.kind.first))) < requests
        ):
            raise ValueError(f"--requests {requests}: {self.file} has {there} to compare on")

    def draw(self, requests: int, rate: float, seed: int) -> Workload:
        """The requests of one seed, at `rate` per second: another draw, or window of the trace."""
        if self.file is None:
            # Drawn at the rate, so that people take as long to read and write whatever the load.
            drawn = synthetic(self.kind.synthetic, requests, rate, stream(seed, 0))
        else:
            drawn = window(held_out(self.file, self.kind.first), requests, stream(seed, 0))
        return to_rate(drawn, rate)

    def sample(self) -> Workload:
        """What capacity is measured on: the same whatever the seeds, the load and the policy."""
        if self.file is None:
            return synthetic(self.kind.synthetic, CAPACITY_REQUESTS, seed=SAMPLE_SEED)
        return held_out(self.file, self.kind.first)


def find(kind: Kind, data: str) -> Traffic:
    """The traffic of a kind: its trace out of the folder `data`, or as fetched, or synthetic.

    Args:
        kind: what is wanted.
        data: folder with public traces; empty: there is none.

    Raises:
        ValueError: there is no such folder.
    """
    if data and not Path(data).is_dir():
        raise ValueError(f"--data: {data} is not a folder")
    folders = [Path(data)] if data else []
    for folder in (*folders, catalogue.cache_folder()):
        for name in kind.files:
            if not Sources(folder).lacks(name):
                return Traffic(kind, folder / name)
    return Traffic(kind, None)


def window(trace: Workload, requests: int, seed: int) -> Workload:
    """Consecutive requests from somewhere in the trace."""
    start = int(np.random.default_rng(seed).integers(len(trace) - requests + 1))
    return slice_count(trace, start, start + requests)


@cache
def held_out(file: Path, first: float) -> Workload:
    """The trace without the share `first` of its requests that comes first."""
    trace = read(file)
    return slice_count(trace, int(first * len(trace)))
