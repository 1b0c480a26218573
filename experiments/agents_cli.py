"""`makespan agents`: what learned policies there are."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from makespan.agents.folder import CARD, Agent, AgentCard, AgentError, load_agent
from makespan.agents.shipped import AGENTS, SCHEDULERS, folder_of
from makespan.agents.world import WORLDS
from makespan.envs.core.registry import load
from makespan.experiments.configuration import build
from makespan.experiments.summary_tables import console

USAGE = """usage: makespan agents list [FOLDER]
       makespan agents show NAME

  list   the agents that come with makespan, and those in FOLDER (runs)
  show   the card of an agent, by its name or its folder"""


def main(argv: Sequence[str]) -> int:
    """Run the command line; the exit status: 0, or 2 for bad input."""
    match list(argv):
        case ["list"]:
            return show_list(Path("runs"))
        case ["list", folder] if folder not in ("-h", "--help"):
            return show_list(Path(folder))
        case ["show", name] if name not in ("-h", "--help"):
            return show(name)
        case [] | ["-h" | "--help"] | [_, "-h" | "--help"]:
            print(USAGE)
            return 0 if argv else 2
    print(f"error: makespan agents does not know {' '.join(argv)!r}\n{USAGE}", file=sys.stderr)
    return 2


def show_list(folder: Path) -> int:
    """Print a table: name, world, steps, result."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("agent", "world", "prior", "steps", "parameters", "test"):
        table.add_column(column, overflow="fold")  # a path that is cut is of no use
    own = sorted(str(card.parent) for card in folder.glob(f"*/{CARD}"))
    names = [*AGENTS, *SCHEDULERS, *own]
    for name in names:
        table.add_row(name, *_row(name))
    console(sys.stdout).print(table)
    return 0


def show(name: str) -> int:
    """Print the card, as JSON."""
    try:
        agent = load_agent(folder_of(name))
    except AgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(agent.card), indent=2))
    return 0


def _row(name: str) -> tuple[str, ...]:
    try:
        agent = load_agent(folder_of(name))
        test = _test_score(agent.card)
    except ValueError as error:
        return (str(error),)
    card = agent.card
    steps = card.trained.get("steps")
    return (
        card.world,
        str(card.settings.get("prior", "")),
        "-" if steps is None else f"{steps:,}",
        f"{_parameters(agent):,}",
        test,
    )


def _test_score(card: AgentCard) -> str:
    """The score, and what it is relative to: as the card says, or else as its world does.

    Raises:
        ValueError: the card's world or a setting of it is unknown.
    """
    test = card.results.get("test")
    if test is None:
        return "-"
    reference = test.get("reference")
    if reference is None:
        reference = build(load("world", WORLDS, card.world), card.settings).reference
    return f"{test['mean']:.3f} of {reference}"


def _parameters(agent: Agent) -> int:
    return sum(weight.size for weight in agent.weights.values())
