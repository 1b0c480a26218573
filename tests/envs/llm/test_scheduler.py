"""The compiled scheduler against the plain one of `reference_scheduler.py`, step by step."""

import numpy as np
import pytest
import reference_scheduler as reference

from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.engines import Engines
from makespan.envs.llm.memory import new_state
from makespan.experiments.fidelity.scheduler.drive_makespan import free_list, waiting
from makespan.traces.workload import Request, Workload

REQUESTS = 30


def random_case(seed):
    """A random engine and random requests that fit it."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([16, 32]))
    blocks = int(rng.integers(12, 60))
    length = min((blocks - 1) * size, int(rng.integers(100, 900)))
    chunking = bool(rng.random() < 0.8)
    config = EngineConfig(
        block_size=size,
        kv_blocks=blocks,
        max_num_batched_tokens=int(rng.integers(24, 300)) if chunking else length,
        max_num_seqs=int(rng.integers(1, 14)),
        max_model_len=length,
        enable_prefix_caching=bool(rng.random() < 0.6),
        enable_chunked_prefill=chunking,
        long_prefill_token_threshold=int(rng.choice([0, 0, 20, 64])),
        scheduler_reserve_full_isl=bool(rng.random() < 0.7),
        watermark=float(rng.choice([0.0, 0.0, 0.1])),
        policy="priority" if rng.random() < 0.5 else "fcfs",
    )
    requests = []
    for i in range(REQUESTS):
        prompt = int(rng.integers(1, max(2, length - 1)))
        output = int(rng.integers(1, 120))
        session = int(rng.integers(4))
        shared = int(rng.integers(0, (prompt + output) // 16 + 1))
        requests.append(
            Request(
                arrival_s=0.01 * i,
                prompt_tokens=prompt,
                output_tokens=output,
                prefix_hashes=tuple(1000 * session + k for k in range(shared)),
                priority=int(rng.integers(3)),
            )
        )
    return config, Workload.from_requests(requests), rng


def engines_for(config, workload):
    """One engine; its step times do not matter here."""
    predicted = np.full(len(workload), np.nan)
    fleet = FleetConfig((ReplicaConfig(engine=config),))
    rng = np.random.default_rng(0)
    return Engines(new_state(workload, fleet, [np.zeros(1)], predicted, rng, False))


def running(s):
    return s.running[: s.replicas[0].running].tolist()


# As plain Python a case takes about a second: these three take every branch that any of them takes.
PLAIN = (4, 5, 21)
SEEDS = [
    pytest.param(seed, marks=() if seed in PLAIN else pytest.mark.slow_in_python)
    for seed in range(24)
]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_step_is_the_reference_schedulers(seed):
    config, workload, rng = random_case(seed)
    engines = engines_for(config, workload)
    s = engines.state
    plain = reference.ReferenceScheduler(
        blocks=config.kv_blocks,
        size=config.block_size,
        budget=config.max_num_batched_tokens,
        seqs=config.max_num_seqs,
        length=config.max_model_len,
        caching=config.enable_prefix_caching,
        chunking=config.enable_chunked_prefill,
        threshold=config.long_prefill_token_threshold,
        reserve=config.scheduler_reserve_full_isl,
        watermark=config.watermark,
        priority=config.policy == "priority",
    )
    sent = 0
    for _ in range(20_000):
        for _ in range(int(rng.integers(0, 3))):
            if sent < len(workload):
                r = workload[sent]
                s.requests[sent].rank = r.priority
                s.requests[sent].sent_s = r.arrival_s
                engines.enqueue(0, sent, False)
                plain.add(
                    reference.Sequence(
                        sent,
                        r.prompt_tokens,
                        r.output_tokens,
                        r.priority,
                        r.arrival_s,
                        r.prefix_hashes,
                    )
                )
                sent += 1
        engines.schedule(0)
        expected = plain.schedule()
        assert {q: int(s.requests[q].scheduled) for q in running(s) if s.requests[q].scheduled} == (
            expected
        )
        assert running(s) == [q.index for q in plain.running]
        assert waiting(s) == [q.index for q in plain.waiting]
        assert free_list(s) == list(plain.pool.free)
        assert s.replicas[0].free_blocks == len(plain.pool.free)
        engines.complete(0, 0.0)
        plain.complete(expected)
        assert free_list(s) == list(plain.pool.free)
        if sent == len(workload) and not plain.running and not plain.waiting:
            break
    assert sent == len(workload)
    assert running(s) == []
    assert waiting(s) == []
    assert s.replicas[0].free_blocks == config.kv_blocks - 1


@pytest.mark.slow_in_python
def test_the_random_cases_preempt_and_share():
    """Otherwise the comparison above would say little."""
    preemptions = hits = 0
    for seed in range(24):
        config, workload, _ = random_case(seed)
        engines = engines_for(config, workload)
        s = engines.state
        s.requests.sent_s = workload.arrival_s
        for q in range(len(workload)):
            engines.enqueue(0, q, False)
        while s.replicas[0].running + s.replicas[0].waiting:
            engines.schedule(0)
            engines.complete(0, 0.0)
        preemptions += int(s.requests.preemptions.sum())
        hits += int(s.requests.cached_tokens.sum())
    assert preemptions > 50
    assert hits > 500
