"""Step for step against the real `vllm.v1.core.sched.scheduler.Scheduler` (0.32).

Compared after every step (`step_record.record`): scheduled tokens and prefix-cache hits, running
and waiting order, preemptions, usage, and the exact order of the free list before and after the
step's requests finish.
"""

from itertools import islice, zip_longest

import pytest
from same_log import assert_same_log

from makespan.experiments.fidelity.scheduler import checks, golden, real_vllm
from makespan.experiments.fidelity.scheduler.drive_makespan import outcome, records
from makespan.experiments.fidelity.scheduler.random_cases import random_case

BATCHES = 4
"""The cases are compared in so many tests, which can run side by side."""

ENTRIES = golden.entries()


@pytest.fixture(scope="module")
def vllm():
    found = real_vllm.environment()
    if found is None:
        pytest.skip(real_vllm.ABSENT)
    return found


def first_difference(a: list[str], b: list[str]) -> int | None:
    """Number of the first step in which two lists of digests differ."""
    return next((step for step, (x, y) in enumerate(zip_longest(a, b)) if x != y), None)


@pytest.mark.slow_in_python
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_step_is_vllms(vllm, batch):
    cases = [checks.case(seed) for seed in range(batch, checks.ENGINES, BATCHES)]
    theirs = real_vllm.drive(vllm, cases)
    steps = preemptions = 0
    for case, expected in zip(cases, theirs, strict=True):
        step = first_difference(outcome(case)["digests"], expected["digests"])
        if step is not None:
            (real,) = real_vllm.drive(vllm, [case], show=step)
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
@pytest.mark.parametrize("seed", range(checks.ENGINES))
def test_jumping_equals_stepping_on_these_cases(seed):
    assert_same_log(*checks.logs(checks.case(seed)))
