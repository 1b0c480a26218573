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
from makespan.agents.llm.cost import Reference
from makespan.agents.llm.env import RouterTrainingEnv
from makespan.agents.llm.episodes import SHAPES, EpisodeDistribution, draw
from makespan.agents.llm.observation import GRAPH, RouterEncoder
from makespan.agents.llm.policy import LearnedRouter
from makespan.agents.llm.prior import LIMIT, PRIORS, Prior
from makespan.baselines.llm import policy as baseline
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.llm.config import FleetConfig, Outage, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.traces.synthetic import synthetic

SMALL = EpisodeDistribution(replicas=(2, 4), requests=(10, 20))


def weights(trained: bool, prior: str = "lookahead_hold") -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    env = RouterTrainingEnv(SMALL, prior)
    shapes = shapes_of(env.observation_space)  # type: ignore[arg-type]
    network = GraphNetwork(GRAPH, shapes, NetworkConfig(hidden=8))
    if trained:
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.5)
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def fleet(replicas: int, requests: int = 300, rate: float = 4.0, **settings: object) -> Fleet:
    """Mixed, and with a router that may hold; `rate` is that of each replica."""
    kinds = ("A100", "H100", "L40S")
    config = FleetConfig(
        replicas=tuple(ReplicaConfig(kinds[r % 3]) for r in range(replicas)),
        **({"can_hold": True, "hold_order": "shortest"} | settings),  # type: ignore[arg-type]
    )
    return Fleet(synthetic("sharegpt_sessions", requests, rate * replicas, seed=3), config)


def log(policy: Policy, make: Callable[[], Fleet]) -> bytes:
    return b"".join(column.tobytes() for column in simulate(make(), policy).log.values())


@pytest.mark.parametrize("can_hold", [True, False])
@pytest.mark.parametrize("rule", ["lookahead_hold", "lookahead", "lmetric"])
def test_untrained_it_is_the_rule_it_builds_on(rule: str, can_hold: bool) -> None:
    def make() -> Fleet:
        outage = Outage(1, 1.0, 2.0)
        return fleet(5, rate=60.0, can_hold=can_hold, outages=(outage,))

    untrained = LearnedRouter(weights(trained=False), rule)
    assert log(untrained, make) == log(baseline(rule), make)


def test_it_holds_requests_where_the_fleet_lets_it() -> None:
    def waits(can_hold: bool) -> int:
        router = LearnedRouter(weights(trained=False), "lookahead_hold")
        served = simulate(fleet(5, rate=60.0, can_hold=can_hold), router).log
        return int((served["sent_s"] > served["arrival_s"]).sum())

    assert waits(can_hold=True) > 10
    assert waits(can_hold=False) == 0


def test_trained_it_is_something_else() -> None:
    def make() -> Fleet:
        return fleet(5)

    trained = LearnedRouter(weights(trained=True), "lookahead_hold")
    assert log(trained, make) != log(baseline("lookahead_hold"), make)


@pytest.mark.parametrize("replicas", [1, 16, 64])
def test_it_routes_for_fleets_of_any_size(replicas: int) -> None:
    router = LearnedRouter(weights(trained=True), "lmetric")
    served = simulate(fleet(replicas, requests=100), router).log
    assert (served["status"] == 0).all()


def test_it_never_sends_to_a_replica_that_is_down() -> None:
    outage = Outage(2, 0.0, 1e6)
    routed = simulate(
        fleet(3, can_hold=False, outages=(outage,)), LearnedRouter(weights(trained=True), "none")
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


def play(env: RouterTrainingEnv, seed: int, choose: Callable[..., int]) -> np.ndarray:
    """The rewards of an episode."""
    observation, _ = env.reset(seed=seed)
    rewards = []
    while env.decision is not None:
        observation, reward, *_ = env.step(choose(observation, env.mask))
        rewards.append(reward)
    return np.array(rewards)


def as_the_rule(observation: dict[str, np.ndarray], mask: np.ndarray) -> int:
    return int(np.where(mask, observation["prior"], -np.inf).argmax())


def test_a_policy_that_does_as_the_reference_earns_nothing() -> None:
    crowded = EpisodeDistribution((2, 4), (1.2, 1.2), (60, 80), outages=0.0)
    env = RouterTrainingEnv(crowded)
    for seed in range(4):
        assert play(env, seed, as_the_rule) == pytest.approx(0, abs=1e-9)


def test_an_illegal_action_costs_what_is_done_in_its_place() -> None:
    env = RouterTrainingEnv(EpisodeDistribution((2, 2), requests=(20, 20), outages=0.0))
    env.reset(seed=0)
    assert not env.mask[-1]  # nothing to wait for
    *_, info = env.step(len(env.mask) - 1)
    assert info["illegal"]
    assert env._account.sent_s[0] > 0


@pytest.mark.parametrize("holds", [True, False])
def test_the_return_is_what_is_saved(holds: bool) -> None:
    """Costs told at once add up to the latencies that come in later."""
    turn = iter(range(10_000))

    def in_turn(observation: dict[str, np.ndarray], mask: np.ndarray) -> int:
        if holds and mask[-1] and next(turn) % 3:
            return len(mask) - 1
        return next(turn) % 3

    env = RouterTrainingEnv(EpisodeDistribution((3, 3), requests=(80, 80), outages=0.0))
    for seed in range(3):
        earned = play(env, seed, in_turn).sum()
        requests = len(env.simulation.workload)
        saved_s = env._reference.latency_s - env.simulation.latency_s()
        saved = saved_s / env._reference.latency_s * requests
        assert earned == pytest.approx(saved, rel=0.15, abs=0.02 * requests)


def test_costs_sum_to_the_total_latency() -> None:
    workload = synthetic("azure_conv", 200, rate=6.0, seed=1)
    served = Fleet(workload, FleetConfig((ReplicaConfig(model="Llama-3.1-8B"),) * 4))
    reference = Reference(served, baseline("round_robin"))
    assert reference.sent_s.sum() == pytest.approx(served.latency_s(), rel=0.005)
    assert reference.held_s(np.inf) == 0


def test_holding_is_charged_by_the_second() -> None:
    workload = synthetic("azure_conv", 60, rate=60.0, seed=1)
    served = Fleet(workload, FleetConfig((ReplicaConfig(),), can_hold=True))
    reference = Reference(served, lambda decision: int(decision.requests[0] > 3))
    waits = served.log["sent_s"] - served.log["arrival_s"]
    assert waits.max() > 1
    assert reference.held_s(np.inf) == pytest.approx(waits.sum())
    middle = float(np.median(served.log["sent_s"]))
    so_far = np.clip(middle - served.log["arrival_s"], 0, waits)
    assert reference.held_s(middle) == pytest.approx(so_far.sum())


# What a rule's scores look like.


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_prefers_what_its_rule_chooses(name: str) -> None:
    prior, rule = Prior(name), baseline(name) if name != "none" else lambda decision: 0
    run = fleet(6, requests=60)
    while (decision := run.next_decision()) is not None:
        opinion, chosen = prior.opinion(decision), rule(decision)
        if chosen < decision.replicas:
            assert opinion.behind.argmax() == chosen
            assert opinion.hold <= 0 or not decision.action_mask[-1]
        else:
            assert opinion.hold > 0
        assert opinion.behind.max() == 0
        assert (opinion.cost >= 0).all()
        run.decide(chosen)


@pytest.mark.parametrize("name", ["lookahead", "lmetric"])
def test_rules_that_never_hold_think_nothing_of_it(name: str) -> None:
    decision = fleet(3).next_decision()
    assert decision is not None
    assert Prior(name).opinion(decision).hold == -np.inf
    observation = RouterEncoder(5, name).encode(decision)
    assert observation["prior"].tolist()[:3] == observation["behind"].tolist()[:3]
    assert observation["prior"][-1] == -LIMIT


@pytest.mark.parametrize("name", PRIORS)
def test_with_nobody_up_there_is_an_opinion_all_the_same(name: str) -> None:
    run = fleet(2, outages=(Outage(0, 0.0, 1e6), Outage(1, 0.0, 1e6)))
    decision = run.next_decision()
    while decision is not None and decision.healthy.any():  # what came before the outage
        run.decide(int(decision.healthy.argmax()))
        decision = run.next_decision()
    assert decision is not None
    observation = RouterEncoder(2, name).encode(decision)
    assert all(np.isfinite(entry).all() for entry in observation.values())
    assert observation["behind"].tolist() == [-LIMIT] * 2
    assert LearnedRouter(weights(trained=True), name)(decision) == 2


def test_an_unknown_prior_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown prior 'lmetrics'\. Did you mean 'lmetric'"):
        Prior("lmetrics")


def test_a_fleet_that_is_too_large_is_refused() -> None:
    decision = fleet(5).next_decision()
    assert decision is not None
    with pytest.raises(ValueError, match="the fleet has 5 replicas, the encoder room for 4"):
        RouterEncoder(4, "lmetric").encode(decision)
