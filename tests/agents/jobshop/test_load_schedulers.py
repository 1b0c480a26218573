"""Agents that schedule, by their name or folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from world_networks import network

from makespan.agents.folder import Agent, AgentCard, AgentError
from makespan.agents.jobshop.blocking import BlockingWorld, LearnedBlocking
from makespan.agents.jobshop.dynamic import DynamicWorld, LearnedDispatcher
from makespan.agents.jobshop.improve import ImproveWorld, LearnedSwaps
from makespan.agents.train import plain_weights

KINDS = [
    (LearnedBlocking, BlockingWorld(prior="blk", jobs=(6, 6), machines=(4, 4))),
    (LearnedDispatcher, DynamicWorld(rule="atc", jobs=(9, 9), machines=(3, 3))),
    (LearnedSwaps, ImproveWorld(prior=True, jobs=(9, 9), machines=(9, 9), steps=40)),
]


@pytest.mark.parametrize(("kind", "world"), KINDS)
def test_one_from_a_folder_chooses_as_its_world_says(kind: Any, world: Any, tmp_path: Path):
    weights = plain_weights(network(world, shake=0.1))
    card = AgentCard(world.name, world.observation_version, asdict(world), {}, {})
    Agent(card, weights).save(tmp_path)
    loaded, expected, env = kind.load(str(tmp_path)), world.policy(weights), world.env()
    env.reset(seed=0)
    choices, over = set[int](), False
    while not over:
        choices.add(choice := expected(env.decision))
        assert loaded(env.decision) == choice
        _, _, over, _, _ = env.step(choice)
    assert len(choices) > 1


@pytest.mark.parametrize(("kind", "world"), KINDS)
def test_the_one_that_is_shipped_is_found_and_no_other(kind: Any, world: Any):
    assert isinstance(kind.load(), kind)
    with pytest.raises(AgentError, match=f"acts in llm_router, not in {world.name}"):
        kind.load("agent")
