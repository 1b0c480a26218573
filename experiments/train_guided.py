"""Train the published learned router: the guided Double DQN of Jain et al.

    makespan train-guided --out runs/guided --variant guided --setting jain

The folder becomes that of the agent (`makespan.agents.folder`), for `--policy runs/guided`, which
routes for fleets as large as those it was trained on: four replicas.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from makespan.agents.folder import CARD, AgentError
from makespan.agents.llm.guided.config import GuidedConfig
from makespan.experiments.train import MISSING
from makespan.experiments.watching import progress


@dataclass(frozen=True)
class Command:
    """Train a guided Double DQN.

    Attributes:
        out: folder of the agent.
        setting: the paper's fleet and requests, or random ones with four replicas.
        training: how.
    """

    out: Path
    setting: Literal["jain", "episodes"] = "jain"
    training: Annotated[GuidedConfig, tyro.conf.arg(name="")] = field(default_factory=GuidedConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        command = tyro.cli(Command, args=argv, prog="makespan train-guided")
        test = run(command)
    except ImportError as error:
        print(f"error: {MISSING} ({error})", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing is kept", file=sys.stderr)
        return 130
    print(
        "on the test episodes: {mean:.4f} +- {standard_error:.4f} of the latency of "
        "{reference}".format(**test)
    )
    print(f"written to {command.out}")
    return 0


def run(command: Command) -> dict[str, float | str]:
    """Train, and save the agent; how it did on the test episodes.

    Raises:
        AgentError: there is an agent in the folder already.
    """
    from makespan.agents.llm.guided.train import train

    if (command.out / CARD).exists():
        raise AgentError(f"{command.out}: there is an agent already")
    command.out.mkdir(parents=True, exist_ok=True)  # an error now, not after the training
    with watched(command.training.episodes) as report:
        agent = train(command.training, command.setting, report)
    agent.save(command.out)
    return agent.card.results["test"]


@contextmanager
def watched(episodes: int) -> Iterator[Callable[[int, float], None]]:
    """Show the episodes that are done, and the latency of the last."""
    with progress() as bars:
        bar = bars.add_task("training", total=episodes)

        def report(number: int, latency_s: float) -> None:
            bars.update(bar, completed=number + 1, description=f"training, {latency_s:.1f} s")

        yield report
