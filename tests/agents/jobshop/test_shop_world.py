"""The static job shop for the common trainer."""

import dataclasses
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from world_networks import network

from makespan.agents.config import NetworkConfig, TrainConfig
from makespan.agents.jobshop.world import LearnedShop, ShopWorld
from makespan.agents.train import plain_weights, train
from makespan.baselines.jobshop.rules import dispatch
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.simulation import ShopSimulation
from makespan.traces.jobshop import benchmark

WORLD = ShopWorld(jobs=(4, 5), machines=(3, 4))

CONFIG = TrainConfig(
    steps=128,
    envs=2,
    rollout=32,
    batch=32,
    epochs=1,
    checkpoint_every=64,
    tuning=2,
    test=2,
    network=NetworkConfig(hidden=8, layers=1, trust=4.0),
)


def test_observations_are_in_their_space():
    env = WORLD.env()
    observation, info = env.reset(seed=0)
    done = False
    while not done:
        assert env.observation_space.contains(observation)
        action = int(info["action_mask"].argmax())
        observation, _, done, _, info = env.step(action)
    assert env.observation_space.contains(observation)


def test_an_untrained_network_chooses_as_the_rule():
    policy = LearnedShop(plain_weights(network(WORLD)))
    for name in ("ft06", "la21"):
        shop = benchmark(name)
        made = simulate(ShopSimulation(shop, "active"), policy).schedule
        assert made.makespan == dispatch(shop, "tail_p_wait", "active").makespan


def test_the_policy_scores_as_the_network_does_in_the_environment():
    made = network(WORLD, head=0.5)
    policy, env = LearnedShop(plain_weights(made)), WORLD.env()
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        done = False
        while not done:
            batch = {name: torch.as_tensor(value)[None] for name, value in observation.items()}
            with torch.no_grad():
                scores = made(batch)[0][0].numpy()
            best = int(np.where(info["action_mask"], scores, -np.inf).argmax())
            assert env.decision is not None
            assert policy(env.decision) == best
            observation, _, done, _, info = env.step(best)


def test_the_same_weights_schedule_shops_of_other_sizes():
    policy = LearnedShop(plain_weights(network(WORLD, head=0.5)))
    for name in ("ft06", "la31", "ft06"):
        simulate(ShopSimulation(benchmark(name), "active"), policy).schedule.validate()


def test_it_is_trained_by_the_common_trainer(tmp_path: Path):
    agent = train(WORLD, CONFIG, tmp_path)
    assert agent.card.world == "job_shop"
    assert agent.card.results["tuning"]["tuning"] <= 1.0  # that of the rule, before any step
    assert WORLD.evaluate(agent.weights, [1, 2]).shape == (2,)


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="jobs must be at least 1 and not falling"):
        dataclasses.replace(WORLD, jobs=(5, 4))
    with pytest.raises(ValueError, match="not by 'late'"):
        dataclasses.replace(WORLD, way="late")
    with pytest.raises(ValueError, match="unknown rule"):
        WORLD.teacher("spd")
    assert isinstance(WORLD.env(), gymnasium.Env)
