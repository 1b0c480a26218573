"""Improving schedules for the common trainer."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from world_networks import network

from makespan.agents.config import CloningConfig, NetworkConfig, TrainConfig
from makespan.agents.jobshop.improve import ImproveWorld, LearnedSwaps
from makespan.agents.train import plain_weights, train
from makespan.baselines.jobshop.improvement import tabu, tabu_scores
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.improve.episode import first_schedule
from makespan.envs.jobshop.improve.search import LocalSearch
from makespan.traces.jobshop import benchmark

WORLD = ImproveWorld(jobs=(4, 6), machines=(3, 5), steps=20)

CONFIG = TrainConfig(
    steps=128,
    envs=2,
    rollout=32,
    batch=32,
    epochs=1,
    checkpoint_every=64,
    tuning=2,
    test=2,
    network=NetworkConfig(hidden=8, layers=1, trust=20.0),
)


def test_observations_are_in_their_space():
    env = WORLD.env()
    observation, info = env.reset(seed=0)
    done, rewards = False, []
    while not done:
        assert env.observation_space.contains(observation)
        action = int(info["action_mask"].argmax())
        observation, reward, done, _, info = env.step(action)
        rewards.append(reward)
    assert env.observation_space.contains(observation)
    search = env.simulation
    assert sum(rewards) == pytest.approx(1 - search.best.makespan / search.begun)
    assert sum(rewards) > 0


@pytest.mark.parametrize("prior", [True, False])
def test_observations_show_the_rule_and_what_a_swap_gains(prior: bool):
    env = dataclasses.replace(WORLD, prior=prior).env()
    observation, _ = env.reset(seed=0)
    for _ in range(8):
        decision = env.decision
        assert decision is not None
        moves, longest = len(decision.moves), decision.selection.shop.duration.max()
        scores = tabu_scores(decision) if prior else np.zeros(moves)
        assert observation["prior"][:moves].tolist() == pytest.approx(scores)
        before = np.array([decision.selection.makespan, decision.best])
        gains = (decision.estimates[:, None] - before) / longest
        assert observation["merit"][:moves] == pytest.approx(gains)
        assert not observation["merit"][moves:].any()
        observation, *_ = env.step(tabu(decision))


def test_an_untrained_network_chooses_as_the_rule():
    policy = LearnedSwaps(plain_weights(network(WORLD)), prior=True)
    for name in ("ft06", "la21"):
        learned, rule = (
            simulate(
                LocalSearch(first_schedule(benchmark(name)), 40, np.random.default_rng(0)), choose
            )
            for choose in (policy, tabu)
        )
        assert learned.log["second"].tolist() == rule.log["second"].tolist()


def test_the_policy_scores_as_the_network_does_in_the_environment():
    made = network(WORLD, head=20.0)
    policy, env = LearnedSwaps(plain_weights(made), prior=True), WORLD.env()
    others = 0
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
            others += best != tabu(env.decision)
            observation, _, done, _, info = env.step(best)
    assert others > 0


@pytest.mark.parametrize("teacher", ["", "tabu"])
def test_it_is_trained_by_the_common_trainer(tmp_path: Path, teacher: str):
    cloning = CloningConfig(teacher=teacher, decisions=64, epochs=1, batch=32)
    config = dataclasses.replace(CONFIG, cloning=cloning)
    agent = train(WORLD, config, tmp_path)
    assert agent.card.world == "job_shop_improve"
    assert ("cloned" in agent.card.results) == bool(teacher)
    scores = WORLD.evaluate(agent.weights, [1, 2])
    assert scores.shape == (2,)
    assert ((scores > 0.7) & (scores < 1.3)).all()


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="jobs must be at least 2"):
        dataclasses.replace(WORLD, jobs=(5, 4))
    with pytest.raises(ValueError, match="Did you mean 'tabu'"):
        WORLD.teacher("tabo")
    decision = WORLD.env().build(np.random.SeedSequence(0), {}).next_decision()
    for name in ("steepest", "tabu", "look_ahead", "random"):
        assert decision is not None
        assert decision.action_mask[WORLD.teacher(name)(decision)]
