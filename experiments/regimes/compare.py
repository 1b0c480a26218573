"""Run the comparison over regimes, print its table and write its folder.

config.toml    the configuration; `--config` repeats the run from it
results.json   the summary, and every metric of every policy in every regime, by seed too
regimes.md     the same tables that are printed, for documents
cells/         one line of metrics for every finished cell
"""

import sys
from contextlib import closing

from makespan.experiments.regimes import table
from makespan.experiments.regimes.cells import Key, Metrics, cores, measure_all
from makespan.experiments.regimes.outcome import collect
from makespan.experiments.regimes.suite import TABLE, Suite
from makespan.experiments.run_folder import to_json
from makespan.experiments.summary_tables import console
from makespan.experiments.watching import progress


def compare(suite: Suite, as_json: bool, processes: int = 0) -> int:
    """Replay the cells that the folder does not hold, and show all; 0, or 130 when interrupted.

    Args:
        suite: what is run.
        as_json: print results.json, alone, instead of the tables.
        processes: how many replay cells at the same time; 0: one per core. The results do not
            depend on it.
    """
    measured = suite.kept.read()
    status = 0
    try:
        measure_missing(suite, measured, processes or cores())
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, --resume continues", file=sys.stderr)
        status = 130
    finish(suite, measured, as_json)
    return status


def measure_missing(suite: Suite, measured: dict[Key, Metrics], processes: int) -> None:
    """Add to `measured`, and to the file, what comes of the cells that are not there yet."""
    cells = suite.all_cells
    missing = [cell for cell in cells if cell.key not in measured]
    with progress() as bars, closing(measure_all(missing, processes)) as finished:
        total = bars.add_task("regimes x policies x seeds", total=len(cells))
        bars.advance(total, len(cells) - len(missing))
        for cell, values in finished:
            suite.kept.append(cell.key, values)
            measured[cell.key] = values
            bars.advance(total)


def finish(suite: Suite, measured: dict[Key, Metrics], as_json: bool) -> None:
    """Write the results of all finished regimes, and print them."""
    outcome, folder = collect(suite, measured), suite.folder
    if outcome["regimes"]:
        folder.write_json("results.json", outcome)
        folder.write_text(TABLE, table.markdown(outcome))
    if as_json:
        print(to_json(outcome), end="")
    elif outcome["regimes"]:
        screen = console(sys.stdout)
        screen.print(table.screen(outcome), soft_wrap=True)
        screen.print(f"written to {folder.path}", soft_wrap=True)
