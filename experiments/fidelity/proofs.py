"""Optima that CP-SAT proves, against those that are known."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from typing import Any, Literal

import numpy as np

from makespan.baselines.jobshop.cpsat import MISSING, Solution
from makespan.baselines.jobshop.relinking import path_relinking
from makespan.baselines.jobshop.tardiness import optimal, tardiness
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.jobshop import BENCHMARKS, JobShop, benchmark
from makespan.traces.jobshop.benchmarks import BOUNDS_DATE
from makespan.traces.jobshop.project import Project
from makespan.traces.jobshop.tardiness import RANGES, TIGHTNESS, jobs_with_due_dates

LITERATURE = f"bounds of ScheduleOpt/benchmarks, {BOUNDS_DATE[:7]}"
LITERATURE_BLOCKING = "ScheduleOpt/optalcp-benchmarks: proved by OptalCP and CP Optimizer"

WHAT = "optimum that CP-SAT proves"

Kind = Literal["job shop", "job shop without buffers, with swaps", "job shop as a project (RCPSP)"]
"""As what the benchmark is solved."""

BLOCKING: Kind = "job shop without buffers, with swaps"
PROJECT: Kind = "job shop as a project (RCPSP)"


@dataclass(frozen=True)
class Proof:
    """Of the optimum of a benchmark.

    Attributes:
        optimum: that is known.
        limit_s: in which it has to be proved.
    """

    name: str
    optimum: int
    limit_s: float
    kind: Kind = "job shop"


QUICK = (
    Proof("ft06", 55, 60),
    Proof("la16", 945, 120),
    Proof("ft06", 63, 60, BLOCKING),
    Proof("ft06", 55, 60, PROJECT),
    Proof("la01", 666, 60, PROJECT),
    Proof("la05", 593, 60, PROJECT),
    Proof("la16", 945, 120, PROJECT),
)

LONG = (
    Proof("ft10", 930, 900),
    Proof("la01", 793, 900, BLOCKING),
    Proof("la02", 793, 900, BLOCKING),
    Proof("la03", 715, 900, BLOCKING),
)

LATE_JOBS, LATE_LIMIT_S = 15, 60.0
"""Jobs of each instance of which CP-SAT has to prove the least total tardiness, and the time."""

RELINKING_STEPS = 7_000_000
"""Moves of path relinking on each of ta01 to ta10: 40 s of one core."""

TAILLARD_S = 60.0
"""That CP-SAT has for each after that."""


def rows(_: Sources) -> Iterator[Row | Missing]:
    """Those that are proved in seconds."""
    for proof in QUICK:
        yield _row(proof)
    yield _least_tardiness()


def long_rows() -> Iterator[Row | Missing]:
    """Those that take minutes, and how close ta01 to ta10 come to theirs."""
    for proof in LONG:
        yield _row(proof)
    yield _taillard()


def _row(proof: Proof) -> Row | Missing:
    what = f"{WHAT}, {proof.name}, {proof.kind}"
    source = LITERATURE_BLOCKING if proof.kind == BLOCKING else LITERATURE
    if find_spec("ortools") is None:
        return Missing(what, source, MISSING)
    return Row(what, source, proof.optimum, _proved(proof), 0, "absolute")


def _proved(proof: Proof) -> float:
    from makespan.baselines.jobshop.exact import solve
    from makespan.baselines.jobshop.exact_project import solve_project

    shop = benchmark(proof.name)
    if proof.kind == PROJECT:
        return _if_proved(solve_project(as_project(shop), proof.limit_s))
    blocking = proof.kind == BLOCKING
    return _if_proved(solve(shop, proof.limit_s, blocking=blocking), blocking)


def _if_proved(solution: Solution[Any], *rules: bool) -> float:
    """Its makespan; nan if it is not proved: that is no optimum, whatever its makespan."""
    if solution.status != "optimal" or solution.schedule is None:
        return float("nan")
    solution.schedule.validate(*rules)
    return float(solution.schedule.makespan)


def as_project(shop: JobShop) -> Project:
    """A plain job shop as a project: an operation is a task, and a machine a resource of 1."""
    ends = set(shop.first_operation.tolist())
    machine = np.eye(shop.machines, dtype=np.int64)[shop.machine].tolist()
    tasks = [
        (takes, machine[task], [] if task + 1 in ends else [task + 1])
        for task, takes in enumerate(shop.duration.tolist())
    ]
    return Project.of([1] * shop.machines, tasks, shop.name)


def _least_tardiness() -> Row | Missing:
    """On how many instances CP-SAT proves what dynamic programming finds."""
    what = (
        f"instances of {LATE_JOBS} jobs on one machine, one of each class of due dates: least "
        "total tardiness that CP-SAT proves, equal"
    )
    source = "dynamic programming over all sets of jobs"
    if find_spec("ortools") is None:
        return Missing(what, source, MISSING)
    rng, classes = np.random.default_rng(0), list(product(TIGHTNESS, RANGES))
    equal = [_equal(*jobs_with_due_dates(LATE_JOBS, *of, rng)) for of in classes]
    return Row(what, source, len(classes), sum(equal), 0, "absolute")


def _equal(duration: np.ndarray, due: np.ndarray) -> bool:
    from makespan.baselines.jobshop.exact_tardiness import solve_tardiness

    solution = solve_tardiness(duration, due, limit_s=LATE_LIMIT_S, workers=1)
    if solution.status != "optimal" or solution.schedule is None:
        return False
    least = tardiness(duration, due, optimal(duration, due))
    return solution.bound == least == tardiness(duration, due, solution.schedule)


def _taillard() -> Row | Missing:
    what = (
        f"mean gap to the optimum of ta01 to ta10, {RELINKING_STEPS:,} moves of path relinking "
        f"and then {TAILLARD_S:g} s of CP-SAT"
    )
    if find_spec("ortools") is None:
        return Missing(what, LITERATURE, MISSING)
    gaps = [_improved(f"ta{number:02d}") for number in range(1, 11)]
    return Row(what, LITERATURE, 0, 100 * float(np.mean(gaps)), 0.1, "absolute", "%")


def _improved(name: str) -> float:
    """Gap to the optimum."""
    from makespan.baselines.jobshop.exact import solve

    shop = benchmark(name)
    begun = path_relinking(shop, steps=RELINKING_STEPS).schedule
    schedule = solve(shop, TAILLARD_S, hint=begun).schedule
    assert schedule is not None  # there was a hint
    schedule.validate()
    return BENCHMARKS[name].gap(schedule.makespan)
