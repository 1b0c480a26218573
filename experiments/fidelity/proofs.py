"""Optima that CP-SAT proves, against those that are known."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.jobshop import BENCHMARKS, benchmark

LITERATURE = "bounds of ScheduleOpt/benchmarks, 2026-08"
BLOCKING = "ScheduleOpt/optalcp-benchmarks: proved by OptalCP and CP Optimizer"

WHAT = "optimum that CP-SAT proves"


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
    blocking: bool = False


QUICK = (
    Proof("ft06", 55, 60),
    Proof("la16", 945, 120),
    Proof("ft06", 63, 60, blocking=True),
)

LONG = (
    Proof("ft10", 930, 900),
    Proof("la01", 793, 900, blocking=True),
    Proof("la02", 793, 900, blocking=True),
    Proof("la03", 715, 900, blocking=True),
)

TAILLARD_S = 120.0
"""That CP-SAT has for each of ta01 to ta10, after the tabu search."""

TABU_STEPS = 10_000


def rows(_: Sources) -> Iterator[Row | Missing]:
    """Those that are proved in seconds."""
    for proof in QUICK:
        yield _row(proof)


def long_rows() -> Iterator[Row | Missing]:
    """Those that take minutes, and how close ta01 to ta10 come to theirs."""
    for proof in LONG:
        yield _row(proof)
    yield _taillard()


def _row(proof: Proof) -> Row | Missing:
    kind = "job shop without buffers, with swaps" if proof.blocking else "job shop"
    what = f"{WHAT}, {proof.name}, {kind}"
    source = BLOCKING if proof.blocking else LITERATURE
    if find_spec("ortools") is None:
        return Missing(what, source, 'takes OR-Tools: pip install "makespan[solve]"')
    from makespan.baselines.jobshop.exact import solve

    solution = solve(benchmark(proof.name), proof.limit_s, blocking=proof.blocking)
    # What is not proved is no optimum, whatever its makespan.
    ours = float("nan")
    if solution.status == "optimal" and solution.schedule is not None:
        solution.schedule.validate(proof.blocking)
        ours = float(solution.schedule.makespan)
    return Row(what, source, proof.optimum, ours, 0, "absolute")


def _taillard() -> Row | Missing:
    what = (
        f"mean gap to the optimum of ta01 to ta10, {TABU_STEPS:,} steps of tabu search and then "
        f"{TAILLARD_S:g} s of CP-SAT"
    )
    if find_spec("ortools") is None:
        return Missing(what, LITERATURE, 'takes OR-Tools: pip install "makespan[solve]"')
    gaps = [_improved(f"ta{number:02d}") for number in range(1, 11)]
    return Row(what, LITERATURE, 0, 100 * float(np.mean(gaps)), 0.1, "absolute", "%")


def _improved(name: str) -> float:
    """Gap to the best known makespan."""
    from makespan.baselines.jobshop.exact import solve
    from makespan.baselines.jobshop.tabu import tabu_search

    shop = benchmark(name)
    begun = tabu_search(shop, steps=TABU_STEPS).schedule
    schedule = solve(shop, TAILLARD_S, hint=begun).schedule
    assert schedule is not None  # there was a hint
    schedule.validate()
    return BENCHMARKS[name].gap(schedule.makespan)
