"""Dispatching rules on Taillard's job shops, against tables of their gaps to the best known.

Two kinds of tables are in circulation under the same names of rules, since schedules are made in
different ways (`makespan.envs.jobshop.generation.Way`); each row here says which.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from makespan.baselines.jobshop import dispatch
from makespan.envs.jobshop.generation import Way
from makespan.experiments.fidelity.row import Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.jobshop import BENCHMARKS, benchmark

SIZES = ("15x15", "20x15", "20x20", "30x15", "30x20", "50x15", "50x20", "100x20")
"""Jobs and machines of Taillard's instances, ten of each."""

INSTANCES = [f"ta{number:02d}" for number in range(1, 1 + 10 * len(SIZES))]
"""Of these sizes in turn."""

GAPS: dict[tuple[Way, str], list[float]] = {
    ("nondelay", "spt"): [25.9, 32.8, 27.8, 35.3, 34.5, 24.1, 25.5, 14.4],
    ("nondelay", "lpt"): [41.2, 46.2, 40.9, 49.1, 50.3, 41.2, 43.7, 31.9],
    ("nondelay", "mwkr"): [19.2, 23.4, 21.8, 23.9, 25.2, 16.9, 17.9, 8.3],
    ("nondelay", "tail"): [19.5, 20.0, 17.7, 20.3, 23.8, 14.3, 15.2, 6.5],
    ("nondelay", "mor"): [20.5, 23.6, 21.7, 22.8, 25.0, 17.4, 17.7, 9.2],
    ("nondelay", "mor_spt"): [16.7, 23.4, 19.5, 21.5, 24.0, 15.7, 16.3, 7.9],
    ("nondelay", "fdd_mwkr"): [17.7, 21.3, 19.9, 21.7, 24.1, 15.3, 16.3, 7.6],
    ("nondelay", "fdd_tail"): [17.2, 20.2, 17.3, 20.4, 22.1, 14.7, 13.9, 7.3],
    ("nondelay", "tail_p"): [16.6, 17.3, 18.3, 16.3, 19.0, 12.2, 12.5, 3.7],
    ("nondelay", "fifo"): [23.9, 31.4, 27.4, 31.2, 31.2, 20.7, 23.9, 13.6],
    ("active", "spt"): [58.4, 71.5, 65.6, 70.9, 77.4, 66.2, 71.6, 56.9],
    ("active", "mwkr"): [26.9, 28.6, 27.9, 31.2, 33.6, 23.5, 24.7, 12.1],
    ("active", "mor"): [26.8, 30.7, 27.8, 29.1, 34.7, 21.9, 23.9, 12.2],
    ("active", "fdd_mwkr"): [25.9, 28.0, 25.6, 30.4, 32.2, 21.4, 23.0, 12.1],
    ("append", "spt"): [416.9, 535.8, 625.0, 606.0, 774.4, 623.8, 876.0, 920.2],
    ("append", "mwkr"): [54.3, 59.8, 62.8, 66.9, 67.7, 60.4, 64.5, 49.9],
    ("append", "mor"): [41.4, 46.4, 44.4, 43.6, 54.7, 34.0, 45.7, 25.4],
    ("append", "fdd_mwkr"): [41.2, 42.1, 43.9, 50.6, 53.1, 41.8, 46.6, 33.3],
    ("insert", "spt"): [56.9, 63.8, 65.3, 67.7, 67.4, 50.3, 55.3, 39.8],
}
"""Way and rule -> mean gap to the best known makespan in % per size, by another implementation of
the same definitions, with ties by the number of the job."""

CORSINI: dict[str, list[float]] = {
    "spt": [26.1, 32.3, 28.3, 35.0, 33.4, 24.0, 25.6, 14.0],
    "mwkr": [19.1, 23.3, 21.8, 24.1, 24.8, 16.5, 17.8, 8.3],
    "mor": [20.4, 24.9, 22.9, 22.8, 26.8, 17.6, 16.8, 8.7],
}
"""Rule -> the same without delay as published, with ties of their own."""

WORDS: dict[Way, str] = {
    "nondelay": "without delay",
    "active": "active (Giffler-Thompson)",
    "append": "appended (semi-active)",
    "insert": "inserted (left shift)",
}


def rows(_: Sources) -> Iterator[Row]:
    """The size of Taillard's instances on which any rule is furthest from its table, per way."""
    for way, words in WORDS.items():
        apart = np.array([gaps(way, rule) - known for (w, rule), known in GAPS.items() if w == way])
        yield Row(
            f"dispatching {words} by {len(apart)} rule{'s' * (len(apart) > 1)}, Taillard's 80 job "
            "shops: largest difference of the mean gap of a size",
            "another implementation of the same definitions",
            0,
            float(abs(apart).max()),
            0.5,
            "absolute",
            "points",
        )
    for rule, known in CORSINI.items():
        yield Row(
            f"mean gap to the best known of {rule.upper()} without delay on Taillard's 80",
            "Corsini et al., NeurIPS 2024, whose ties are others",
            float(np.mean(known)),
            float(gaps("nondelay", rule).mean()),
            0.5,
            "absolute",
            "%",
        )


@cache
def gaps(way: Way, rule: str) -> np.ndarray:
    """float64 (8,): mean gap to the best known in % of each size."""
    found = [BENCHMARKS[name].gap(_makespan(name, rule, way)) for name in INSTANCES]
    return 100 * np.array(found).reshape(len(SIZES), -1).mean(axis=1)


def _makespan(name: str, rule: str, way: Way) -> int:
    schedule = dispatch(benchmark(name), rule, way)
    schedule.validate()
    return schedule.makespan
