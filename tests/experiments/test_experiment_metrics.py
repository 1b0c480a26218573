"""Metrics against logs whose figures are worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from makespan.envs.llm.fleet import STATUS
from makespan.experiments import metrics

FINISHED, REJECTED, FAILED, PENDING = (
    STATUS.index(name) for name in ("finished", "rejected", "failed", "pending")
)


def log_of(**columns):
    """A log of requests that all finished on replica 0 at once, but for `columns`."""
    n = len(next(iter(columns.values())))
    log = {
        "arrival_s": np.zeros(n),
        "sent_s": np.zeros(n),
        "first_token_s": np.zeros(n),
        "finish_s": np.zeros(n),
        "prompt_tokens": np.ones(n, np.int64),
        "output_tokens": np.ones(n, np.int64),
        "cached_tokens": np.zeros(n, np.int64),
        "predicted_tokens": np.full(n, np.nan),
        "replica": np.zeros(n, np.int64),
        "preemptions": np.zeros(n, np.int64),
        "attempts": np.ones(n, np.int64),
        "status": np.full(n, FINISHED, np.int8),
        "session": np.full(n, -1),
        "slo_class": np.zeros(n, np.int64),
        "priority": np.zeros(n, np.int64),
    }
    return log | {name: np.array(values) for name, values in columns.items()}


def test_latencies_of_one_request():
    log = log_of(arrival_s=[10.0], first_token_s=[10.5], finish_s=[12.5], output_tokens=[5])
    assert metrics.ttft_s(log)[0] == 0.5
    assert metrics.e2e_s(log)[0] == 2.5
    assert metrics.tpot_s(log)[0] == 0.5  # four tokens after the first in 2 s


def test_ttft_counts_the_time_a_request_is_held_in_the_router():
    log = log_of(arrival_s=[1.0], sent_s=[3.0], first_token_s=[4.0], finish_s=[4.0])
    assert metrics.ttft_s(log)[0] == 3.0


def test_one_token_answers_have_no_tpot():
    log = log_of(finish_s=[1.0, 3.0], output_tokens=[1, 3])
    np.testing.assert_array_equal(metrics.tpot_s(log), [np.nan, 1.5])
    assert metrics.summarise(log, 1)["tpot_mean_s"] == 1.5


def test_only_finished_requests_have_latencies():
    status = np.array([FINISHED, REJECTED, FAILED, PENDING], np.int8)
    log = log_of(finish_s=[2.0, np.nan, 9.0, np.nan], output_tokens=[2, 0, 2, 1], status=status)
    for latency in metrics.LATENCIES.values():
        np.testing.assert_array_equal(np.isfinite(latency(log)), [True, False, False, False])
    summary = metrics.summarise(log, 1)
    assert summary["e2e_mean_s"] == 2.0
    assert (summary["rejected"], summary["failed"], summary["unfinished"]) == (1, 1, 1)


def test_mean_and_quantiles():
    log = log_of(finish_s=np.arange(101.0))
    summary = metrics.summarise(log, 1)
    names = ("mean", "p50", "p95", "p99")
    assert [summary[f"e2e_{q}_s"] for q in names] == pytest.approx([50, 50, 95, 99])


def test_goodput_counts_misses_of_either_target_and_lost_requests():
    """1,000 prompt tokens: the first token is due within 1.0625 s, later ones 50 ms apart."""
    log = log_of(
        prompt_tokens=[1000] * 5,
        first_token_s=[1.06, 1.07, 0.1, 0.1, np.nan],
        finish_s=[1.06 + 0.49, 1.07 + 0.1, 0.1 + 0.51, 0.1, np.nan],
        output_tokens=[11, 11, 11, 1, 0],
        status=np.array([FINISHED] * 4 + [REJECTED], np.int8),
    )
    np.testing.assert_array_equal(metrics.meets_slo(log), [True, False, False, True, False])
    assert metrics.summarise(log, 1)["slo_goodput"] == pytest.approx(2 / 5)


def test_hit_rate_is_by_token():
    log = log_of(prompt_tokens=[100, 300], cached_tokens=[0, 200])
    assert metrics.summarise(log, 1)["prefix_hit_rate"] == 0.5


def test_served_tokens_leave_out_cached_and_lost_ones():
    log = log_of(
        prompt_tokens=[100, 50, 70],
        cached_tokens=[60, 0, 0],
        output_tokens=[10, 5, 3],
        replica=[0, 2, -1],
        status=np.array([FINISHED, FINISHED, REJECTED], np.int8),
    )
    np.testing.assert_array_equal(metrics.served_tokens(log, 3), [50, 0, 55])


def test_imbalance_is_the_coefficient_of_variation():
    log = log_of(prompt_tokens=[9, 29], replica=[0, 1])  # 10 and 30 tokens served
    assert metrics.load_imbalance(log, 2) == pytest.approx(0.5)
    assert metrics.load_imbalance(log_of(replica=[0, 1]), 2) == 0
    assert metrics.load_imbalance(log_of(replica=[0, 0]), 4) == pytest.approx(np.sqrt(3))


def test_throughput_runs_from_the_first_arrival_to_the_last_token():
    log = log_of(arrival_s=[2.0, 3.0], finish_s=[4.0, 6.0], output_tokens=[10, 30])
    assert metrics.summarise(log, 1)["tokens_per_s"] == 10.0


def test_a_run_in_which_nothing_finished():
    log = log_of(status=np.array([REJECTED, FAILED], np.int8), replica=[-1, -1])
    summary = metrics.summarise(log, 2)
    assert summary["slo_goodput"] == 0
    assert summary["load_imbalance"] == 0
    for name in ("e2e_mean_s", "ttft_p99_s", "tpot_p50_s", "prefix_hit_rate", "tokens_per_s"):
        assert np.isnan(summary[name])


def test_an_empty_log():
    summary = metrics.summarise(log_of(arrival_s=np.zeros(0)), 1)
    assert np.isnan(summary["slo_goodput"])
    assert summary["rejected"] == 0


def test_no_throughput_without_duration():
    assert np.isnan(metrics.summarise(log_of(finish_s=[0.0]), 1)["tokens_per_s"])


@given(arrays(np.float64, st.integers(1, 8), elements=st.floats(-1e6, 1e6)))
def test_seed_interval_encloses_nothing_but_the_values(values):
    low, high = metrics.over_seeds(values)
    slack = 1e-9 * max(1.0, np.abs(values).max())
    assert values.min() - slack <= low <= high <= values.max() + slack


def test_seed_interval_of_two_values():
    """The mean of two draws from {0, 1} is 0 or 1 a quarter of the time each: beyond 2.5 %."""
    assert metrics.over_seeds(np.array([0.0, 1.0])) == (0.0, 1.0)


def test_seed_interval_ignores_seeds_without_a_value():
    assert metrics.over_seeds(np.array([3.0, np.nan])) == (3.0, 3.0)
    assert np.isnan(metrics.over_seeds(np.array([np.nan]))).all()


def test_seed_interval_covers_the_mean():
    """Over normal samples of 30 the interval holds the true mean about 95 % of the time."""
    samples = np.random.default_rng(0).normal(size=(400, 30))
    held = [low <= 0 <= high for low, high in map(metrics.over_seeds, samples)]
    assert 0.90 <= np.mean(held) <= 0.98


def test_block_intervals_hold_the_value_and_shrink_with_the_log():
    random = np.random.default_rng(1)

    def width(n):
        log = log_of(finish_s=random.exponential(size=n))
        low, high = metrics.over_blocks(log, 1)["e2e_mean_s"]
        assert low <= metrics.summarise(log, 1)["e2e_mean_s"] <= high
        return high - low

    assert width(20_000) < width(200)


def test_blocks_keep_neighbours_together():
    """A latency that drifts slowly is far less certain than as many independent ones."""
    drifting = np.sin(np.linspace(0, 2 * np.pi, 2000)) + 1
    shuffled = np.random.default_rng(2).permutation(drifting)
    widths = []
    for column in (drifting, shuffled):
        low, high = metrics.over_blocks(log_of(finish_s=column), 1)["e2e_mean_s"]
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


def test_block_intervals_name_every_metric():
    log = log_of(finish_s=[1.0, 2.0, 3.0], output_tokens=[2, 2, 2])
    intervals = metrics.over_blocks(log, 1)
    assert intervals.keys() == metrics.summarise(log, 1).keys()
    assert np.isnan(intervals["tokens_per_s"]).all()
