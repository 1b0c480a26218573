"""Path relinking: walks between schedules, the group, limits and known optima."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop import relinking
from makespan.baselines.jobshop.relinking import _enter, between, distance, path_relinking
from makespan.baselines.jobshop.tabu import Improvement
from makespan.envs.jobshop.critical import Graph, find_heads
from makespan.envs.jobshop.generation import generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop, benchmark
from makespan.traces.jobshop.uniform import uniform_shop


def random_schedule(shop: JobShop, seed: int) -> Schedule:
    priority = np.random.default_rng(seed).random(shop.operations)
    return generate(shop, priority, "active")


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(2, 6), st.integers(0, 999))
def test_a_walk_ends_between_the_two(jobs: int, machines: int, seed: int):
    rng = np.random.default_rng(seed)
    shop = uniform_shop(jobs, machines, rng)
    one, other = random_schedule(shop, seed), random_schedule(shop, seed + 1)
    met = between(one, other, rng)
    met.validate()
    apart = distance(one, other)
    assert distance(one, met) + distance(met, other) == apart
    assert apart // 5 <= distance(one, met) <= apart // 2


def test_the_distance_counts_pairs_in_another_order():
    shop = JobShop.of([[(0, 2)], [(0, 3)], [(0, 4)]])
    one = Schedule.plain(shop, np.array([0, 2, 5]))
    assert distance(one, one) == 0
    assert distance(one, Schedule.plain(shop, np.array([3, 0, 5]))) == 1
    assert distance(one, Schedule.plain(shop, np.array([7, 4, 0]))) == 3


def test_a_walk_leaves_out_what_would_wait_for_itself():
    """Jobs that visit a machine twice keep their order."""
    shop = JobShop.of([[(0, 2), (0, 3)], [(0, 1), (0, 1)]])
    for seed in range(10):
        one, other = random_schedule(shop, seed), random_schedule(shop, seed + 1)
        between(one, other, np.random.default_rng(seed)).validate()


def test_the_group_takes_what_is_shorter_than_its_longest_and_new():
    shop = benchmark("ft06")
    made = sorted((random_schedule(shop, s) for s in range(40)), key=lambda s: s.makespan)
    short, middle, long = made[0], made[20], made[-1]
    assert short.makespan < middle.makespan < long.makespan
    group = [middle, short]
    assert not _enter(group, long)
    assert not _enter(group, middle)
    assert not _enter(group, short)
    assert group == [middle, short]
    group = [short, long]
    assert _enter(group, middle)
    assert group == [short, middle]


def test_it_ends_with_its_steps_or_at_the_bound_and_tells_of_what_is_better():
    shop = benchmark("la21")
    told: list[Improvement] = []
    result = path_relinking(shop, steps=900, progress=told.append)
    result.schedule.validate()
    assert result.steps == 900
    assert told == result.trajectory
    assert [better.makespan for better in told] == sorted(
        {better.makespan for better in told}, reverse=True
    )
    assert told[-1].makespan == result.schedule.makespan
    easy = path_relinking(JobShop.of([[(0, 2), (1, 3)], [(1, 2), (0, 3)]]), steps=30_000)
    assert easy.schedule.makespan == 5
    assert easy.steps < 30_000
    assert path_relinking(shop, limit_s=1e-9).steps <= relinking.SEARCH


def test_where_nothing_can_be_moved_it_ends(monkeypatch: pytest.MonkeyPatch):
    searches: list[int] = []

    def nothing(graph: Graph, steps: int, rng: np.random.Generator, best: np.ndarray):
        searches.append(steps)
        order = np.empty_like(best)
        return find_heads(graph, best, order), 0

    monkeypatch.setattr(relinking.n7, "search", nothing)
    path_relinking(benchmark("la21"), steps=30_000)
    assert searches == [12_500, 12_500, 5_000]


def test_the_same_seed_finds_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relinking, "SEARCH", 20)
    shop = benchmark("la21")
    starts = [path_relinking(shop, seed, 800).schedule.start.tolist() for seed in (1, 1, 2)]
    assert starts[0] == starts[1] != starts[2]


def test_a_group_that_nothing_gets_into_is_given_up(monkeypatch: pytest.MonkeyPatch):
    begun: list[Schedule] = []
    random = relinking._Run._random

    def counted(run: relinking._Run) -> Schedule:
        begun.append(random(run))
        return begun[-1]

    monkeypatch.setattr(relinking._Run, "_random", counted)
    monkeypatch.setattr(relinking, "SEARCH", 200)
    monkeypatch.setattr(relinking, "PATIENCE", 20)
    path_relinking(benchmark("ft06"), steps=30_000)
    assert len(begun) > relinking.GROUP  # 55 is the optimum, and above the bound


@pytest.mark.slow_in_python
def test_the_optimum_of_ta01_is_found_in_seconds():
    schedule = path_relinking(benchmark("ta01"), steps=1_000_000).schedule
    schedule.validate()
    assert schedule.makespan == 1231


def test_limits_must_be_positive():
    shop = benchmark("ft06")
    with pytest.raises(ValueError, match="must be positive"):
        path_relinking(shop, steps=0)
    for limit_s in (0.0, float("nan")):
        with pytest.raises(ValueError, match="must be positive"):
            path_relinking(shop, limit_s=limit_s)
    with pytest.raises(ValueError, match="choice of machines"):
        path_relinking(JobShop.flexible([[[(0, 2), (1, 3)]]]))
