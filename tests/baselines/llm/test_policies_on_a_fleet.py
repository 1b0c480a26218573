"""Every policy on a small fleet with sessions, an outage and slow gauges."""

import numpy as np
import pytest

from makespan.baselines.llm import POLICIES, policy
from makespan.baselines.llm.lookahead import Lookahead
from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import (
    EngineConfig,
    FleetConfig,
    GaugeConfig,
    Outage,
    PredictorConfig,
    ReplicaConfig,
)
from makespan.envs.llm.fleet import STATUS, Fleet
from makespan.traces.workload import Workload

OUTAGE = Outage(replica=1, start_s=3.0, duration_s=4.0)


def conversations(sessions: int = 12, turns: int = 5) -> Workload:
    """Sessions whose turns re-send what came before: 20 blocks of prompt more with each turn."""
    count = sessions * turns
    turn = np.repeat(np.arange(turns), sessions)
    session = np.tile(np.arange(sessions), turns)
    blocks = 20 * (turn + 1)
    hashes = [1000 * s + np.arange(b) for s, b in zip(session, blocks, strict=True)]
    return Workload(
        arrival_s=np.arange(count) * 0.2,
        prompt_tokens=16 * blocks + 5,
        output_tokens=20 + 7 * session,
        hash_offsets=np.concatenate([[0], np.cumsum(blocks)]),
        hashes=np.concatenate(hashes),
        session=session,
    )


def serve(name: str, **config) -> Fleet:
    settings = {"replicas": (ReplicaConfig(),) * 3, "gauges": GaugeConfig(period_s=1.0)} | config
    return simulate(Fleet(conversations(), FleetConfig(**settings)), policy(name, seed=1))


# The files beside this one take the branches of the policies; here one is enough in plain Python.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "lookahead" else pytest.mark.slow_in_python)
        for name in POLICIES
    ],
)
def test_every_request_is_served_around_an_outage(name):
    log = serve(name, outages=(OUTAGE,)).log
    assert {STATUS[status] for status in log["status"]} == {"finished"}
    down = (log["sent_s"] >= OUTAGE.start_s) & (log["sent_s"] < OUTAGE.start_s + OUTAGE.duration_s)
    assert not (log["replica"][down] == OUTAGE.replica).any()


@pytest.mark.slow_in_python  # the same runs twice
@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_gives_the_same_choices(name):
    np.testing.assert_array_equal(serve(name).log["replica"], serve(name).log["replica"])


@pytest.mark.slow_in_python  # the same runs, another column of the log
@pytest.mark.parametrize("name", ["session_hash", "production_prefixaware", "smetric"])
def test_affinity_finds_more_in_the_cache_than_chance(name):
    assert serve(name).log["cached_tokens"].sum() > serve("random").log["cached_tokens"].sum()


def test_sessions_stay_on_their_replica():
    log = serve("session_hash").log
    for session in range(12):
        assert len(set(log["replica"][log["session"] == session])) == 1


def burst(extra: bool) -> Workload:
    """Forty requests at once, and one more two seconds later if `extra`."""
    random = np.random.default_rng(7)
    arrival_s = np.append(np.zeros(40), [2.0] if extra else [])
    return Workload(
        arrival_s=arrival_s,
        prompt_tokens=np.append(random.integers(50, 1500, 40), [900] if extra else []),
        output_tokens=np.append(random.integers(5, 300, 40), [150] if extra else []),
    )


def test_lookahead_foresees_what_a_request_adds():
    """Its estimate for one request against two runs of the fleet, with it and without."""
    config = FleetConfig(
        replicas=(ReplicaConfig(engine=EngineConfig(enable_prefix_caching=False)),),
        predictor=PredictorConfig(kind="oracle"),
    )
    foreseen = []

    def noting(decision) -> int:
        foreseen.append(Lookahead().added_seconds(decision)[0])
        return 0

    without, including = (
        simulate(Fleet(burst(extra), config), noting).latency_s() for extra in (False, True)
    )
    assert foreseen[-1] == pytest.approx(including - without, rel=0.03)


@pytest.mark.parametrize(
    ("name", "constants"),
    [("dynamo_kv_queue", {"queue_threshold": 0.5}), ("lookahead_hold", {"limit_s": 0.1})],
)
def test_what_is_held_is_served_and_only_where_a_fleet_can_hold(name, constants):
    def decisions(**config) -> int:
        settings = FleetConfig(replicas=(ReplicaConfig(),) * 2, **config)
        fleet = simulate(Fleet(burst(True), settings), policy(name, 1, **constants))
        assert {STATUS[status] for status in fleet.log["status"]} == {"finished"}
        return fleet.counters["decisions"]

    assert decisions() == 41
    assert decisions(can_hold=True) > 41
    assert decisions(can_hold=True, hold_order="shortest") > 41
