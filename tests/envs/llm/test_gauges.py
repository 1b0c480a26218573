import numpy as np
import pytest

from makespan.envs.llm.config import GaugeConfig
from makespan.envs.llm.gauges import MOST_SAMPLES, GaugeBoard


def board(replicas=1, **config):
    return GaugeBoard(replicas, GaugeConfig(**config), np.random.default_rng(0))


def values(running, replicas=1):
    return np.tile([running, 2.0, 0.5], (replicas, 1))


def test_unknown_before_the_first_scrape():
    gauges = board().read(1.0)
    assert np.isnan(gauges.running).all()
    assert np.isnan(gauges.age_s).all()


def test_values_age_until_the_next_scrape():
    gauges = board()
    gauges.sample(1.0, values(3))
    gauges.sample(2.0, values(4))
    seen = gauges.read(2.5)
    assert (seen.running[0], seen.waiting[0], seen.kv_usage[0]) == (4, 2, 0.5)
    assert seen.age_s[0] == pytest.approx(0.5)


def test_a_scrape_shows_the_engine_as_it_was_a_lag_ago():
    gauges = board(lag_s=1.0)
    gauges.sample(1.0, values(3))
    gauges.sample(2.0, values(4))
    seen = gauges.read(2.5)
    assert seen.running[0] == 3
    assert seen.age_s[0] == pytest.approx(0.5)  # the router cannot tell that it lags


def test_missed_scrapes_leave_old_values_that_age():
    gauges = board(replicas=2000, miss_probability=0.25)
    gauges.sample(1.0, values(3, 2000))
    seen = gauges.read(2.0)
    assert np.isnan(seen.running).mean() == pytest.approx(0.25, abs=0.04)
    gauges = board(miss_probability=1.0)
    gauges.sample(1.0, values(3))
    assert np.isnan(gauges.read(5.0).age_s[0])


def test_a_stuck_gauge_looks_fresh():
    gauges = board(stuck_probability=1.0, stuck_s=10.0)
    gauges.sample(1.0, values(3))
    gauges.sample(2.0, values(9))
    seen = gauges.read(2.0)
    assert np.isnan(seen.running[0])  # it stuck at once, before it had said anything
    assert seen.age_s[0] == 0.0


def test_a_lost_replica_is_forgotten():
    gauges = board(replicas=2)
    gauges.sample(1.0, values(3, 2))
    gauges.read(1.0)
    gauges.forget(0)
    assert np.isnan(gauges.read(1.5).running).tolist() == [True, False]


def test_the_timeline_is_thinned_but_spans_the_run():
    gauges = board()
    polls = 3 * MOST_SAMPLES
    for i in range(polls):
        gauges.sample(float(i), values(i))
    timeline = gauges.timeline()
    assert len(timeline["time"]) <= MOST_SAMPLES
    assert timeline["time"][0] == 0.0
    assert timeline["time"][-1] > 0.99 * polls
    assert (timeline["running"][:, 0] == timeline["time"]).all()
    assert timeline["kv_usage"].shape == (len(timeline["time"]), 1)
