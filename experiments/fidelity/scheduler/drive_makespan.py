"""Drive the project's scheduler through cases, as `drive_vllm.py` drives vLLM's."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.engines import Engines
from makespan.envs.llm.memory import new_state
from makespan.envs.llm.state import NONE, State
from makespan.experiments.fidelity.scheduler.step_record import arriving, digest, record
from makespan.traces.workload import HASH_BLOCK_TOKENS, Request, Workload

SETTINGS = (
    "block_size",
    "kv_blocks",
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_model_len",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "scheduler_reserve_full_isl",
    "watermark",
    "policy",
)


def engine_config(case: dict[str, Any]) -> EngineConfig:
    """The engine that the case describes."""
    return EngineConfig(**{name: case[name] for name in SETTINGS})


def workload(case: dict[str, Any]) -> Workload:
    """The requests of the case; a shared text is hashed as far as it reaches."""
    rows = []
    for described in case["requests"]:
        blocks = (
            min(described["shared"], described["prompt_tokens"] + described["output_tokens"])
            // HASH_BLOCK_TOKENS
        )
        first = described["text"] * 100_000
        rows.append(
            Request(
                described["arrival_s"],
                described["prompt_tokens"],
                described["output_tokens"],
                tuple(range(first, first + blocks)),
                priority=described["priority"],
            )
        )
    return Workload.from_requests(rows)


def engines_for(case: dict[str, Any]) -> Engines:
    """One engine, to be driven by hand; its step times do not matter."""
    requests = workload(case)
    fleet = FleetConfig((ReplicaConfig(engine=engine_config(case)),))
    predicted = np.full(len(requests), np.nan)
    rng = np.random.default_rng(0)
    engines = Engines(new_state(requests, fleet, [np.zeros(1)], predicted, rng, False))
    engines.state.requests.rank = requests.priority
    engines.state.requests.sent_s = requests.arrival_s
    return engines


def free_list(s: State) -> list[int]:
    """Blocks in the order in which they are taken next."""
    following = s.blocks["next"].tolist()
    order, at = [], following[0]
    while at != 0:
        order.append(at)
        at = following[at]
    return order


def waiting(s: State) -> list[int]:
    """The waiting queue of the only engine."""
    following = s.requests["next"]
    order, q = [], int(s.replicas["waiting_head"][0])
    while q != NONE:
        order.append(q)
        q = int(following[q])
    return order


def records(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The record of every step until all requests are done."""
    engines = engines_for(case)
    s = engines.state
    replica, requests = s.replicas[0], s.requests.view(np.ndarray)
    sent = step = 0
    while sent < len(case["requests"]) or replica.running + replica.waiting:
        for _ in range(min(arriving(case, step), len(case["requests"]) - sent)):
            engines.enqueue(0, sent, False)
            sent += 1
        step += 1
        preemptions = requests["preemptions"].copy()
        engines.schedule(0)
        running = s.running[: replica.running]
        tokens = requests["scheduled"][running]
        computed = requests["computed"][running] - tokens
        rows = np.stack([running, tokens, computed], axis=1)[tokens > 0]
        before = {
            "scheduled": rows.tolist(),
            "running": running.tolist(),
            "waiting": waiting(s),
            "preempted": np.flatnonzero(requests["preemptions"] > preemptions).tolist(),
            "free": free_list(s),
            "usage": 1 - int(replica.free_blocks) / (case["kv_blocks"] - 1),
        }
        engines.complete(0, 0.0)
        yield record(**before, free_after=free_list(s))


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """The digest of every step, and how many requests were preempted; as `drive_vllm.outcome`."""
    steps = list(records(case))
    return {
        "digests": [digest(step) for step in steps],
        "preemptions": sum(len(step["preempted"]) for step in steps),
    }
