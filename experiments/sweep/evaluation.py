"""A grid, run cell by cell on Ray, and what came of it."""

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from math import nan
from typing import Any

from makespan.experiments import results
from makespan.experiments.regimes.cells import CellFile, Key, Metrics
from makespan.experiments.results import CellSummary
from makespan.experiments.run_folder import plain, to_json
from makespan.experiments.scenario import Scenario
from makespan.experiments.summary_tables import console
from makespan.experiments.sweep.folder import RESULTS, ROWS, SweepFolder
from makespan.experiments.sweep.grid import CELLS, Cell, Grid, row
from makespan.experiments.sweep.on_ray import CellError, measure_all
from makespan.experiments.sweep.table import screen
from makespan.experiments.watching import progress


def evaluate(grid: Grid, folder: SweepFolder, as_json: bool) -> int:
    """Replay the cells that the folder does not hold, and show all.

    Returns:
        0; 1 when a cell failed, 130 when interrupted: what is finished is kept and shown.
    """
    kept = CellFile(folder.path / CELLS)
    measured = kept.read()
    status = 0
    try:
        measure_missing(grid, kept, measured)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, --resume goes on", file=sys.stderr)
        status = 130
    except CellError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    finish(grid, folder, measured, as_json)
    return status


def measure_missing(grid: Grid, kept: CellFile, measured: dict[Key, Metrics]) -> None:
    """Add to `measured`, and to the file, what comes of the cells that are not there yet."""
    cells = grid.cells
    missing = [cell for cell in cells if cell.key not in measured]
    with progress() as bars, closing(measure_all(grid, missing)) as finished:
        bar = bars.add_task("cells", total=len(cells), completed=len(cells) - len(missing))
        for cell, values in finished:
            kept.append(cell.key, values)
            measured[cell.key] = values
            bars.advance(bar)


def finish(grid: Grid, folder: SweepFolder, measured: Mapping[Key, Metrics], as_json: bool) -> None:
    """Write the rows and results of what is finished, and print them."""
    outcome = collect(grid, measured)
    folder.write_text(ROWS, rows(grid, measured))
    folder.write_text(RESULTS, to_json(outcome))
    if as_json:
        print(to_json(outcome), end="")
        return
    out = console(sys.stdout)
    out.print(screen(outcome))
    out.print(f"written to {folder.path}", soft_wrap=True)


def rows(grid: Grid, measured: Mapping[Key, Metrics]) -> str:
    """A line of JSON for every finished cell, in the order of the grid."""
    done = [row(cell, measured[cell.key]) for cell in grid.cells if cell.key in measured]
    return "".join(json.dumps(plain(line)) + "\n" for line in done)


def collect(grid: Grid, measured: Mapping[Key, Metrics]) -> dict[str, Any]:
    """The results: what was run, and for every trace and load the policies, best first.

    A policy of which some seeds are missing (an interrupted sweep) is left out.
    """
    found: dict[tuple[str, float], list[CellSummary]] = {}
    for cell in grid.cells:
        if cell.key in measured:
            place = found.setdefault((cell.trace, cell.load), [])
            place.append(summary(cell, measured[cell.key]))
    return {
        "config": asdict(grid.config),
        "settings": {variant.label: dict(variant.settings) for variant in grid.variants},
        "workloads": [
            {"trace": trace, "load": load} | _outcome(grid.scenarios[trace, load], cells)
            for (trace, load), cells in found.items()
        ],
    }


def _outcome(scenario: Scenario, cells: list[CellSummary]) -> dict[str, Any]:
    """The results of `makespan run`, but for the configuration; one seed has no intervals here."""
    outcome = results.collect(scenario, cells)
    several = len(outcome.pop("seeds")) > 1
    del outcome["config"]
    return outcome | {"interval": outcome["interval"] if several else None}


def summary(cell: Cell, values: Metrics) -> CellSummary:
    """A cell as `makespan run` summarises it, without its log."""
    return CellSummary(
        policy=cell.variant.label,
        seed=cell.seed,
        metrics=values,
        blocks=dict.fromkeys(values, (nan, nan)),
        latencies={},
        timeline={},
        decisions=0,
        decision_s=0.0,
        wall_s=0.0,
    )
