"""Routing decisions made by hand, without a fleet."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from makespan.envs.llm.config import EngineConfig, ReplicaConfig
from makespan.envs.llm.decision import IN_FLIGHT, RECENT, Gauges, RequestView, RoutingDecision
from makespan.envs.llm.replica import step_time

ENGINE = EngineConfig(max_num_batched_tokens=2048, max_num_seqs=256)


def rows(dtype: np.dtype, *values: dict) -> np.ndarray:
    """Structured rows; a field that is not named is 0."""
    array = np.zeros(len(values), dtype)
    for row, fields in zip(array, values, strict=True):
        for name, value in fields.items():
            row[name] = value
    return array


def column(values, n: int, default: float, dtype: type = np.int64) -> np.ndarray:
    return np.full(n, default, dtype) if values is None else np.array(values, dtype)


def make_gauges(n: int, running=None, waiting=None, kv_usage=None, age_s=None) -> Gauges:
    """Nan, as before the first scrape, where nothing is given."""
    columns = (running, waiting, kv_usage, age_s)
    return Gauges(*(column(values, n, np.nan, np.float64) for values in columns))


def make_decision(
    n: int = 4,
    *,
    time: float = 0.0,
    requests=None,
    prefill_tokens=None,
    decode_tokens=None,
    prefix_tokens=None,
    gauges: dict | None = None,
    in_flight=None,
    recent=None,
    healthy=None,
    can_hold: bool = False,
    kv_blocks: int = 1001,
    models=None,
    engine: EngineConfig = ENGINE,
    **request,
) -> RoutingDecision:
    """One request before `n` replicas; what is not named is empty, idle and healthy."""
    held = in_flight or [[]] * n
    finished = recent or [[]] * n
    router: Any = SimpleNamespace(
        requests=column(requests, n, 0),
        prefill_tokens=column(prefill_tokens, n, 0),
        decoding=np.zeros(n, np.int64),
        block_size=np.full(n, 16),
        kv_blocks=np.full(n, kv_blocks),
        step_time=models,
        engines=[engine] * n,
        decode_tokens=lambda: column(decode_tokens, n, 0),
        gauges=lambda: make_gauges(n, **(gauges or {})),
        prefix_tokens=lambda _request: column(prefix_tokens, n, 0),
        in_flight=lambda i: rows(IN_FLIGHT, *held[i]),
        recent=lambda i: rows(RECENT, *finished[i]),
    )
    fields = {
        "index": 0,
        "prompt_tokens": 1000,
        "prefix_hashes": np.zeros(0, np.int64),
        "session": -1,
        "priority": 0,
        "slo_class": "",
        "predicted_tokens": np.nan,
        "attempt": 0,
    }
    mask = np.ones(n, bool) if healthy is None else np.array(healthy, bool)
    mask = np.append(mask, True) if can_hold else mask
    return RoutingDecision(time, RequestView(**(fields | request)), mask, router)


@pytest.fixture(scope="session")
def decide():
    """`make_decision`, for tests in other files."""
    return make_decision


@pytest.fixture(scope="session")
def models():
    """Step-time models of replicas that differ by speed alone."""
    return lambda *speeds: [step_time(ReplicaConfig(speed=speed)) for speed in speeds]
