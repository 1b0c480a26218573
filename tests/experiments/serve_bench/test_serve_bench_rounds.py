"""What a round asks of every system: the same of all, in another order each time."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from makespan.experiments.serve_bench import measure, rounds
from makespan.experiments.serve_bench.measure import Sizes
from makespan.experiments.serve_bench.systems import Running, System

NAMES = ("direct", "a", "b", "c")

ANSWERED = {
    "answers": 10,
    "chunks": 200,
    "errors": {},
    "answer_ms": {"p50": 1.0, "p99": 2.0},
    "first_ms": {"p50": 1.0, "p99": 2.0},
    "chunk_ms": {"p50": 1.0, "p99": 2.0},
    "requests_per_s": 5.0,
    "chunks_per_s": 100.0,
    "client_busy": 0.5,
}


class Router(Running):
    """A router that has no process."""

    def memory_mb(self):
        return 10.0 if self.pid else None

    def cpu_s(self):
        return 0.0 if self.pid else None


@pytest.fixture
def asked(monkeypatch):
    """(system, load) in the order in which they were asked, filled by `rounds.bench`."""
    loads = []

    @contextmanager
    def started(system, urls):
        yield Router((system.name,), pid=None if system.name == "direct" else 1)

    @contextmanager
    def fake_backends(count):
        yield []

    def run_client(config):
        loads.append((config.urls[0], config))
        return ANSWERED

    monkeypatch.setattr(rounds, "systems", lambda peers: ([System(name) for name in NAMES], {}))
    monkeypatch.setattr(rounds, "started", started)
    monkeypatch.setattr(rounds, "fake_backends", fake_backends)
    monkeypatch.setattr(measure, "run_client", run_client)
    return loads


def by_system(loads):
    return {name: [config for each, config in loads if each == name] for name in NAMES}


def test_all_systems_of_a_round_have_the_same_seeds_and_no_two_rounds(asked):
    rounds.bench(None, Sizes(), repeats=2)
    seeds = {name: [load.seed for load in loads] for name, loads in by_system(asked).items()}
    assert all(own == seeds["direct"] for own in seeds.values())
    assert len(set(seeds["direct"])) == len(seeds["direct"])


def test_all_systems_have_the_same_loads(asked):
    rounds.bench(None, Sizes(), repeats=1)
    loads = {
        name: [replace(load, urls=()) for load in own] for name, own in by_system(asked).items()
    }
    assert all(own == loads["direct"] for own in loads.values())


def test_latency_rests_on_a_thousand_requests_of_either_kind(asked):
    rounds.bench(None, Sizes(), repeats=1)
    timed = [load for load in by_system(asked)["a"] if load.rate]
    assert [(load.rate, load.requests) for load in timed] == [(50.0, 1000)] * 2
    assert [load.chunks > 0 for load in timed] == [False, True]


def test_more_chunks_are_offered_than_anything_carries(asked):
    rounds.bench(None, Sizes(), repeats=1)
    offered = [
        1000 * load.concurrency / load.pause_ms
        for load in by_system(asked)["a"]
        if load.seconds and load.chunks
    ]
    assert max(offered) > 500_000  # the fake servers send some 100,000


def test_memory_after_requests_is_measured_in_the_first_round_only(asked):
    outcome = rounds.bench(None, Sizes(memory_after=(10_000, 20_000)), repeats=3)
    marks = [
        [asked for asked, _ in each["memory_mb"]] for each in outcome["systems"]["a"]["rounds"]
    ]
    assert marks == [[0, 10_000, 20_000], [0], [0]]
    assert outcome["systems"]["direct"]["rounds"][0]["memory_mb"] == []


def test_routers_are_asked_in_another_order_each_time(asked):
    rounds.bench(None, Sizes(), repeats=3)
    starts = [name for index, (name, _) in enumerate(asked) if asked[index - 1][0] != name]
    assert starts == ["direct", "a", "b", "c", "direct", "b", "c", "a", "direct", "c", "a", "b"]


def test_few_rounds_spread_the_places_of_a_router():
    compared = [System("direct"), *(System(str(n)) for n in range(7))]
    firsts = [rounds.order(compared, turn, 3)[1].name for turn in range(3)]
    assert firsts == ["0", "2", "4"]
    assert rounds.order([System("direct")], 1, 2) == [System("direct")]


def test_cpu_time_is_that_of_one_concurrency_for_all():
    runs = {
        4: {"requests_per_s": 90.0, "answers": 100, "cpu_s": 0.5},
        16: {"requests_per_s": 80.0, "answers": 200, "cpu_s": 0.4},
    }
    found = measure.carried("request", "answers", runs, cpu_at=16)
    assert found["requests_per_s"] == 90.0
    assert found["cpu_us_per_request"] == 2000.0
    assert found["cpu_us_per_request_at"] == {4: 5000.0, 16: 2000.0}


def test_cpu_time_of_nothing_is_not_known():
    assert measure.each_us(None, 3) is None
    assert measure.each_us(0.1, 0) is None
