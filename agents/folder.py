"""An agent on disk: a folder with its weights and a card that says what it is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from makespan.agents.whole_file import write_text, writing

WEIGHTS, CARD = "weights.safetensors", "card.json"


class AgentError(ValueError):
    """An agent cannot be used; the message names its folder and says why."""


@dataclass(frozen=True)
class AgentCard:
    """What there is to know of an agent. All of it is JSON.

    Attributes:
        world: that it acts in, `llm_router`.
        observation_version: of the observations it was trained on.
        settings: of the world in training; what decides how it sees (`prior`) is among them.
        training: the trainer's settings.
        seeds: of training, and those on which weights and hyper-parameters were chosen (`tuning`)
            and the result was measured (`test`), which are disjoint.
        results: name -> figure.
        trained: steps, seconds, commit, versions.
        kind: how its weights make a policy: `graph`, `dispatch` (of `makespan train-shop`), or
            `guided_dqn`.
    """

    world: str
    observation_version: int
    settings: dict[str, Any]
    training: dict[str, Any]
    seeds: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)
    kind: str = "graph"

    def __post_init__(self) -> None:
        seeds = [set(self.seeds.get(use, ())) for use in ("tuning", "test")]
        if seeds[0] & seeds[1]:
            raise ValueError("the tuning seeds and the test seeds of an agent must be disjoint")


@dataclass(frozen=True)
class Agent:
    """A card and the weights it describes, name -> float32 array."""

    card: AgentCard
    weights: Mapping[str, np.ndarray]

    def save(self, folder: Path) -> None:
        """Write the two files of `folder`; the card last, so that a card has its weights."""
        with writing(folder / WEIGHTS) as unfinished:
            save_file({n: np.ascontiguousarray(w) for n, w in self.weights.items()}, unfinished)
        write_text(folder / CARD, json.dumps(asdict(self.card), indent=2) + "\n")


def load_agent(folder: Path, world: str = "", observation_version: int = 0) -> Agent:
    """The agent in `folder`.

    Args:
        world: that it is wanted for; empty: any.
        observation_version: that it will be shown; 0: any.

    Raises:
        AgentError: there is none, a file is damaged, or it was trained for something else.
    """
    card = _card(folder)
    if world and card.world != world:
        raise AgentError(f"{folder}: this agent acts in {card.world}, not in {world}")
    if observation_version and card.observation_version != observation_version:
        raise AgentError(
            f"{folder}: this agent was trained on version {card.observation_version} of the "
            f"observations of {card.world}; this is version {observation_version}: train it anew"
        )
    return Agent(card, _weights(folder))


def _card(folder: Path) -> AgentCard:
    path = folder / CARD
    if not path.is_file():
        raise AgentError(f"{folder}: no agent here (it has no {CARD})")
    try:
        return AgentCard(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise AgentError(f"{path}: not the card of an agent: {error}") from None


def _weights(folder: Path) -> dict[str, np.ndarray]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise AgentError(f"{folder}: the agent's {WEIGHTS} is missing")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise AgentError(f"{path}: damaged: {error}") from None
