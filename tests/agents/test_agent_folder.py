"""Agents on disk, by name and by folder, and what is said of those that do not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makespan.agents.folder import CARD, WEIGHTS, Agent, AgentCard, AgentError, load_agent
from makespan.agents.llm.observation import VERSION
from makespan.agents.llm.policy import router
from makespan.agents.shipped import AGENTS, folder_of
from makespan.experiments import policies


def agent(**changes: Any) -> Agent:
    facts: dict[str, Any] = {
        "world": "llm_router",
        "observation_version": VERSION,
        "settings": {"prior": "lmetric"},
        "training": {"steps": 3},
        "seeds": {"training": 0, "tuning": [1, 2], "test": [3]},
    }
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(1, np.float32)}
    return Agent(AgentCard(**(facts | changes)), weights)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    agent().save(tmp_path / "mine")
    loaded = load_agent(tmp_path / "mine", world="llm_router", observation_version=VERSION)
    assert loaded.card == agent().card
    assert all(np.array_equal(loaded.weights[name], w) for name, w in agent().weights.items())


def test_another_world_is_refused(tmp_path: Path) -> None:
    agent(world="job_shop").save(tmp_path)
    with pytest.raises(AgentError, match="acts in job_shop, not in llm_router"):
        load_agent(tmp_path, world="llm_router")


def test_other_observations_are_refused(tmp_path: Path) -> None:
    agent(observation_version=VERSION + 1).save(tmp_path)
    with pytest.raises(AgentError, match=rf"version {VERSION + 1} .* this is version {VERSION}"):
        router(tmp_path)


def test_seeds_for_choosing_must_not_be_those_for_measuring() -> None:
    with pytest.raises(ValueError, match="must be disjoint"):
        agent(seeds={"tuning": [1, 2], "test": [2, 3]})


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (WEIGHTS, b"garbage", r"weights\.safetensors: damaged"),
        (CARD, b"{", r"card\.json: not the card of an agent"),
        (CARD, b'{"world": 3}', r"card\.json: not the card of an agent"),
    ],
)
def test_damage_is_named(file: str, content: bytes, said: str, tmp_path: Path) -> None:
    agent().save(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(AgentError, match=said):
        load_agent(tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    agent().save(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(AgentError, match=r"weights\.safetensors is missing"):
        load_agent(tmp_path)


def test_an_unknown_agent_gets_a_suggestion() -> None:
    with pytest.raises(AgentError, match=r"unknown agent 'agnet'\. Did you mean 'agent'"):
        folder_of("agnet")


def test_a_folder_without_an_agent_is_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no agent here"):
        policies.resolve(str(tmp_path))


@pytest.mark.parametrize("name", AGENTS)
def test_agents_that_come_with_the_package_load(name: str) -> None:
    card = load_agent(folder_of(name)).card
    if card.kind == "graph":  # the others are there to be compared with, however they do
        assert card.results["test"]["mean"] < 1.0
    assert card.trained["commit"]
