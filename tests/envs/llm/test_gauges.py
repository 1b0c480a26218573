"""Polled gauges: when they are scraped, and what goes wrong with them."""

import numpy as np
import pytest

from makespan.envs.llm.config import EngineConfig, FleetConfig, GaugeConfig, ReplicaConfig
from makespan.envs.llm.engines import Engines
from makespan.envs.llm.gauges import timeline
from makespan.envs.llm.memory import new_state
from makespan.envs.llm.state import MOST_SAMPLES
from makespan.traces.workload import Workload


class Board:
    """Replicas whose gauges are set by hand."""

    def __init__(self, replicas=1, **gauges):
        engine = EngineConfig(
            block_size=16,
            kv_blocks=11,
            max_num_seqs=1,
            max_num_batched_tokens=16,
            max_model_len=16,
        )
        config = FleetConfig(
            (ReplicaConfig(engine=engine),) * replicas, gauges=GaugeConfig(**gauges)
        )
        nothing = Workload(np.zeros(0), np.zeros(0), np.zeros(0))
        models = [np.zeros(1)] * replicas
        rng = np.random.default_rng(0)
        self.engines = Engines(new_state(nothing, config, models, np.zeros(0), rng, True))
        self.state = self.engines.state
        self.state.replicas.waiting = 2
        self.state.replicas.free_blocks = 5

    def show(self, running):
        self.state.replicas.running = running

    def read(self, now):
        """running, waiting, kv_usage and age_s, (N,) each."""
        self.engines.read_gauges(now)
        return self.state.gauges.reshape(4, -1)


def test_unknown_before_the_first_scrape():
    assert np.isnan(Board().read(0.0)).all()


def test_values_age_until_the_next_scrape():
    board = Board(period_s=1.0)
    board.show(3)
    board.engines.catch_up(1.0)
    board.show(4)
    board.engines.catch_up(2.5)
    assert board.read(2.5)[:, 0] == pytest.approx([4, 2, 0.5, 0.5])


def test_scrapes_are_taken_every_period_whoever_looks():
    board = Board(period_s=0.25)
    board.engines.catch_up(1.0)
    assert board.state.fleet.scrapes[0] == 5
    board.engines.catch_up(1.2)
    assert board.state.fleet.scrapes[0] == 5


def test_a_scrape_shows_the_engine_as_it_was_a_lag_ago():
    board = Board(period_s=1.0, lag_s=2.5)
    for half in range(14):
        board.show(half // 2)
        board.engines.catch_up(half / 2)
        running, _, _, age = board.read(half / 2)[:, 0]
        # From 2.5 s on, every second, what was true 2.5 s before, which the router cannot tell.
        expected = (half - 5) // 2 if half >= 5 else np.nan
        assert running == pytest.approx(expected, nan_ok=True)
        assert age == pytest.approx(half / 2 - expected - 2.5, nan_ok=True)


def test_missed_scrapes_leave_old_values_that_age():
    board = Board(replicas=2000, miss_probability=0.25, period_s=1.0)
    board.engines.catch_up(0.0)
    assert np.isnan(board.read(0.5)[0]).mean() == pytest.approx(0.25, abs=0.04)
    board.engines.catch_up(1.0)
    age = board.read(1.5)[3]
    assert (age == 0.5).mean() == pytest.approx(0.75, abs=0.04)
    assert (age == 1.5).mean() == pytest.approx(0.75 * 0.25, abs=0.04)
    board = Board(miss_probability=1.0)
    board.engines.catch_up(0.0)
    assert np.isnan(board.read(5.0)).all()


def test_a_stuck_gauge_looks_fresh():
    board = Board(replicas=2000, stuck_probability=0.5, stuck_s=1.5, period_s=1.0)
    board.show(3)
    board.engines.catch_up(0.0)
    running, _, _, age = board.read(0.0)
    # Half of them stuck at once, before they had said anything.
    assert np.isnan(running).mean() == pytest.approx(0.5, abs=0.05)
    assert (age == 0.0).all()
    board.show(9)
    board.engines.catch_up(1.0)
    running = board.read(1.0)[0]
    assert np.isnan(running).mean() == pytest.approx(0.5, abs=0.05)
    assert (running == 3).mean() == pytest.approx(0.25, abs=0.05)
    assert (running == 9).mean() == pytest.approx(0.25, abs=0.05)


def test_a_lost_replica_is_forgotten():
    board = Board(replicas=2, period_s=1.0, lag_s=3.0)
    board.engines.catch_up(4.0)
    board.engines.forget_gauges(0)
    board.state.up[0] = False
    board.engines.catch_up(8.0)
    assert np.isnan(board.read(8.0)).tolist() == [[True, False]] * 4


def test_an_idle_fleet_leaves_out_what_nobody_will_see():
    board = Board(period_s=0.1, lag_s=1.0)
    before = board.state.fleet.samples[0]
    board.engines.catch_up(1e6)
    assert board.state.fleet.scrapes[0] == 10_000_001
    assert board.state.fleet.samples[0] - before < 30
    assert board.read(1e6)[3, 0] == pytest.approx(0.0, abs=0.11)


def test_the_timeline_is_thinned_but_spans_the_run():
    board = Board(period_s=1.0)
    scrapes = 3 * MOST_SAMPLES
    for second in range(scrapes):
        board.show(second)
        board.engines.catch_up(float(second))
    seen = timeline(board.state)
    assert MOST_SAMPLES / 2 <= len(seen["time"]) <= MOST_SAMPLES
    assert seen["time"][0] == 0.0
    assert seen["time"][-1] > 0.99 * scrapes
    assert (seen["running"][:, 0] == seen["time"]).all()
    assert seen["kv_usage"].shape == (len(seen["time"]), 1)
