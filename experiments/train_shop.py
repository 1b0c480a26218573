"""Train a network that schedules job shops.

    makespan train-shop --out runs/shop
    makespan train-shop --out runs/shop --resume

The folder becomes that of the agent.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from makespan.agents.jobshop.config import ShopTraining
from makespan.experiments.train import MISSING, watched


@dataclass(frozen=True)
class Command:
    """Train a network that schedules job shops.

    Attributes:
        out: folder of the run, and of the agent.
        training: how.
        resume: go on with the run in the folder, which must have the same settings.
    """

    out: Path
    training: Annotated[ShopTraining, tyro.conf.arg(name="")] = field(default_factory=ShopTraining)
    resume: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        command = tyro.cli(Command, args=argv, prog="makespan train-shop")
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
    best = results["tuning"]
    test = results["test"]
    print(f"best after {best['updates']:,} updates: {best['tuning']:.4f} on the tuning shops")
    print(
        f"on the test shops: {test['mean']:.4f} +- {test['standard_error']:.4f} of the makespans "
        f"of {test['reference']}"
    )
    print(f"written to {command.out}")
    return 0


def run(command: Command) -> dict[str, Any]:
    """Train; what the agent's card says of the results."""
    from makespan.agents.jobshop.train import train

    with watched(command.training.updates, "updates") as report:
        agent = train(command.training, command.out, command.resume, report)
    return agent.card.results
