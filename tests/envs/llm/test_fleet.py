"""The fleet: timelines computed by hand, failures, and what the router sees."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toy_fleets import due, fleet_of, least_requests, replica, status

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import (
    EngineConfig,
    FleetConfig,
    GaugeConfig,
    Outage,
    PredictorConfig,
    ReplicaConfig,
)
from makespan.experiments.fidelity.queueing import STEP_S
from makespan.traces.workload import Request, Workload


def test_timeline_of_one_request():
    fleet = simulate(fleet_of([Request(1.0, 100, 5)]), least_requests)
    # 64 + 36 prompt tokens take two steps, the second gives the first token, four more follow.
    assert fleet.log["first_token_s"] == pytest.approx([1.02])
    assert fleet.log["finish_s"] == pytest.approx([1.06])
    assert fleet.counters["steps"] == 6


def test_an_arrival_joins_at_the_end_of_the_step_under_way():
    fleet = simulate(fleet_of([Request(0.0, 10, 50), Request(0.105, 10, 3)]), least_requests)
    # The first decodes in steps that end at 0.02, 0.03, ...; the second waits for 0.11.
    assert fleet.log["first_token_s"] == pytest.approx([0.01, 0.12])
    assert fleet.log["finish_s"] == pytest.approx([0.50, 0.14])


def test_arrivals_of_one_moment_share_the_first_step():
    fleet = simulate(fleet_of([Request(0.0, 10, 2), Request(0.0, 10, 2)]), least_requests)
    assert fleet.log["finish_s"] == pytest.approx([0.02, 0.02])


def test_head_of_line_waits_for_blocks():
    # 9 usable blocks of 16: the first takes 7 at once; the second needs 4 and waits for its end.
    small = replica(kv_blocks=10, max_num_batched_tokens=256)
    fleet = simulate(fleet_of([Request(0.0, 100, 3), Request(0.0, 60, 2)], small), least_requests)
    assert fleet.log["finish_s"] == pytest.approx([0.03, 0.05])
    assert fleet.log["preemptions"].tolist() == [0, 0]


def test_preemption_recomputes_from_the_start():
    # 4 usable blocks: both prompts take two; the first needs a third at its 33rd token.
    small = replica(kv_blocks=5, max_num_batched_tokens=256, enable_prefix_caching=False)
    requests = [Request(0.0, 30, 20), Request(0.0, 30, 20)]
    fleet = simulate(fleet_of(requests, small), least_requests)
    assert fleet.log["preemptions"].tolist() == [0, 1]
    # Three tokens came out of each when the first took its third block; the second starts over
    # when the first is done at 0.20, and needs one step for what it had and 16 for the rest.
    assert fleet.log["finish_s"] == pytest.approx([0.20, 0.37])


def test_under_priority_the_first_in_line_may_preempt_itself():
    # As above, but the first has to give way. The step in which it does computes nothing and takes
    # no time: the other goes on as if it were alone.
    small = replica(
        kv_blocks=5, max_num_batched_tokens=256, enable_prefix_caching=False, policy="priority"
    )
    requests = [Request(0.0, 30, 20, priority=1), Request(0.0, 30, 20)]
    fleet = simulate(fleet_of(requests, small), least_requests)
    assert fleet.log["preemptions"].tolist() == [1, 0]
    assert fleet.log["finish_s"] == pytest.approx([0.37, 0.20])


def test_requests_of_one_moment_do_not_preempt_each_other_in_turns():
    # Both prompts come in chunks and only one of them fits; vLLM's rule would never decide.
    tight = replica(
        kv_blocks=19,
        block_size=32,
        max_num_batched_tokens=576,
        long_prefill_token_threshold=64,
        scheduler_reserve_full_isl=False,
        enable_prefix_caching=False,
        policy="priority",
    )
    requests = [Request(0.0, 504, 52), Request(0.0, 459, 100)]
    fleet = simulate(fleet_of(requests, tight), least_requests)
    assert status(fleet) == ["finished"] * 2
    assert fleet.log["preemptions"][0] == 0


def test_prefix_cache_spares_the_shared_blocks():
    hashes = tuple(range(4))
    requests = [Request(0.0, 65, 1, hashes), Request(1.0, 65, 1, hashes), Request(2.0, 65, 1)]
    fleet = simulate(fleet_of(requests), least_requests)
    assert fleet.log["cached_tokens"].tolist() == [0, 64, 0]
    assert fleet.log["first_token_s"] == pytest.approx([0.02, 1.01, 2.02])


def test_a_longer_engine_block_uses_the_last_of_its_hashes():
    hashes = tuple(range(4))
    requests = [Request(0.0, 65, 1, hashes), Request(1.0, 65, 1, (*hashes[:3], 99))]
    wide = replica(block_size=32)
    fleet = simulate(fleet_of(requests, wide), least_requests)
    assert fleet.log["cached_tokens"].tolist() == [0, 32]


def test_latency_is_the_sum_over_requests():
    requests = [Request(0.1 * i, 30, 1 + i) for i in range(30)]
    fleet = fleet_of(requests)
    halfway = None
    while (decision := fleet.next_decision()) is not None:
        if decision.request.index == 15:
            halfway = fleet.latency_s()
        fleet.decide(0)
    log = fleet.log
    assert fleet.latency_s() == pytest.approx((log["finish_s"] - log["arrival_s"]).sum())
    at = requests[15].arrival_s
    spent = np.minimum(log["finish_s"], at) - log["arrival_s"]
    assert halfway == pytest.approx(spent[log["arrival_s"] <= at].sum())
    assert fleet.open_requests == 0


@pytest.mark.slow_in_python  # three runs for what any other test takes
def test_same_seed_same_log():
    rng = np.random.default_rng(0)
    workload = Workload(
        np.cumsum(rng.exponential(0.01, 300)), rng.integers(1, 200, 300), rng.integers(1, 600, 300)
    )
    logs = [
        simulate(fleet_of(workload, replica(), replica(), seed=seed), least_requests).log
        for seed in (1, 1, 2)
    ]
    for name in logs[0]:
        assert logs[0][name].tobytes() == logs[1][name].tobytes()
    assert logs[0]["predicted_tokens"].tobytes() != logs[2]["predicted_tokens"].tobytes()


def test_too_long_a_prompt_and_a_full_queue_are_rejected():
    tight = replica(max_num_seqs=1, max_num_queued_requests=1, max_model_len=200)
    requests = [Request(0.0, 200, 5), *(Request(0.5 + 0.001 * i, 10, 50) for i in range(4))]
    fleet = simulate(fleet_of(requests, tight), least_requests)
    assert status(fleet) == ["rejected", "finished", "finished", "rejected", "rejected"]
    assert fleet.open_requests == 0


@pytest.mark.parametrize(("on_failure", "expected"), [("reroute", "finished"), ("fail", "failed")])
def test_what_a_failed_replica_held(on_failure, expected):
    requests = [Request(0.0, 10, 100), Request(0.0, 10, 100)]
    fleet = fleet_of(
        requests, replica(), replica(), outages=(Outage(0, 0.5, 1.0),), on_failure=on_failure
    )
    simulate(fleet, least_requests)
    assert status(fleet) == [expected, "finished"]
    log = fleet.log
    if on_failure == "reroute":
        assert log["attempts"].tolist() == [2, 1]
        assert log["replica"].tolist() == [1, 1]
        assert log["finish_s"][0] == pytest.approx(1.5)
    assert fleet.open_requests == 0


def test_nobody_up_rejects_unless_requests_can_be_held():
    requests = [Request(1.0, 10, 5)]
    outages = (Outage(0, 0.5, 1.0), Outage(0, 1.0, 1.0))
    fleet = simulate(fleet_of(requests, outages=outages), least_requests)
    assert status(fleet) == ["rejected"]
    fleet = fleet_of(requests, outages=outages, can_hold=True, cold_start_s=0.25)
    simulate(fleet, least_requests)
    assert status(fleet) == ["finished"]
    # The outages overlap: up again at 2.0, serving after the cold start.
    assert fleet.log["sent_s"] == pytest.approx([2.25])


def test_held_requests_are_offered_again_in_order():
    requests = [Request(0.1 * i, 10, 20) for i in range(5)]
    fleet = fleet_of(requests, can_hold=True)

    def one_at_a_time(decision):
        return decision.replicas if decision.requests[0] else 0

    log = simulate(fleet, one_at_a_time).log
    assert log["sent_s"] == pytest.approx(0.2 * np.arange(5))
    assert status(fleet) == ["finished"] * 5


@pytest.mark.parametrize(
    ("order", "predictor", "sent_s"),
    [
        ("fcfs", "oracle", [0.0, 0.2, 0.6, 0.9]),
        ("shortest", "oracle", [0.0, 0.6, 0.3, 0.2]),
        ("shortest", "none", [0.0, 0.2, 0.6, 0.9]),
    ],
)
def test_the_held_request_of_least_expected_work_can_go_first(order, predictor, sent_s):
    outputs = (20, 40, 30, 10)
    requests = [Request(0.01 * i, 10, n) for i, n in enumerate(outputs)]
    fleet = fleet_of(
        requests, can_hold=True, hold_order=order, predictor=PredictorConfig(predictor)
    )
    held = []

    def one_at_a_time(decision):
        held.append(decision.held)
        return decision.replicas if decision.requests[0] else 0

    log = simulate(fleet, one_at_a_time).log
    assert log["sent_s"] == pytest.approx(sent_s)
    assert max(held) == 2  # the third is due, and not yet held, when the fourth arrives
    assert fleet.held == 0


def test_a_masked_action_is_refused():
    fleet = fleet_of([Request(0.5, 10, 5)], replica(), replica(), outages=(Outage(1, 0.0, 9.0),))
    decision = due(fleet)
    assert decision.action_mask.tolist() == [True, False]
    assert not decision.all_healthy
    for action in (1, 2, -1):
        with pytest.raises(ValueError, match=f"action {action} is masked"):
            fleet.decide(action)
    fleet.decide(0)


def test_what_the_router_counts():
    requests = [Request(0.0, 100, 50), Request(0.015, 20, 50), Request(0.1, 20, 50)]
    fleet = fleet_of(requests, predictor=PredictorConfig("oracle"))
    due(fleet)
    fleet.decide(0)
    decision = due(fleet)
    assert decision.prefill_tokens.tolist() == [100]  # its first token comes at 0.02
    assert decision.decode_tokens.tolist() == [0]
    fleet.decide(0)
    decision = due(fleet)
    # The second joined at 0.02 and streams from 0.03: at 0.1 the first has 9 tokens, it has 8.
    assert decision.prefill_tokens.tolist() == [0]
    assert decision.decoding.tolist() == [2]
    assert decision.decode_tokens.tolist() in ([100 + 8 + 20 + 7], [100 + 9 + 20 + 8])
    rows = decision.in_flight(0)
    assert rows["request"].tolist() == [0, 1]
    assert rows["prompt_tokens"].tolist() == [100, 20]
    assert rows["streamed_tokens"].sum() + 120 == decision.decode_tokens[0]
    assert rows["predicted_tokens"].tolist() == [50.0, 50.0]
    assert decision.request.predicted_tokens == 50.0
    assert len(decision.recent(0)) == 0


def test_recent_keeps_the_last_64():
    requests = [Request(float(i), 10 + i, 1 + i % 3) for i in range(100)]
    fleet = fleet_of(requests)
    simulate(fleet, least_requests)
    rows = fleet.recent(0)
    assert rows["prompt_tokens"].tolist() == [10 + i for i in range(36, 100)]
    assert rows["ttft_s"][0] == pytest.approx(0.01)
    assert np.isnan(rows["tpot_s"][rows["output_tokens"] == 1]).all()
    assert rows["tpot_s"][rows["output_tokens"] == 3] == pytest.approx(0.01)


def test_shortest_job_first_and_the_starvation_guard():
    long_ago = Request(0.001, 10, 90)
    requests = [Request(0.0, 10, 10), long_ago]
    requests += [Request(0.002 + 0.05 * i, 10, 10) for i in range(40)]
    finished = {}
    for starvation in (0, 50):
        engine = replica(max_num_seqs=1, policy="sjf", starvation_steps=starvation)
        fleet = fleet_of(requests, engine, predictor=PredictorConfig("oracle"))
        finished[starvation] = simulate(fleet, least_requests).log["finish_s"]
    assert finished[0][1] == finished[0].max()
    assert finished[50][1] < 2.0


def test_priority_overtakes():
    requests = [Request(0.0, 10, 30), Request(0.01, 10, 30, priority=5), Request(0.02, 10, 30)]
    engine = replica(max_num_seqs=1, policy="priority")
    log = simulate(fleet_of(requests, engine), least_requests).log
    assert np.argsort(log["finish_s"]).tolist() == [0, 2, 1]


def test_conservative_admission_never_preempts():
    rng = np.random.default_rng(5)
    requests = [Request(0.01 * i, 40, int(rng.integers(1, 100))) for i in range(60)]
    preemptions = {}
    for admission in ("vllm", "conservative", "past_future"):
        engine = replica(kv_blocks=40, admission=admission, reserved_output_tokens=100)
        fleet = fleet_of(requests, engine, predictor=PredictorConfig("oracle"))
        preemptions[admission] = simulate(fleet, least_requests).log["preemptions"].sum()
    assert preemptions["conservative"] == 0
    # The predicted peak is counted in tokens, so blocks that are not full may still cost one.
    assert preemptions["past_future"] < 0.2 * preemptions["vllm"]


def test_past_future_admission_without_a_prediction_expects_long_answers():
    # 20 usable blocks are 320 tokens, less than the 1,024 that are expected of each.
    requests = [Request(0.0, 40, 10) for _ in range(5)]
    together = {}
    for kind in ("none", "oracle"):
        engine = replica(kv_blocks=21, admission="past_future")
        fleet = fleet_of(requests, engine, predictor=PredictorConfig(kind))
        together[kind] = (simulate(fleet, least_requests).log["finish_s"] < 0.2).sum()
    assert together["none"] == 1
    assert together["oracle"] > 2


def test_mixed_hardware_and_speed():
    slow = replica()
    fast = replace(slow, speed=2.0)
    log = simulate(fleet_of([Request(0.0, 10, 10)] * 2, slow, fast), least_requests).log
    assert log["finish_s"] == pytest.approx([0.1, 0.05])


def test_an_empty_workload():
    fleet = fleet_of(Workload(np.zeros(0), np.zeros(0), np.zeros(0)))
    assert fleet.next_decision() is None
    assert fleet.latency_s() == 0.0


@pytest.mark.parametrize("between", [0, 6])
def test_scrapes_during_an_outage_find_nobody_whoever_looks(between):
    # Replica 0 is down from 2.5 to 8.01; the next scrape after that is the one at 9.
    arrivals = [0.5, *np.linspace(3.0, 8.0, between), 8.05, 9.05]
    requests = [Request(float(arrival), 10, 5) for arrival in arrivals]
    fleet = fleet_of(
        requests,
        replica(),
        replica(),
        outages=(Outage(0, 2.5, 5.51),),
        gauges=GaugeConfig(period_s=1.0),
    )
    known = []

    def policy(decision):
        known.append(np.isfinite(decision.gauges.running).tolist())
        return 1

    simulate(fleet, policy)
    assert known[-2:] == [[False, True], [True, True]]
    time = fleet.timeline["time"]
    down = np.isnan(fleet.timeline["running"][:, 0])
    assert down.tolist() == ((time > 2.5) & (time < 8.01)).tolist()
    assert down.sum() > 3


def test_latency_keeps_its_digits_on_a_late_clock():
    arrivals = 1.7e9 + 0.25 * np.arange(2000)
    workload = Workload(arrivals, np.full(2000, 10), np.full(2000, 2))
    fleet = simulate(fleet_of(workload), least_requests)
    # Two steps each; the clock itself resolves a quarter of a microsecond.
    assert fleet.latency_s() == pytest.approx(2000 * 2 * STEP_S, abs=2000 * 1e-6)


def test_what_was_streamed_before_a_failure_is_in_the_log():
    requests = [Request(0.0, 10, 100)]
    fleet = fleet_of(requests, outages=(Outage(0, 0.255, 1.0),), on_failure="fail")
    log = simulate(fleet, least_requests).log
    assert log["output_tokens"].tolist() == [25]
    assert log["first_token_s"] == pytest.approx([0.01])


def test_a_replica_that_is_down_shows_no_gauges():
    requests = [Request(0.1 * i, 10, 5) for i in range(30)]
    fleet = fleet_of(requests, replica(), replica(), outages=(Outage(1, 1.05, 1.0),))
    known = []

    def policy(decision):
        known.append(np.isfinite(decision.gauges.running).tolist())
        return least_requests(decision)

    simulate(fleet, policy)
    assert known[5] == [True, True]
    assert known[15] == [True, False]
    assert known[25] == [True, True]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (EngineConfig, {"block_size": 20}, "multiple of 16"),
        (EngineConfig, {"policy": "fifo"}, "engine policy 'fifo'"),
        (EngineConfig, {"admission": "vlm"}, "Did you mean 'vllm'"),
        (EngineConfig, {"kv_blocks": 1}, "null block"),
        (EngineConfig, {"watermark": 1.0}, "watermark"),
        (EngineConfig, {"max_num_seqs": -1}, "max_num_seqs"),
        (ReplicaConfig, {"speed": 0.0}, "speed"),
        (ReplicaConfig, {"step_overhead_ms": -1.0}, "step_overhead_ms"),
        (GaugeConfig, {"period_s": 0.0}, "period_s"),
        (GaugeConfig, {"period_s": math.inf}, "period_s"),
        (GaugeConfig, {"lag_s": math.inf}, "lag_s"),
        (GaugeConfig, {"lag_s": -1.0}, "lag_s"),
        (GaugeConfig, {"miss_probability": 1.5}, "miss_probability"),
        (PredictorConfig, {"kind": "oracel"}, "Did you mean 'oracle'"),
        (PredictorConfig, {"accuracy": 2.0}, "accuracy"),
        (Outage, {"replica": 0, "start_s": 1.0, "duration_s": 0.0}, "duration_s"),
        (FleetConfig, {"replicas": ()}, "at least one replica"),
        (FleetConfig, {"outages": (Outage(9, 0.0, 1.0),)}, "replica 9"),
    ],
)
def test_a_bad_configuration_names_its_field(kind: Any, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)
