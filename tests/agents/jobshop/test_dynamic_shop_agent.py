"""Agents of job shops that run."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from world_networks import network

from makespan.agents.config import NetworkConfig, TrainConfig
from makespan.agents.graph.plain import PlainNetwork
from makespan.agents.jobshop.dynamic import (
    GRAPH,
    DynamicEncoder,
    DynamicTrainingEnv,
    DynamicWorld,
    cost,
)
from makespan.agents.train import plain_weights, train
from makespan.baselines.jobshop.dynamic_rules import policy
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.envs.jobshop.dynamic.simulation import DynamicJobShop

WORLD = DynamicWorld(jobs=(5, 7), machines=(3, 5), spread=0.2)
TARDY = DynamicWorld(
    "atc", "tardiness", jobs=(20, 25), machines=(2, 3), utilisation=0.9, spread=0.2
)


def decisions(world: DynamicWorld, seed: int) -> list[DispatchDecision]:
    """Of a run in which any job may be next."""
    run, choose, seen = world.draw(seed), policy("random", seed), []
    while (decision := run.next_decision()) is not None:
        seen.append(decision)
        run.decide(choose(decision))
    return seen


def done(run: DynamicJobShop) -> list[float]:
    return run.log["done"].tolist()


@pytest.mark.parametrize("world", [WORLD, TARDY], ids=lambda world: world.rule)
def test_untrained_the_agent_is_the_rule(world: DynamicWorld):
    untrained = world.policy(plain_weights(network(world)))
    for seed in range(5):
        own = simulate(world.draw(seed), untrained)
        rule = simulate(world.draw(seed), policy(world.rule))
        assert done(own) == done(rule)


def test_without_torch_the_scores_are_the_same():
    trained = network(WORLD, shake=0.3)
    plain = PlainNetwork(GRAPH, plain_weights(trained))
    encoder = DynamicEncoder(7, 5, WORLD.rule)
    for decision in decisions(WORLD, seed=5)[::3]:
        count = len(decision.job)
        observation = encoder.encode(decision, np.arange(7) < count)
        batch = {name: torch.as_tensor(value)[None] for name, value in observation.items()}
        expected = trained(batch)[0][0].detach().numpy()
        np.testing.assert_allclose(plain.scores(observation)[:count], expected[:count], atol=1e-4)


def test_scores_do_not_depend_on_the_room():
    plain = PlainNetwork(GRAPH, plain_weights(network(WORLD, shake=0.3)))
    for decision in decisions(WORLD, seed=6)[::3]:
        count = len(decision.job)
        one, other = (
            plain.scores(
                DynamicEncoder(jobs, machines, WORLD.rule).encode(decision, np.arange(jobs) < count)
            )
            for jobs, machines in ((7, 5), (11, 9))
        )
        np.testing.assert_allclose(one[:count], other[:count], atol=1e-5)


def test_the_same_weights_dispatch_in_shops_of_other_sizes():
    chosen = WORLD.policy(plain_weights(network(WORLD, shake=0.3)))
    for jobs, machines in ((3, 2), (20, 6)):
        other = dataclasses.replace(WORLD, jobs=(jobs, jobs), machines=(machines, machines))
        simulate(other.draw(1), chosen).schedule().validate()


def play(env: DynamicTrainingEnv, seed: int) -> float:
    """The return of an episode of random choices."""
    observation, _ = env.reset(seed=seed)
    assert env.observation_space.contains(observation)
    choose, total, over = np.random.default_rng(seed), env.score(), False
    while not over:
        action = choose.choice(np.flatnonzero(env.action_masks()))
        observation, reward, over, *_ = env.step(action)
        assert env.observation_space.contains(observation)
        total += reward
    return total


@pytest.mark.parametrize("objective", ["makespan", "flow", "tardiness"])
def test_rewards_sum_up_to_how_much_better_than_the_rule_it_was(objective):
    world = WORLD if objective == "makespan" else TARDY
    env = dataclasses.replace(world, objective=objective).env()
    env.reset(seed=3)
    assert env.decision is not None
    theirs = cost(finish(env.simulation, env.decision, world.rule), objective)
    total = play(env, seed=3)
    better = theirs - cost(env.simulation, objective)
    assert total == pytest.approx(better / env.simulation.mean_duration, abs=1e-9)
    assert abs(total) > 0.1


def finish(run: DynamicJobShop, decision: DispatchDecision, rule: str) -> DynamicJobShop:
    """Run on from a decision that is due."""
    chosen = policy(rule)
    run.decide(chosen(decision))
    return simulate(run, chosen)


def test_the_rule_itself_is_never_ahead():
    env = TARDY.env()
    env.reset(seed=2)
    chosen, over, rewards = policy("atc"), False, [env.score()]
    while not over:
        assert env.decision is not None
        _, reward, over, *_ = env.step(chosen(env.decision))
        rewards.append(reward)
    np.testing.assert_allclose(rewards, 0, atol=1e-9)


def test_costs_are_those_of_the_schedule():
    run = simulate(TARDY.draw(4), policy("fifo"))
    schedule = run.schedule()
    assert cost(run, "makespan") == schedule.makespan
    assert cost(run, "flow") == pytest.approx(run.shop.jobs * schedule.mean_flow_time)
    assert cost(run, "tardiness") == pytest.approx(schedule.weighted_tardiness)


def test_an_agent_is_evaluated_in_units_of_the_rule():
    weights = plain_weights(network(TARDY))
    assert TARDY.evaluate(weights, [1, 2, 3]).tolist() == [1, 1, 1]
    shaken = plain_weights(network(TARDY, shake=0.5))
    scores = TARDY.evaluate(shaken, range(4))
    own, theirs = (
        [cost(simulate(TARDY.draw(seed), chosen), "tardiness") for seed in range(4)]
        for chosen in (TARDY.policy(shaken), policy("atc"))
    )
    assert scores.mean() == pytest.approx(np.sum(own) / np.sum(theirs))
    assert scores.mean() > 1


def test_it_is_trained_by_the_common_trainer(tmp_path: Path):
    config = TrainConfig(
        steps=64,
        envs=2,
        rollout=16,
        batch=16,
        epochs=1,
        checkpoint_every=32,
        tuning=2,
        test=2,
        network=NetworkConfig(hidden=8, layers=1, trust=4.0),
    )
    agent = train(WORLD, config, tmp_path)
    assert agent.card.world == "dynamic_job_shop"
    assert agent.card.results["tuning"]["tuning"] <= 1.0  # that of the rule, before any step


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="unknown rule 'spt'"):
        dataclasses.replace(WORLD, rule="spt")
    with pytest.raises(ValueError, match="jobs must not be falling, not 5, 4"):
        dataclasses.replace(WORLD, jobs=(5, 4))
    with pytest.raises(ValueError, match="jobs must be at least 2"):
        dataclasses.replace(WORLD, jobs=(1, 4))
    with pytest.raises(ValueError, match="machines must lie in"):
        dataclasses.replace(WORLD, machines=(0, 4))
    with pytest.raises(ValueError, match="unknown objective"):
        dataclasses.replace(WORLD, objective="late")
    with pytest.raises(ValueError, match="unknown rule"):
        WORLD.teacher("spd")
