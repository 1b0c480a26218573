"""Run a grid of policies, or tune an agent, on Ray.

    makespan sweep CONFIG.toml
    makespan sweep CONFIG.toml --address auto
    makespan sweep CONFIG.toml --resume

The file lists policies, their constants, traces, loads and seeds, and every combination is a cell
(`makespan.experiments.sweep.config`); or it has a table `[tune]`, and an agent is trained again and
again with other settings (`makespan.experiments.sweep.tune_config`). Without an address Ray runs on
this machine for as long as the command does. `runs/<name>/` is written
(`makespan.experiments.sweep.folder`).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from makespan.experiments.sweep.config import read
from makespan.experiments.sweep.evaluation import evaluate
from makespan.experiments.sweep.folder import SweepFolder
from makespan.experiments.sweep.grid import prepared
from makespan.experiments.sweep.on_ray import ray_running
from makespan.experiments.sweep.tune_config import TuneConfig
from makespan.experiments.train import MISSING as MISSING_FOR_TRAINING
from makespan.experiments.watching import warnings_in_a_line
from makespan.traces import TraceWarning

MISSING = 'sweeps run on Ray: pip install "makespan[scale]"'

TRAINING = ("torch", "stable_baselines3", "sb3_contrib")
"""How the names of packages begin that only training needs."""


@dataclass(frozen=True)
class Command:
    """Run a grid of policies, or tune an agent, on Ray.

    Attributes:
        config: the file that says what is run.
        address: of a Ray cluster, `auto` or `host:port`; empty: this machine.
        out: folder of all runs.
        name: name of the sweep's folder; empty: that of the file.
        json: print results.json, alone, on stdout.
        resume: go on with the sweep of the same name where it stopped.
    """

    config: tyro.conf.Positional[Path]
    address: str = ""
    out: Path = Path("runs")
    name: str = ""
    json: bool = False
    resume: bool = False

    @property
    def folder(self) -> SweepFolder:
        """Where the sweep is written.

        Raises:
            ValueError: the name is not that of a folder inside `out`.
        """
        if self.name == ".." or Path(self.name).name != self.name:
            raise ValueError(f"--name must be the name of a folder, not {self.name!r}")
        return SweepFolder(self.out / (self.name or self.config.stem))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 when a cell failed, 2 for bad input, 130 when interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = tyro.cli(Command, args=argv, prog="makespan sweep")
    try:
        with warnings_in_a_line(TraceWarning):
            carry_out = checked(command)
        with ray_running(command.address):
            command.folder.open(command.config)
            return carry_out()
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, --resume goes on", file=sys.stderr)
        return 130
    except ImportError as error:
        for_training = (error.name or "").startswith(TRAINING)
        missing = MISSING_FOR_TRAINING if for_training else MISSING
        print(f"error: {missing} ({error})", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 2


def checked(command: Command) -> Callable[[], int]:
    """What the command asks for, checked as far as can be before Ray runs.

    Raises:
        ValueError: the file or something it names is wrong.
        OSError: the file cannot be read.
    """
    config, folder = read(command.config), command.folder
    folder.check(command.config, command.resume)
    if isinstance(config, TuneConfig):
        from makespan.experiments.sweep.tuning import tune

        return lambda: tune(config, folder, command.json)
    try:
        grid = prepared(config)
    except ValueError as error:
        raise ValueError(f"{command.config}: {error}") from None
    return lambda: evaluate(grid, folder, command.json)
