"""The rows of the live comparison, on figures that are known."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from fake_vllm import FakeVLLM

from makespan.envs.llm.config import EngineConfig
from makespan.envs.llm.hardware_file import MeasuredHardware
from makespan.envs.llm.step_time import ClosedForm
from makespan.experiments.calibrate import Calibration
from makespan.experiments.fidelity.row import Missing
from makespan.experiments.live import fidelity
from makespan.experiments.live.client import Client, Limits
from makespan.experiments.live.fidelity import TRIALS, Replay, fleet_of, predict, workload_of

STEP_MS = 10.0
FORM = ClosedForm(
    linear=((STEP_MS, 0.0), (0.0, 0.2)),
    decode=(0.0, 0.05, 0.0005),
    prefill=(0.0, 0.0, 0.0002),
    mixed=None,
    lm_head=(0.0, 0.0),
)
ENGINE = EngineConfig(
    block_size=32, kv_blocks=193, max_num_batched_tokens=2048, max_num_seqs=16, max_model_len=2048
)
HARDWARE = MeasuredHardware("tiny", ENGINE, FORM)


def replayed(e2e, preemptions=0.0):
    """A replay with these end-to-end latencies."""
    e2e = np.asarray(e2e, float)
    return Replay({"TTFT": e2e / 2, "TPOT": e2e * 10, "E2E": e2e}, preemptions)


def log_of(e2e):
    """A log with these end-to-end latencies, of 11 tokens each."""
    e2e, zero = np.asarray(e2e, float), np.zeros(len(e2e))
    log = {"arrival_s": zero, "first_token_s": e2e / 2, "finish_s": e2e}
    return log | {"output_tokens": np.full(len(e2e), 11), "preemptions": zero + 2}


def test_predictions_are_held_against_both_replays():
    replays = [replayed([1.0, 3.0]), replayed([2.0, 4.0])]
    rows = fidelity.latency_rows("steady", replays, log_of([2.0, 3.2]))
    by_what = {row.what: row for row in rows}
    mean = by_what["steady: end-to-end latency, mean"]
    assert (mean.reference, mean.ours, mean.passed) == (2.5, 2.6, True)
    p99 = by_what["steady: end-to-end latency, p99"]
    assert (p99.reference, p99.passed) == (pytest.approx(3.48), True)
    assert by_what["steady: time to first token, mean"].passed is None


def test_a_prediction_that_is_off_fails():
    rows = fidelity.latency_rows("steady", [replayed([1.0, 3.0])], log_of([2.0, 2.5]))
    assert [row.passed for row in rows] == [None, None, False, False]


def test_noise_is_between_the_replays():
    mean, p99 = fidelity.noise_rows("steady", replayed([1.0, 3.0]), replayed([2.0, 4.0]))
    assert (mean.reference, mean.ours, mean.difference) == (2.0, 3.0, 0.5)
    assert mean.passed is p99.passed is None


def test_preemptions_are_shown_where_there_are_any():
    (row,) = fidelity.preemption_rows("over", [replayed([1.0], 3), replayed([1.0], 5)], log_of([1]))
    assert (row.reference, row.ours) == (4.0, 2.0)
    none = log_of([1]) | {"preemptions": np.zeros(1)}
    assert fidelity.preemption_rows("over", [replayed([1.0])], none) == []


def test_what_a_request_spends_outside_the_engine_is_added():
    fleet = fleet_of(HARDWARE)
    workload = workload_of(TRIALS[0], fleet)
    inside, outside = (predict(workload, fleet, seconds) for seconds in (0.0, 0.004))
    for name in ("first_token_s", "finish_s"):
        assert outside[name] - inside[name] == pytest.approx(0.004)


@pytest.mark.slow_in_python
def test_the_trials_are_of_the_kinds_that_they_say():
    fleet = fleet_of(HARDWARE)
    steady, bursty, overloaded = (workload_of(trial, fleet) for trial in TRIALS)
    for workload in (steady, bursty, overloaded):
        longest = (workload.prompt_tokens + workload.output_tokens).max()
        assert longest < ENGINE.max_model_len
    assert len(steady.hashes) == len(overloaded.hashes) == 0
    spread = [np.diff(w.arrival_s).std() / np.diff(w.arrival_s).mean() for w in (steady, bursty)]
    assert spread[0] < 1.2 < spread[1]
    logs = [predict(w, fleet, 0.0) for w in (steady, bursty, overloaded)]
    assert [log["preemptions"].sum() > 0 for log in logs] == [False, False, True]
    assert [log["cached_tokens"].sum() > 0 for log in logs] == [False, True, False]


def test_without_vllm_the_row_is_missing():
    (row,) = fidelity.rows(None)
    assert isinstance(row, Missing)
    assert "make vllm" in row.why


def test_every_trial_is_replayed_twice_with_other_words():
    limits = Limits("org/fake", 16, 101, 256, False)
    found = Calibration(HARDWARE, limits, [], {}, 0.0)
    trial = replace(TRIALS[0], shape=replace(TRIALS[0].shape, requests=6))
    server = FakeVLLM(max_model_len=2048, budget=2048)

    async def run():
        async with server.serving() as url, Client(url) as client:
            await client.limits()
            return await fidelity.compare(client, found, [trial])

    rows = asyncio.run(run())
    assert len(server.lengths) == 12
    assert [row.what for row in rows if "noise" in row.what] == [
        "steady: noise of end-to-end latency, mean",
        "steady: noise of end-to-end latency, p99",
    ]
