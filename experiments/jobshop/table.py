"""The table that a comparison prints."""

import math
import sys
from typing import Any

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from makespan.experiments.summary_tables import console, number

WIDEST = 1000
"""Columns that a table may have."""

PLUS_MINUS = "\u00b1"


def show(results: dict[str, Any], timing: dict[str, Any]) -> None:
    """Print what was run, the table, and how to read it; as wide as the table needs."""
    screen = console(sys.stdout)
    table = gap_table(results, timing)
    wide = screen.options.update(max_width=WIDEST)
    screen.width = max(screen.width, Measurement.get(screen, wide, table).maximum)
    screen.print(Text(headline(results)), Text(), table, Text(legend(results, timing), "dim"))


def headline(results: dict[str, Any]) -> str:
    """One line: how many job shops of which sizes."""
    instances = results["instances"]
    counts = [f"{sum(i['size'] == s for i in instances)} of {s}" for s in results["sizes"]]
    noun = "job shop" if len(instances) == 1 else "job shops"
    return f"{len(instances)} {noun}: {', '.join(counts)}"


def legend(results: dict[str, Any], timing: dict[str, Any]) -> str:
    """How the figures are defined."""
    unpublished = [i["name"] for i in results["instances"] if not i["published"]]
    best = f"the best known makespan (bounds of {results['bounds_date']})"
    if unpublished:
        best += f", for {', '.join(unpublished)} the best of this run"
    return (
        f"Gap: how much longer than {best}, in %; {PLUS_MINUS}: {results['interval']['level']:.0%} "
        "interval of the mean over instances (Student's t); average: over sizes. "
        "At best: on so many job shops the policy found a schedule as short as that. "
        f"-: the policy found no schedule of some job shop in its time. "
        f"Time: by the clock; CP-SAT has a worker for each of {timing['cores']} cores."
    )


def gap_table(results: dict[str, Any], timing: dict[str, Any]) -> Table:
    """A row for each policy."""
    sizes = results["sizes"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("\npolicy", no_wrap=True)
    for head in ("average\ngap %", *(f"\n{size}" for size in sizes)):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"at best\nof {len(results['instances'])}", justify="right")
    table.add_column("time per\ninstance", justify="right", no_wrap=True)
    for policy in results["policies"]:
        table.add_row(
            policy["policy"],
            percent(policy["gap"]),
            *(percent(policy["gap_by_size"][size]) for size in sizes),
            f"{policy['at_best_known']:.3g}",
            duration(timing["policies"][policy["policy"]]["all"]["seconds"]),
        )
    return table


def percent(estimate: dict[str, float]) -> str:
    """`14.5 +-1.2`, or the mean alone where there is no interval."""
    mean, high = 100 * estimate["mean"], 100 * estimate["high"]
    if math.isnan(mean):
        return "-"
    if math.isnan(high):
        return f"{mean:.1f}"
    return f"{mean:.1f} {PLUS_MINUS}{high - mean:.1f}"


def duration(seconds: float) -> str:
    """Three significant digits, in the unit that suits."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds * 1e6)} us"
