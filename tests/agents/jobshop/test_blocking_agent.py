"""Agents of job shops without buffers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from world_networks import network

from makespan.agents.graph.plain import PlainNetwork
from makespan.agents.jobshop.blocking import (
    GRAPH,
    LIMIT,
    REFERENCE,
    BlockingEncoder,
    BlockingTrainingEnv,
    BlockingWorld,
)
from makespan.agents.train import plain_weights
from makespan.baselines.jobshop.blocking_rules import Random, policy
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.blocking.decision import EntryDecision
from makespan.envs.jobshop.blocking.simulation import BlockingShop
from makespan.experiments.train import main, parse, settings_of

WORLD = BlockingWorld(prior=REFERENCE, jobs=(4, 6), machines=(3, 5))


def decisions(seed: int) -> list[EntryDecision]:
    simulation, choose, seen = WORLD.draw(seed), Random(seed), []
    while (decision := simulation.next_decision()) is not None:
        seen.append(decision)
        simulation.decide(choose(decision))
    return seen


def test_untrained_the_agent_is_the_rule():
    scheduler = WORLD.policy(plain_weights(network(WORLD)))
    own = simulate(WORLD.draw(3), scheduler).log
    rule = simulate(WORLD.draw(3), policy(REFERENCE, limit=LIMIT)).log
    np.testing.assert_array_equal(own["start"], rule["start"])


def test_one_policy_schedules_shops_of_any_size():
    weights = plain_weights(network(WORLD, shake=0.3))
    scheduler = WORLD.policy(weights)
    for jobs, machines in ((4, 3), (7, 6), (3, 4)):
        world = dataclasses.replace(WORLD, jobs=(jobs, jobs), machines=(machines, machines))
        own, fresh = (
            simulate(world.draw(1), policy) for policy in (scheduler, WORLD.policy(weights))
        )
        assert own.makespan == fresh.makespan


def test_without_torch_the_scores_are_the_same():
    trained = network(WORLD, shake=0.3)
    plain = PlainNetwork(GRAPH, plain_weights(trained))
    encoder = BlockingEncoder(6, 5, REFERENCE)
    for decision in decisions(seed=5)[::5]:
        observation = encoder.encode(decision)
        batch = {name: torch.as_tensor(value)[None] for name, value in observation.items()}
        expected = trained(batch)[0][0].detach().numpy()
        legal = observation["action_mask"] > 0
        np.testing.assert_allclose(plain.scores(observation)[legal], expected[legal], atol=1e-4)


def test_scores_do_not_depend_on_the_room():
    plain = PlainNetwork(GRAPH, plain_weights(network(WORLD, shake=0.3)))
    for decision in decisions(seed=6)[::5]:
        small, large = (
            BlockingEncoder(*room, REFERENCE).encode(decision) for room in ((6, 5), (9, 8))
        )
        jobs = len(decision.on)
        one, other = plain.scores(small), plain.scores(large)
        np.testing.assert_allclose(one[:jobs], other[:jobs], atol=1e-5)
        assert one[-1] == pytest.approx(other[-1], abs=1e-5)


def play(env: BlockingTrainingEnv, seed: int) -> float:
    """The return of an episode of random choices."""
    observation, _ = env.reset(seed=seed)
    assert env.observation_space.contains(observation)
    choose, total, over = np.random.default_rng(seed), 0.0, False
    while not over:
        action = choose.choice(np.flatnonzero(env.action_masks()))
        observation, reward, over, *_ = env.step(action)
        assert env.observation_space.contains(observation)
        total += reward
    return total


@pytest.mark.parametrize("seed", range(3))
def test_rewards_sum_up_to_what_the_makespan_is_shorter_by(seed: int):
    env = WORLD.env()
    total = play(env, seed)
    shop = env.simulation.shop
    reference = BlockingShop(shop, env.simulation.shutdowns)
    simulate(reference, policy(REFERENCE, limit=LIMIT))
    shorter = reference.makespan - env.simulation.makespan
    assert total == pytest.approx(shorter / shop.lower_bound(), abs=1e-9)


def test_an_agent_is_evaluated_in_units_of_the_reference():
    assert WORLD.evaluate(plain_weights(network(WORLD)), [1, 2, 3]).tolist() == [1, 1, 1]
    other = BlockingWorld(jobs=WORLD.jobs, machines=WORLD.machines)
    assert other.evaluate(plain_weights(network(other, shake=0.5)), range(10)).mean() > 1


def test_makespan_train_knows_the_world(tmp_path: Path):
    settings = [
        *("--env", "blocking_job_shop", "--world.jobs", "3", "4", "--world.machines", "2", "3"),
        *("--training.steps", "64", "--training.envs", "2", "--training.rollout", "16"),
        *("--training.batch", "32", "--training.epochs", "1", "--training.checkpoint-every", "32"),
        *("--training.tuning", "2", "--training.test", "2", "--training.network.hidden", "8"),
    ]
    folder = tmp_path / "run"
    assert main([*settings, "--out", str(folder)]) == 0
    command = settings_of(folder)
    assert (command.env, command.world) == (
        "blocking_job_shop",
        BlockingWorld(jobs=(3, 4), machines=(2, 3)),
    )
    assert main(["--resume", str(folder)]) == 0
    assert main(["--resume", str(folder), "--env", "job_shop"]) == 2


def test_the_router_is_what_is_trained_by_default():
    assert parse([]).world.name == "llm_router"
    with pytest.raises(ValueError, match="Did you mean 'blocking_job_shop'"):
        parse(["--env", "blocking_jobshop"])


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="unknown prior"):
        BlockingWorld(prior="best")
    with pytest.raises(ValueError, match="jobs must be at least 1 and not falling"):
        BlockingWorld(jobs=(9, 3))


def test_a_teacher_keeps_to_the_limit():
    decision = decisions(seed=1)[0]
    assert WORLD.teacher("spt")(decision) == policy("spt", limit=LIMIT)(decision)
