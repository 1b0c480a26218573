"""Train an agent.

    makespan train --out runs/my-agent
    makespan train --env blocking_job_shop --out runs/my-agent
    makespan train --resume runs/my-agent

The folder becomes that of the agent (`makespan.agents.folder`), for `--policy runs/my-agent`. The
run's settings, its checkpoint and TensorBoard's log are there, too.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro

from makespan.agents.config import TrainConfig
from makespan.agents.folder import AgentError
from makespan.agents.world import WORLDS, World
from makespan.envs.core.registry import load
from makespan.experiments.configuration import build
from makespan.experiments.watching import progress

RUN = "run.json"
"""The settings of a run, in its folder."""

MISSING = """training needs torch and what goes with it: pip install torch==2.13.0, and then \
pip install "makespan[agents]\""""


W = TypeVar("W", bound=World)


@dataclass(frozen=True)
class Command(Generic[W]):
    """Train an agent.

    Attributes:
        world: what it is trained on.
        env: the world that it is trained in, by name (`makespan.agents.world.WORLDS`); each has its
            own settings.
        training: how.
        out: folder of the run, and of the agent.
        resume: go on with the run in this folder, with its settings.
    """

    world: W
    env: str = "llm_router"
    training: TrainConfig = field(default_factory=TrainConfig)
    out: Path = Path("runs/agent")
    resume: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        results = run(command)
    except ImportError as error:
        print(f"error: {MISSING} ({error})", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was learned is kept, --resume goes on", file=sys.stderr)
        return 130
    print(in_words(results))
    print(f"written to {command.out}")
    return 0


def parse(argv: Sequence[str]) -> Command:
    """The command line as a `Command`; a run that is resumed gives the defaults.

    Raises:
        ValueError: a setting is out of range, or there is no such world or run to resume.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--resume", type=Path)
    peek.add_argument("--env")
    known = peek.parse_known_args(argv)[0]
    default = settings_of(known.resume) if known.resume else _defaults(known.env or "llm_router")
    if known.env not in (None, default.env):
        raise ValueError(f"--env {known.env}: the run that is resumed is of {default.env}")
    kind = Command[type(default.world)]  # type: ignore[misc]
    return tyro.cli(kind, args=list(argv), default=default, prog="makespan train")


def _defaults(env: str) -> Command:
    return Command(load("world", WORLDS, env)(), env)


def settings_of(folder: Path) -> Command:
    """What was run in `folder`.

    Raises:
        AgentError: nothing was, or its settings cannot be read.
    """
    path = folder / RUN
    if not path.is_file():
        raise AgentError(f"{folder}: no run to resume (it has no {RUN})")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        env = settings.get("env", "llm_router")
        return Command(
            world=build(load("world", WORLDS, env), settings["world"]),
            env=env,
            training=build(TrainConfig, settings["training"]),
            out=folder,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError(f"{path}: not the settings of a run: {error}") from None


def run(command: Command) -> dict[str, Any]:
    """Train; what the agent's card says of the results."""
    from makespan.agents.train import train

    with watched(command.training.steps) as report:
        agent = train(
            command.world, command.training, command.out, command.resume is not None, report
        )
    return agent.card.results


@contextmanager
def watched(total: int, counted: str = "steps") -> Iterator[Callable[[dict[str, float]], None]]:
    """Show how much is done, and the last score that weights are chosen by.

    Args:
        counted: the figure that says how much, of so many in all.
    """
    with progress() as bars:
        bar = bars.add_task("training", total=total)

        def report(figures: dict[str, float]) -> None:
            bars.update(bar, completed=int(figures[counted]))
            if "tuning" in figures:
                text = "training, tuning score {tuning:.4f}, best {best:.4f}"
                bars.update(bar, description=text.format(**figures))

        yield report


def in_words(results: dict[str, Any]) -> str:
    """The figures of a card's results, a line each."""
    best, test = results["tuning"], results.get("test")
    lines = [f"best after {best['steps']:,} steps: {best['tuning']:.4f} on the tuning episodes"]
    if test:
        error = f" +- {test['standard_error']:.4f}" if test["standard_error"] is not None else ""
        lines.append(f"on the test episodes: {test['mean']:.4f}{error} of the reference")
    return "\n".join(lines)
