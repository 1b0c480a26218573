"""Schedule job shops in every way that there is, and compare: `--env job_shop`.

    python experiments/run.py --env job_shop
    python experiments/run.py --env job_shop --set ta15x15 --policy tail_p,spt:active,cpsat:10s
    python experiments/run.py --env job_shop --set FILE --policy mine.py:solve

The job shops are scheduled one after another in this process, and every schedule is validated
before it counts. A table is printed, and `runs/<name>/` is written, with one row per operation in
`log.parquet` (`makespan.experiments.run_folder`).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from makespan.experiments import run_folder, summary_tables
from makespan.experiments.configuration import read_config, run_path
from makespan.experiments.jobshop import report, results, table
from makespan.experiments.jobshop.cell import WARM_UP, Cell, cell_name, measure, restored
from makespan.experiments.jobshop.config import JobShopConfig
from makespan.experiments.jobshop.instances import Instance, resolve
from makespan.experiments.jobshop.policies import Policy, for_instances
from makespan.experiments.run_folder import RunFolder
from makespan.experiments.watching import progress


@dataclass(frozen=True)
class Command:
    """Compare rules, CP-SAT and solvers on job shops.

    These are the options of `--env job_shop`.

    Attributes:
        run: what is run.
        config: repeat the run of this config.toml; other options change it.
        out: folder of all runs.
        name: name of the run's folder; empty: made from the configuration.
        json: print results.json, alone, on stdout.
        resume: keep the schedules that an interrupted run of the same name finished; the policies
            must be the same still.
    """

    run: Annotated[JobShopConfig, tyro.conf.arg(name="")] = field(default_factory=JobShopConfig)
    config: Path | None = None
    out: Path = Path("runs")
    name: str = ""
    json: bool = False
    resume: bool = False


@dataclass(frozen=True)
class Comparison:
    """A run that has been checked and can start."""

    config: JobShopConfig
    instances: list[Instance]
    policies: dict[str, Policy]
    folder: RunFolder

    @property
    def cells(self) -> list[tuple[Policy, Instance, int]]:
        """Every cell; the policies finish one after another. What draws nothing has one seed."""
        seeds = self.config.seed_list
        return [
            (policy, instance, seed)
            for policy in self.policies.values()
            for instance in self.instances
            for seed in (seeds if policy.draws else seeds[:1])
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        command = parse(list(sys.argv[1:] if argv is None else argv))
        comparison = open_comparison(command)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return carry_out(comparison, command.json)


def parse(argv: Sequence[str]) -> Command:
    """The command line as a `Command`; `--config` gives the defaults of the other options.

    Raises:
        ValueError: an option's value is out of range, or the config file is not valid.
        OSError: the config file cannot be read.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--config", nargs="?")
    file = peek.parse_known_args(argv)[0].config
    default = Command(read_config(JobShopConfig, Path(file))) if file else Command()
    return tyro.cli(Command, args=argv, default=default, prog="makespan run")


def open_comparison(command: Command) -> Comparison:
    """Check the whole request, then open the run's folder.

    Raises:
        ValueError: an unknown name, a file that cannot be read, a policy that cannot schedule one
            of the job shops, a folder in use.
        OSError: a file cannot be read, or the folder cannot be written to.
    """
    instances = resolve(command.run.set)
    chosen, left_out = for_instances(command.run.policy, instances)
    folder = RunFolder(run_path(command.out, command.name, command.run.default_name))
    folder.open(command.run, command.resume)
    if left_out:
        told = "left out, since they take no choice of machines:"
        print(told, ", ".join(left_out), file=sys.stderr)
    return Comparison(command.run, instances, chosen, folder)


def carry_out(comparison: Comparison, as_json: bool) -> int:
    """Run a comparison and show it; 0, 2 where a policy fails, or 130 when interrupted."""
    cells: list[Cell] = []
    status = 0
    try:
        run_cells(comparison, cells)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, --resume continues", file=sys.stderr)
        status = 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    finish(comparison, cells, as_json)
    return status


def run_cells(comparison: Comparison, cells: list[Cell]) -> None:
    """Make every schedule that the folder does not hold yet; append each cell.

    Raises:
        ValueError: a policy cannot schedule a job shop, or its schedule is not valid.
    """
    folder, warm = comparison.folder, set[str]()
    with progress() as bars:
        bar = bars.add_task("schedules", total=len(comparison.cells))
        for policy, instance, seed in comparison.cells:
            bars.update(bar, description=f"{policy.label} on {instance.name}")
            name = cell_name(policy.label, instance, seed)
            if not folder.keeps(name):
                if policy.label not in warm:
                    measure(policy, WARM_UP, seed)
                    warm.add(policy.label)
                folder.keep(name, measure(policy, instance, seed).arrays())
            cells.append(restored(policy.label, instance, seed, folder.kept(name)))
            bars.advance(bar)


def finish(comparison: Comparison, cells: Sequence[Cell], as_json: bool) -> None:
    """Write the results of all finished policies, and print them."""
    folder, done = comparison.folder, list(_of_finished(comparison, cells))
    outcome = results.collect(comparison.config, comparison.instances, done)
    timing = results.timing(comparison.instances, done)
    if done:
        folder.write_json("results.json", outcome)
        folder.write_json("timing.json", timing)
        folder.write_tables("log.parquet", map(log_table, done))
        folder.write_text("report.html", report.render(comparison.config, outcome, timing, done))
    if len(cells) == len(comparison.cells):
        folder.forget_cells()
    if as_json:
        print(run_folder.to_json(outcome), end="")
    elif done:
        table.show(outcome, timing)
        summary_tables.console(sys.stdout).print(f"written to {folder.path}", soft_wrap=True)


def log_table(cell: Cell) -> Any:
    """An Arrow table with a row for each operation; none where there is no schedule."""
    import pyarrow as pa

    schedule, shop = cell.schedule, cell.instance.shop
    rows = shop.operations if schedule else 0
    names = pa.dictionary(pa.int32(), pa.string())

    def repeated(name: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [name]).cast(names)

    operation = np.arange(shop.operations) - shop.first_operation[shop.job]
    none = np.zeros(0, np.int64)
    columns = {
        "policy": repeated(cell.policy),
        "instance": repeated(cell.instance.name),
        "seed": np.full(rows, cell.seed, np.int64),
        "job": shop.job[:rows],
        "operation": operation[:rows],
        "machine": schedule.machine if schedule else none,
        "start": schedule.start if schedule else none,
        "end": schedule.end if schedule else none,
    }
    return pa.table(columns)


def _of_finished(comparison: Comparison, cells: Sequence[Cell]) -> Iterator[Cell]:
    """The cells of the policies that are through with every job shop."""
    groups = results.by_policy(cells)
    for label in comparison.policies:
        wanted = sum(policy.label == label for policy, *_ in comparison.cells)
        if len(groups.get(label, [])) == wanted:
            yield from groups[label]
