"""The solver: known optima, small shops against all schedules, and its limits."""

import itertools
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop import dispatch
from makespan.envs.jobshop.generation import generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop, benchmark

pytest.importorskip("ortools")

from makespan.baselines.jobshop.exact import solve


@pytest.mark.parametrize(
    ("name", "blocking", "optimum"),
    [
        ("ft06", False, 55),
        ("la01", False, 666),
        ("la16", False, 945),
        # With swaps: github.com/ScheduleOpt/optalcp-benchmarks, blocking-jobshop.
        ("ft06", True, 63),
    ],
)
def test_known_optima_are_found_and_proved(name: str, blocking: bool, optimum: int):
    solution = solve(benchmark(name), limit_s=120, blocking=blocking)
    assert (solution.status, solution.bound, solution.gap) == ("optimal", optimum, 0)
    assert solution.schedule is not None
    solution.schedule.validate(blocking)
    assert solution.schedule.makespan == optimum


@st.composite
def shops(draw: st.DrawFn) -> JobShop:
    """Three jobs of two operations, each of which has one or two options."""
    option = st.tuples(st.integers(0, 1), st.integers(1, 9))
    operation = st.lists(option, min_size=1, max_size=2, unique_by=lambda pair: pair[0])
    job = st.lists(operation, min_size=1, max_size=2)
    return JobShop.flexible(draw(st.lists(job, min_size=1, max_size=3)), machines=2)


@settings(deadline=None, max_examples=40)
@given(shops())
def test_small_shops_are_solved_as_by_trying_everything(shop: JobShop):
    solution = solve(shop, workers=1)
    assert solution.status == "optimal"
    assert solution.schedule is not None
    solution.schedule.validate()
    assert solution.schedule.makespan == shortest(shop)


def shortest(shop: JobShop) -> int:
    """Over all choices of machines and all orders: an active schedule is among the best."""
    ranges = [range(a, b) for a, b in itertools.pairwise(shop.first_option.tolist())]
    orders = list(itertools.permutations(range(shop.operations)))
    makespans = []
    for chosen in itertools.product(*ranges):
        options = list(chosen)
        plain = JobShop(
            machines=shop.machines,
            first_operation=shop.first_operation,
            first_option=np.arange(shop.operations + 1),
            machine=shop.machine[options],
            duration=shop.duration[options],
        )
        makespans += [generate(plain, np.array(o, float), "active").makespan for o in orders]
    return min(makespans)


def test_without_time_there_is_the_hint():
    shop = benchmark("ta71")
    hint = dispatch(shop, "tail_p")
    told = []
    solution = solve(shop, limit_s=4, hint=hint, progress=lambda *news: told.append(news))
    assert solution.status == "feasible"
    assert solution.schedule is not None
    solution.schedule.validate()
    assert shop.lower_bound() <= solution.bound <= solution.schedule.makespan <= hint.makespan
    assert told[-1][1] == solution.schedule.makespan
    assert 0 < solution.gap < 1


def test_before_there_is_any_schedule_there_is_none():
    solution = solve(benchmark("ta71"), limit_s=1e-3)
    assert (solution.status, solution.schedule) == ("unknown", None)
    assert isnan(solution.gap)
    assert solution.bound == benchmark("ta71").lower_bound()


def test_a_job_is_not_begun_before_its_release():
    shop = JobShop.of([[(0, 2)], [(0, 3)]])
    late = JobShop(
        machines=1,
        first_operation=shop.first_operation,
        first_option=shop.first_option,
        machine=shop.machine,
        duration=shop.duration,
        release=np.array([4, 0]),
    )
    solution = solve(late)
    assert solution.schedule is not None
    assert solution.schedule.start.tolist() == [4, 0]


def test_bad_input_is_named():
    shop = JobShop.of([[(0, 2)]])
    with pytest.raises(ValueError, match="must be positive, not 0"):
        solve(shop, limit_s=0)
    hint = Schedule.plain(JobShop.of([[(0, 2), (0, 1)]]), np.array([0, 2]))
    with pytest.raises(ValueError, match="another job shop"):
        solve(shop, hint=hint)
