"""Learned routers: as their prior before training, on fleets of any size, without torch."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.random import SeedSequence

from makespan.agents.config import NetworkConfig
from makespan.agents.graph.declaration import shapes_of
from makespan.agents.graph.network import GraphNetwork
from makespan.agents.llm.cost import Ledger
from makespan.agents.llm.env import RouterTrainingEnv
from makespan.agents.llm.episodes import SHAPES, EpisodeDistribution, draw
from makespan.agents.llm.observation import GRAPH, RouterEncoder
from makespan.agents.llm.policy import LearnedRouter
from makespan.agents.llm.prior import PRIORS, Prior
from makespan.baselines.llm import policy as baseline
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.llm.config import FleetConfig, Outage, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.traces.synthetic import synthetic

SMALL = EpisodeDistribution(replicas=(2, 4), requests=(10, 20))


def weights(trained: bool, prior: str = "lookahead") -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    env = RouterTrainingEnv(SMALL, prior)
    shapes = shapes_of(env.observation_space)  # type: ignore[arg-type]
    network = GraphNetwork(GRAPH, shapes, NetworkConfig(hidden=8))
    if trained:
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.5)
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def fleet(replicas: int, requests: int = 300, **settings: object) -> Fleet:
    kinds = ("A100", "H100", "L40S")
    config = FleetConfig(
        replicas=tuple(ReplicaConfig(kinds[r % 3]) for r in range(replicas)),
        **settings,  # type: ignore[arg-type]
    )
    return Fleet(synthetic("sharegpt_sessions", requests, rate=4.0 * replicas, seed=3), config)


def log(policy: Policy, make: Callable[[], Fleet]) -> bytes:
    return b"".join(column.tobytes() for column in simulate(make(), policy).log.values())


@pytest.mark.parametrize("rule", ["lookahead", "lmetric"])
def test_untrained_it_is_the_rule_it_builds_on(rule: str) -> None:
    def make() -> Fleet:
        return fleet(5, outages=(Outage(1, 5.0, 10.0),))

    untrained = LearnedRouter(weights(trained=False), rule)
    assert log(untrained, make) == log(baseline(rule), make)


def test_trained_it_is_something_else() -> None:
    def make() -> Fleet:
        return fleet(5)

    trained = LearnedRouter(weights(trained=True), "lookahead")
    assert log(trained, make) != log(baseline("lookahead"), make)


@pytest.mark.parametrize("replicas", [1, 16, 64])
def test_it_routes_for_fleets_of_any_size(replicas: int) -> None:
    router = LearnedRouter(weights(trained=True), "lmetric")
    served = simulate(fleet(replicas, requests=100), router).log
    assert (served["status"] == 0).all()


def test_it_never_sends_to_a_replica_that_is_down() -> None:
    outage = Outage(2, 0.0, 1e6)
    routed = simulate(
        fleet(3, outages=(outage,)), LearnedRouter(weights(trained=True), "none")
    ).log["replica"]
    assert 2 not in routed[1:]


def test_serving_needs_no_torch() -> None:
    program = (
        "import sys, makespan.agents.llm.policy, makespan.experiments.policies as p;"
        "p.resolve('agent')['agent'](0);"
        "print(sorted({'torch', 'stable_baselines3', 'torch_geometric'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout.strip() == "[]", told.stderr


def test_episodes_follow_from_their_seed() -> None:
    first, second = (draw(EpisodeDistribution(), SeedSequence(5)) for _ in range(2))
    assert first.fleet == second.fleet
    assert np.array_equal(first.workload.arrival_s, second.workload.arrival_s)
    assert np.array_equal(first.workload.hashes, second.workload.hashes)
    assert draw(EpisodeDistribution(), SeedSequence(6)).fleet != first.fleet


def test_episodes_cover_what_they_promise() -> None:
    episodes = [draw(EpisodeDistribution(), SeedSequence(seed)) for seed in range(60)]
    sizes = {len(episode.fleet.replicas) for episode in episodes}
    assert sizes <= set(range(2, 13))
    assert len(sizes) > 7
    kinds = [{replica.hardware for replica in episode.fleet.replicas} for episode in episodes]
    assert {len(kind) for kind in kinds} == {1, 2}
    assert any(episode.fleet.outages for episode in episodes)
    assert max(episode.fleet.gauges.period_s for episode in episodes) > 5
    assert {e.fleet.predictor.kind for e in episodes} == {"bucket", "oracle", "none"}
    assert {e.fleet.replicas[0].model for e in episodes} == {"Llama-2-7B", "Llama-3.1-8B"}


def test_fresh_gauges_can_be_asked_for() -> None:
    distribution = EpisodeDistribution(stale=False)
    periods = {draw(distribution, SeedSequence(s)).fleet.gauges.period_s for s in range(5)}
    assert periods == {0.1}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_valid_whatever_is_drawn(shape: Callable[..., object]) -> None:
    for seed in range(50):
        shape(np.random.default_rng(seed))


@pytest.mark.parametrize(
    "wrong", [{"replicas": (5, 2)}, {"load": (0.0, 1.0)}, {"outages": 1.5}, {"requests": (0, 3)}]
)
def test_impossible_distributions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(EpisodeDistribution(), **wrong)  # type: ignore[arg-type]


def test_the_trace_is_known_by_its_first_half(tmp_path: object) -> None:
    path = f"{tmp_path}/mine.csv"
    rows = [f"{i},{100 if i < 400 else 999},20" for i in range(800)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    distribution = EpisodeDistribution(traces=(path,), requests=(10, 20), replicas=(2, 3))
    drawn = [draw(distribution, SeedSequence(seed)).workload for seed in range(40)]
    windows = [w for w in drawn if w.prompt_tokens.max() == w.prompt_tokens.min()]
    assert 5 < len(windows) < 25
    assert {int(w.prompt_tokens[0]) for w in windows} == {100}


# The training environment.


def test_a_policy_that_does_as_the_reference_earns_nothing() -> None:
    env = RouterTrainingEnv(replace(SMALL, outages=0.0))
    observation, _ = env.reset(seed=2)
    while env.decision is not None:
        observation, reward, *_ = env.step(int(observation["prior"][env.mask].argmax()))
        assert reward == 0


def test_the_return_is_what_is_saved() -> None:
    """Costs told at once add up to the latencies that come in later."""
    env = RouterTrainingEnv(EpisodeDistribution(replicas=(3, 3), requests=(80, 80), outages=0.0))
    for seed in range(3):
        env.reset(seed=seed)
        turn, earned = 0, 0.0
        while env.decision is not None:
            _, reward, *_ = env.step(turn % 3)
            turn, earned = turn + 1, earned + reward
        excess = env.simulation.latency_s() / env._unit_s - len(env.simulation.workload)
        assert -earned == pytest.approx(excess, rel=0.15, abs=0.02 * len(env.simulation.workload))


def test_costs_sum_to_the_total_latency() -> None:
    workload = synthetic("azure_conv", 200, rate=6.0, seed=1)
    served = Fleet(workload, FleetConfig((ReplicaConfig(model="Llama-3.1-8B"),) * 4))
    ledger = Ledger(served, baseline("round_robin"))
    simulate(served, ledger)
    assert ledger.seconds.sum() == pytest.approx(served.latency_s(), rel=0.005)


# What a rule's scores look like.


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_prefers_what_its_rule_chooses(name: str) -> None:
    prior, rule = Prior(name), baseline(name) if name != "none" else lambda decision: 0
    run = fleet(6, requests=60)
    while (decision := run.next_decision()) is not None:
        behind, cost = prior.show(decision)
        assert behind.argmax() == rule(decision)
        assert behind.max() == 0
        assert (cost >= 0).all()
        run.decide(rule(decision))


def test_an_unknown_prior_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match="unknown prior 'lmetrics'. Did you mean 'lmetric'"):
        Prior("lmetrics")


def test_a_fleet_that_is_too_large_is_refused() -> None:
    decision = fleet(5).next_decision()
    assert decision is not None
    with pytest.raises(ValueError, match="the fleet has 5 replicas, the encoder room for 4"):
        RouterEncoder(4, "lmetric").encode(decision)
