"""Replay a workload through router policies and compare them: `--env llm_router`.

    python experiments/run.py --env llm_router
    python experiments/run.py --env llm_router --trace FILE --policy lmetric,round_robin --load 0.9
    python experiments/run.py --env llm_router --policy all

Installed, the same is `makespan run`. Every policy sees the same workloads: seed by seed the same
requests, the same predictions, the same scrapes. A table is printed, and `runs/<name>/` is written
(`makespan.experiments.run_folder`). The last line, which asks for all policies and names no trace,
compares them over regimes (`makespan.experiments.regimes`).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import Progress

from makespan.envs.core.contract import simulate
from makespan.envs.llm.fleet import Fleet
from makespan.experiments import policies, report, results, run_folder, summary_tables
from makespan.experiments.configuration import run_path
from makespan.experiments.regimes.compare import compare
from makespan.experiments.regimes.suite import open_suite
from makespan.experiments.replay import Cell, replay
from makespan.experiments.results import CellSummary
from makespan.experiments.router_folder import RouterFolder
from makespan.experiments.run_config import COMPARISONS, REGIMES, RunConfig, from_toml
from makespan.experiments.scenario import Scenario, prepare, stream
from makespan.experiments.watching import progress, warnings_in_a_line
from makespan.traces import TraceWarning
from makespan.traces.transform import slice_count
from makespan.traces.workload import Workload

WARM_UP_REQUESTS = 32
"""Requests that each policy routes before its decisions are timed."""


@dataclass(frozen=True)
class Command:
    """Replay a workload through router policies and compare them.

    These are the options of `--env llm_router`; `--env job_shop --help` has those of job shops.

    Attributes:
        run: what is run.
        config: repeat the run of this config.toml; other options change it.
        out: folder of all runs.
        name: name of the run's folder; empty: made from the configuration.
        json: print results.json, alone, on stdout.
        resume: keep the cells that an interrupted run of the same name finished; the policies must
            be the same still, an agent that was trained anew wants another name.
    """

    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    config: Path | None = None
    out: Path = Path("runs")
    name: str = ""
    json: bool = False
    resume: bool = False

    @property
    def folder(self) -> RouterFolder:
        """Where the run is written.

        Raises:
            ValueError: the name is not that of a folder inside `out`.
        """
        return RouterFolder(run_path(self.out, self.name, self.run.default_name))


@dataclass(frozen=True)
class Experiment:
    """A run that has been checked and can start."""

    scenario: Scenario
    policies: dict[str, policies.Factory]
    folder: RouterFolder

    @property
    def cells(self) -> list[tuple[str, int]]:
        """Policy and seed of every cell; the policies finish one after another."""
        return [(label, seed) for label in self.policies for seed in self.scenario.config.seed_list]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        command = parse(argv)
        with warnings_in_a_line(TraceWarning):
            if command.run.trace in COMPARISONS:
                opened = open_suite(command.run, command.folder, command.resume)
            else:
                opened = open_experiment(command)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if isinstance(opened, Experiment):
        return carry_out(opened, command.json)
    return compare(opened, command.json)


def carry_out(experiment: Experiment, as_json: bool) -> int:
    """Run an experiment and show it; 0, or 130 when interrupted."""
    summaries: list[CellSummary] = []
    status = 0
    try:
        run_cells(experiment, summaries)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, --resume continues", file=sys.stderr)
        status = 130
    finish(experiment, summaries, as_json)
    return status


def parse(argv: Sequence[str]) -> Command:
    """The command line as a `Command`; `--config` gives the defaults of the other options.

    Every policy is the default, too; asking for `--policy all` and for no trace is asking for the
    comparison over regimes.

    Raises:
        ValueError: an option's value is out of range, or the config file is not valid.
        OSError: the config file cannot be read.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--config", "--policy", "--trace"):
        peek.add_argument(option)
    given = peek.parse_known_args(argv)[0]
    if given.config:
        default = Command(run=from_toml(Path(given.config)))
    elif given.policy == "all" and given.trace is None:
        default = Command(run=RunConfig(trace=REGIMES))
    else:
        default = Command()
    return tyro.cli(Command, args=argv, default=default, prog="makespan run")


def open_experiment(command: Command) -> Experiment:
    """Check the whole request, then open the run's folder.

    Raises:
        ValueError: an unknown name, a trace that cannot be read (`TraceError`), a folder in use.
        OSError: the folder cannot be written to.
    """
    chosen = policies.resolve(command.run.policy, [command.run.replicas])
    folder = command.folder
    scenario = prepare(command.run)
    folder.open(command.run, command.resume)
    return Experiment(scenario, chosen, folder)


def run_cells(experiment: Experiment, summaries: list[CellSummary]) -> None:
    """Replay every cell that the folder does not hold yet; append what is kept of each."""
    only_seed = len(experiment.scenario.config.seed_list) == 1
    with progress() as bars:
        total = bars.add_task("policies x seeds", total=len(experiment.cells))
        for label, seed in experiment.cells:
            if not experiment.folder.holds(label, seed):
                experiment.folder.save(_replay(experiment, label, seed, bars))
            cell = experiment.folder.load(label, seed)
            summaries.append(results.summarise(cell, only_seed))
            bars.advance(total)


def finish(experiment: Experiment, summaries: list[CellSummary], as_json: bool) -> None:
    """Write the results of all finished policies, and print them."""
    folder, config = experiment.folder, experiment.scenario.config
    outcome = results.collect(experiment.scenario, summaries)
    timing = results.timing(summaries)
    finished = {policy["policy"] for policy in outcome["policies"]}
    if finished:
        kept = [cell for cell in summaries if cell.policy in finished]
        folder.write_json("results.json", outcome)
        folder.write_json("timing.json", timing)
        folder.write_log((cell.policy, cell.seed) for cell in kept)
        folder.write_text("report.html", report.render(config, outcome, timing, kept))
    if len(summaries) == len(experiment.cells):
        folder.forget_cells()
    if as_json:
        print(run_folder.to_json(outcome), end="")
    elif finished:
        console = summary_tables.console(sys.stdout)
        console.print(summary_tables.summary(outcome, timing))
        console.print(f"written to {folder.path}", soft_wrap=True)


def _replay(experiment: Experiment, label: str, seed: int, bars: Progress) -> Cell:
    scenario, make = experiment.scenario, experiment.policies[label]
    workload = scenario.workloads[seed]
    _warm_up(scenario, workload, make)
    task = bars.add_task(f"{label}, seed {seed}", total=len(workload))
    try:
        return replay(
            label,
            seed,
            Fleet(workload, scenario.fleet, seed=stream(seed, 1)),
            make(stream(seed, 2)),
            lambda decisions: bars.update(task, completed=decisions),
        )
    finally:
        bars.remove_task(task)


def _warm_up(scenario: Scenario, workload: Workload, make: policies.Factory) -> None:
    """Route a few requests, so that compiling a policy is not counted as deciding."""
    few = slice_count(workload, 0, WARM_UP_REQUESTS)
    simulate(Fleet(few, scenario.fleet), make(0))
