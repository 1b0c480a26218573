"""Jumping over runs of decode steps lands where stepping one by one does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from same_log import assert_same_log

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import (
    EngineConfig,
    FleetConfig,
    GaugeConfig,
    Outage,
    PredictorConfig,
    ReplicaConfig,
)
from makespan.envs.llm.fleet import Fleet
from makespan.traces.workload import Request, Workload

POLICIES = ("fcfs", "priority", "sjf")
ADMISSIONS = ("vllm", "conservative", "past_future")


def random_workload(rng, requests, longest):
    """Bursts and gaps, shared prefixes that reach into answers, three priorities."""
    rows = []
    now = 0.0
    for _ in range(requests):
        now += float(rng.exponential(0.15)) if rng.random() < 0.6 else 0.0
        prompt = int(rng.integers(1, longest - 2))
        output = int(rng.integers(1, 150))
        shared = int(rng.integers(0, (prompt + output) // 16 + 1))
        session = int(rng.integers(3))
        hashes = tuple(10_000 * session + k for k in range(shared))
        rows.append(Request(now, prompt, output, hashes, priority=int(rng.integers(3))))
    return Workload.from_requests(rows)


def random_fleet(rng):
    """One to three replicas, small enough to preempt."""
    blocks = int(rng.integers(20, 80))
    longest = min(700, 16 * (blocks - 1))
    chunking = bool(rng.random() < 0.8)
    settings: dict[str, Any] = {
        "policy": str(rng.choice(POLICIES)),
        "admission": str(rng.choice(ADMISSIONS, p=[0.6, 0.2, 0.2])),
    }
    engine = EngineConfig(
        **settings,
        kv_blocks=blocks,
        max_num_batched_tokens=int(rng.integers(32, 600)) if chunking else longest,
        max_num_seqs=int(rng.integers(2, 20)),
        max_model_len=longest,
        enable_prefix_caching=bool(rng.random() < 0.7),
        enable_chunked_prefill=chunking,
        long_prefill_token_threshold=int(rng.choice([0, 0, 50])),
        scheduler_reserve_full_isl=bool(rng.random() < 0.7),
        watermark=float(rng.choice([0.0, 0.05])),
        starvation_steps=int(rng.choice([0, 40])),
        reserved_output_tokens=100,
    )
    config = FleetConfig(
        replicas=(ReplicaConfig(engine=engine),) * int(rng.integers(1, 4)),
        gauges=GaugeConfig(period_s=float(rng.choice([0.05, 3.0]))),
        predictor=PredictorConfig("oracle", error=0.5),
    )
    return config, longest


def observed(fleet):
    """Run `fleet` with least requests, noting at each decision what the router sees."""
    seen = []

    def policy(decision):
        gauges = decision.gauges
        seen.append(np.concatenate([decision.decode_tokens, decision.prefill_tokens]))
        seen.append(np.stack([gauges.running, gauges.waiting, gauges.kv_usage]).ravel())
        return decision.lowest(decision.requests)

    simulate(fleet, policy)
    return np.concatenate(seen)


# As plain Python a fleet takes seconds: these four take every branch that any of the sixty takes.
PLAIN = (2, 17, 38, 58)
SEEDS = [
    pytest.param(seed, marks=() if seed in PLAIN else pytest.mark.slow_in_python)
    for seed in range(60)
]


@pytest.mark.parametrize("seed", SEEDS)
def test_jumping_equals_stepping(seed):
    rng = np.random.default_rng(seed)
    config, longest = random_fleet(rng)
    workload = random_workload(rng, 80, longest)
    jumped = Fleet(workload, config, seed)
    stepped = Fleet(workload, config, seed, jumping=False)
    np.testing.assert_allclose(observed(jumped), observed(stepped), rtol=1e-9)
    assert_same_log(jumped.log, stepped.log)
    assert jumped.counters["steps"] == stepped.counters["steps"]
    assert jumped.counters["jumps"] <= stepped.counters["jumps"]


@pytest.mark.slow_in_python
@pytest.mark.parametrize("seed", range(20))
def test_jumping_equals_stepping_through_outages(seed):
    rng = np.random.default_rng(seed)
    config, longest = random_fleet(rng)
    workload = random_workload(rng, 80, longest)
    config = replace(
        config,
        outages=tuple(
            Outage(int(rng.integers(len(config.replicas))), *map(float, rng.uniform(0.5, 4.0, 2)))
            for _ in range(3)
        ),
        on_failure="fail" if seed % 2 else "reroute",
        cold_start_s=0.3,
    )
    jumped = Fleet(workload, config, seed)
    stepped = Fleet(workload, config, seed, jumping=False)
    np.testing.assert_allclose(observed(jumped), observed(stepped), rtol=1e-9)
    assert_same_log(jumped.log, stepped.log)


@pytest.mark.slow_in_python
def test_the_random_fleets_preempt_hit_and_jump():
    """Otherwise the comparison above would say little."""
    preemptions = hits = steps = jumps = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        config, longest = random_fleet(rng)
        fleet = Fleet(random_workload(rng, 80, longest), config, seed)
        observed(fleet)
        preemptions += fleet.log["preemptions"].sum()
        hits += fleet.log["cached_tokens"].sum()
        steps += fleet.counters["steps"]
        jumps += fleet.counters["jumps"]
    assert preemptions > 500
    assert hits > 10_000
    assert jumps < 0.6 * steps
