"""The published job-shop benchmarks, and the best that is known of each.

Taillard's 80 (`ta`) and the 80 of Demirkol, Mehta and Uzsoy (`dmu`) are made anew from their
published seeds. The 82 older ones are in `data/classic.txt`: ft (Fisher and Thompson 1963), la
(Lawrence 1984), abz (Adams, Balas and Zawack 1988), orb (Applegate and Cook 1991), swv (Storer, Wu
and Vaccari 1992) and yn (Yamada and Nakano 1992). Their numbers were the same in two collections,
github.com/ScheduleOpt/benchmarks and github.com/tamy0612/JSPLIB.

`data/benchmarks.csv` has sizes, seeds, and the bounds that the first of these knew on
`BOUNDS_DATE`. Lists that packages ship are older and worse in dozens of places. `data/blocking.csv`
has bounds of the same shops without buffers, where jobs may swap: what CP Optimizer and OptalCP
reached in 30 minutes each, until `BLOCKING_DATE`, of all but `dmu`. The first line of both files is
their date and source.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from makespan.traces.errors import unknown_name
from makespan.traces.jobshop.instance import JobShop

DATA = Path(__file__).parent / "data"

MODULUS, FACTOR = 2**31 - 1, 16807
"""Of the random numbers of both generators (Bratley, Fox and Schrage 1983)."""

TAILLARD_LONGEST, DEMIRKOL_LONGEST = 99, 200
"""Durations are uniform from 1 to these."""

FROM_TWO_SETS = 41
"""From this number on, jobs of `dmu` visit one half of the machines before the other."""


@dataclass(frozen=True)
class Bounds:
    """What is known of the shortest schedule of an instance.

    Attributes:
        lower: no schedule is shorter.
        upper: the best known one.
        is_solved: whether that is proved to be the best.
    """

    lower: int
    upper: int
    is_solved: bool

    def gap(self, makespan: float) -> float:
        """How much longer than the best known, as a share of it."""
        return makespan / self.upper - 1


@dataclass(frozen=True)
class Benchmark(Bounds):
    """A published instance, and what is known of it.

    Attributes:
        name: such as `ta01`.
        jobs, machines: its size.
        seeds: that it is made from; empty if it is listed.
        blocking: bounds without buffers, where jobs may swap; None where there are none.
    """

    name: str
    jobs: int
    machines: int
    seeds: tuple[int, ...]
    blocking: Bounds | None

    @property
    def family(self) -> str:
        """Letters of the name."""
        return self.name.rstrip("0123456789")


Rows = list[dict[str, str]]


def _read(file: str) -> tuple[str, str, Rows]:
    """Date and source of a file of bounds, and its rows."""
    first, *lines = (DATA / file).read_text(encoding="utf-8").splitlines()
    date, source = first.removeprefix("# ").split(", ", 1)
    return date, source, list(csv.DictReader(lines))


BOUNDS_DATE, BOUNDS_SOURCE, _BENCHMARKS = _read("benchmarks.csv")
BLOCKING_DATE, BLOCKING_SOURCE, _BLOCKING = _read("blocking.csv")


def _benchmarks() -> Iterator[Benchmark]:
    blocking = {row["name"]: Bounds(**_bounds(row)) for row in _BLOCKING}
    for row in _BENCHMARKS:
        yield Benchmark(
            **_bounds(row),
            name=row["name"],
            jobs=int(row["jobs"]),
            machines=int(row["machines"]),
            seeds=tuple(int(row[name]) for name in ("seed", "machine_seed") if row[name]),
            blocking=blocking.get(row["name"]),
        )


def _bounds(row: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `Bounds`."""
    return {
        "lower": int(row["lower"]),
        "upper": int(row["best_known"]),
        "is_solved": row["optimal"] == "1",
    }


BENCHMARKS: Mapping[str, Benchmark] = {b.name: b for b in _benchmarks()}
"""Name -> what is known of it."""


@cache
def benchmark(name: str) -> JobShop:
    """The instance of that name, always the same object.

    Raises:
        ValueError: there is none; the message offers the nearest names.
    """
    if name not in BENCHMARKS:
        raise unknown_name("job shop", name, BENCHMARKS)
    known = BENCHMARKS[name]
    if known.family == "ta":
        time_seed, machine_seed = known.seeds
        jobs = taillard(known.jobs, known.machines, time_seed, machine_seed)
    elif known.family == "dmu":
        sets = 2 if int(name.removeprefix("dmu")) >= FROM_TWO_SETS else 1
        jobs = demirkol(known.jobs, known.machines, known.seeds[0], sets)
    else:
        jobs = _classic()[name]
    return JobShop.of(jobs, known.machines, name)


Jobs = list[list[tuple[int, int]]]
"""Machine and duration of each operation of each job."""


class Lehmer:
    """The random numbers of both generators."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def next(self) -> int:
        """From 1 to `MODULUS` - 1."""
        self._state = FACTOR * self._state % MODULUS
        return self._state

    def between(self, low: int, high: int) -> int:
        """Uniform, both ends included."""
        return low + int(self.next() / MODULUS * (high - low + 1))


def taillard(jobs: int, machines: int, time_seed: int, machine_seed: int) -> Jobs:
    """An instance of Taillard, Benchmarks for basic scheduling problems, EJOR 64 (1993), section 4.

    All durations come from the first seed. Each job's machines are shuffled by the second: from the
    first to the last, each changes places with a random one of those from it on.
    """
    times, places = Lehmer(time_seed), Lehmer(machine_seed)
    durations = [[times.between(1, TAILLARD_LONGEST) for _ in range(machines)] for _ in range(jobs)]
    instance = []
    for row in durations:
        order = list(range(machines))
        for i in range(machines):
            other = places.between(i, machines - 1)
            order[i], order[other] = order[other], order[i]
        instance.append(list(zip(order, row, strict=True)))
    return instance


def demirkol(jobs: int, machines: int, seed: int, sets: int) -> Jobs:
    """An instance of Demirkol, Mehta and Uzsoy, Benchmarks for shop scheduling problems, EJOR 109
    (1998), as their generator makes it, whose random numbers are in single precision.

    Each job draws a number per machine and visits the machines in the order of these: all of them,
    or with two sets first one half and then the other. Then it draws its durations.
    """
    numbers = Lehmer(seed)

    def uniform() -> float:
        return float(np.float32(numbers.next())) / (MODULUS + 1)

    bounds = np.linspace(0, machines, sets + 1).astype(int).tolist()
    instance = []
    for _ in range(jobs):
        drawn = [uniform() for _ in range(machines)]
        order = [
            machine
            for begin, end in pairwise(bounds)
            for machine in sorted(range(begin, end), key=drawn.__getitem__)
        ]
        instance.append([(machine, 1 + int(uniform() * DEMIRKOL_LONGEST)) for machine in order])
    return instance


@cache
def _classic() -> dict[str, Jobs]:
    """A line with name, jobs and machines, and below it a line for each job."""
    lines = (DATA / "classic.txt").read_text(encoding="utf-8").splitlines()
    instances, at = {}, 0
    while at < len(lines):
        name, jobs, _ = lines[at].split()
        rows = [list(map(int, line.split())) for line in lines[at + 1 : at + 1 + int(jobs)]]
        instances[name] = [list(zip(row[::2], row[1::2], strict=True)) for row in rows]
        at += 1 + int(jobs)
    return instances
