"""The `makespan` command."""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from makespan.envs.core.registry import unknown_name

COMMANDS = {
    "run": "makespan.experiments.run:main",
    "train": "makespan.experiments.train:main",
    "train-shop": "makespan.experiments.train_shop:main",
    "train-guided": "makespan.experiments.train_guided:main",
    "ablation": "makespan.experiments.ablation:main",
    "tune-rules": "makespan.experiments.tune_rules:main",
    "sweep": "makespan.experiments.sweep.command:main",
    "agents": "makespan.experiments.agents_cli:main",
    "serve": "makespan.experiments.serve:main",
    "bench": "makespan.experiments.bench:main",
    "decisions": "makespan.experiments.decisions:main",
    "calibrate": "makespan.experiments.calibrate:main",
    "fidelity": "makespan.experiments.fidelity.command:main",
    "traces": "makespan.experiments.traces_cli:main",
    "policies": "makespan.experiments.cli:policies",
    "hardware": "makespan.experiments.cli:hardware",
}
"""Subcommand -> "module:function" that takes its arguments and returns the exit status."""

USAGE = """usage: makespan COMMAND [options]

  run        compare policies in a world: LLM serving, or job shops (--env job_shop)
  train      train an agent
  train-shop train a network that schedules job shops
  train-guided train the published router, a guided Double DQN
  ablation   train the router agent without one part at a time, and compare
  tune-rules find constants of the router rules on training episodes
  sweep      run a grid of policies, loads and seeds, or tune an agent, on Ray
  agents     list and show agents
  serve      route real servers' traffic by a policy
  bench      measure how fast a simulator is (bench llm, jobshop), or the live router (serve)
  decisions  measure how long policies take to decide
  calibrate  measure a running vLLM server, for --hardware
  fidelity   hold the simulator against what was published, measured or proved
  traces     list, fetch and describe traces
  policies   list the router policies
  hardware   list the hardware, and where its step times come from

`makespan COMMAND --help` explains the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that the first argument names; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(version("makespan"))
        return 0
    if arguments[0] not in COMMANDS:
        print(f"error: {unknown_name('command', arguments[0], COMMANDS)}", file=sys.stderr)
        return 2
    module, _, function = COMMANDS[arguments[0]].partition(":")
    command: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
    return command(arguments[1:])


def policies(argv: Sequence[str]) -> int:
    """Print every router policy with the first line of its documentation."""
    from makespan.baselines.llm import POLICIES, summary

    return _print_table("policies", argv, ("policy", "rule"), [(n, summary(n)) for n in POLICIES])


def hardware(argv: Sequence[str]) -> int:
    """Print the hardware and models that are known, and the source of their step times."""
    from makespan.envs.llm.replica import hardware_table

    rows = hardware_table()
    return _print_table("hardware", argv, tuple(rows[0]), [tuple(row.values()) for row in rows])


def _print_table(
    command: str, argv: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> int:
    from rich.table import Table

    from makespan.experiments.summary_tables import console

    if argv and argv[0] not in ("-h", "--help"):
        print(f"error: makespan {command} takes no arguments, got {argv[0]!r}", file=sys.stderr)
        return 2
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row))
    console(sys.stdout).print(table)
    return 0
