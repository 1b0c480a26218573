"""Step for step against the real `vllm.v1.core.sched.scheduler.Scheduler` (0.32).

Compared after every step (`step_record.record`): scheduled tokens and prefix-cache hits, running
and waiting order, preemptions, usage, and the exact order of the free list before and after the
step's requests finish.
"""

import json
from itertools import islice, zip_longest
from typing import Any

import golden
import pytest
from drive_makespan import engine_config, records, workload
from random_cases import random_case
from real_vllm import drive, interpreter
from same_log import assert_same_log
from step_record import digest

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.traces.transform import to_rate

CASES = 112
REQUESTS = 80
BATCHES = 4
"""The cases are compared in so many tests, which can run side by side."""

REQUESTS_PER_S = 4.0
"""Enough to keep such small engines busy, with pauses."""

ENTRIES = json.loads(golden.FILE.read_text())


@pytest.fixture(scope="module")
def vllm():
    python = interpreter()
    if python is None:
        pytest.skip("the real vLLM is not installed (make vllm)")
    return python


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """As `drive_vllm.outcome`, of the project's scheduler."""
    steps = list(records(case))
    return {
        "digests": [digest(step) for step in steps],
        "preemptions": sum(len(step["preempted"]) for step in steps),
    }


def first_difference(a: list[str], b: list[str]) -> int | None:
    """Number of the first step in which two lists of digests differ."""
    return next((step for step, (x, y) in enumerate(zip_longest(a, b)) if x != y), None)


@pytest.mark.slow_in_python
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_step_is_vllms(vllm, batch, tmp_path):
    cases = [random_case(seed, REQUESTS) for seed in range(batch, CASES, BATCHES)]
    theirs = drive(vllm, cases, tmp_path)
    steps = preemptions = 0
    for case, expected in zip(cases, theirs, strict=True):
        step = first_difference(outcome(case)["digests"], expected["digests"])
        if step is not None:
            (real,) = drive(vllm, [case], tmp_path, show=step)
            assert next(islice(records(case), step, None), None) == real
            pytest.fail(f"step {step} differs and looks the same: {case}")
        steps += len(expected["digests"])
        preemptions += expected["preemptions"]
    # 250,000 steps in all batches, and the cases are of the kind that tells.
    assert steps >= 250_000 / BATCHES
    assert preemptions >= 1000


@pytest.mark.parametrize("entry", ENTRIES, ids=[str(entry["seed"]) for entry in ENTRIES])
def test_every_step_is_what_vllm_did(entry):
    mine = golden.entry(entry["seed"], outcome(random_case(entry["seed"], golden.REQUESTS)))
    assert mine == entry


def test_what_vllm_did_tells_schedulers_apart():
    assert sum(entry["steps"] for entry in ENTRIES) > 10_000
    assert sum(entry["preemptions"] for entry in ENTRIES) > 500


@pytest.mark.slow_in_python
@pytest.mark.parametrize("seed", range(CASES))
def test_jumping_equals_stepping_on_these_cases(seed):
    case = random_case(seed, REQUESTS)
    config = FleetConfig((ReplicaConfig(engine=engine_config(case)),))
    requests = to_rate(workload(case), REQUESTS_PER_S)
    jumped, stepped = (
        simulate(Fleet(requests, config, jumping=jumping), lambda decision: 0).log
        for jumping in (True, False)
    )
    assert_same_log(jumped, stepped)
