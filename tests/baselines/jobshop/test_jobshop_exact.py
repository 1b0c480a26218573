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
from makespan.traces.jobshop.instance import LATEST

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


@st.composite
def small_shops(draw: st.DrawFn) -> JobShop:
    """Two or three jobs that visit each of two or three machines once."""
    machines = draw(st.integers(2, 3))
    jobs = draw(st.lists(st.permutations(range(machines)), min_size=2, max_size=3))
    return JobShop.of([[(machine, draw(st.integers(1, 6))) for machine in job] for job in jobs])


@settings(deadline=None, max_examples=40)
@given(small_shops())
def test_small_shops_without_swaps_are_solved_as_by_trying_everything(shop: JobShop):
    solution = solve(shop, blocking=True, swap=False, workers=1)
    assert solution.status == "optimal"
    assert solution.schedule is not None
    solution.schedule.validate(blocking=True, swap=False)
    assert solution.objective == solution.schedule.makespan == shortest_without_swaps(shop)


def shortest_without_swaps(shop: JobShop) -> float:
    """Over all orders on the machines in which nobody waits for himself in a circle."""
    on = [np.flatnonzero(shop.machine == machine).tolist() for machine in range(shop.machines)]
    orders = itertools.product(*(itertools.permutations(operations) for operations in on))
    return min(length_without_swaps(shop, order) for order in orders)


def length_without_swaps(shop: JobShop, order: tuple[tuple[int, ...], ...]) -> float:
    """The longest path; infinite if there is a circle."""
    last = shop.first_operation[1:] - 1
    takes = shop.duration.tolist()
    arcs = [(o, o + 1, takes[o]) for o in range(shop.operations) if o not in last]
    for operations in order:
        for one, other in itertools.pairwise(operations):
            arcs.append((one, other, takes[one]) if one in last else (one + 1, other, 0))
    start = [0] * shop.operations
    for _ in range(shop.operations + 1):
        before = list(start)
        for one, other, length in arcs:
            # A circle without length is one, too: so whoever waits begins a little later.
            start[other] = max(start[other], start[one] + 1000 * length + 1)
        if start == before:
            return max(s // 1000 + p for s, p in zip(start, takes, strict=True))
    return float("inf")


def test_swaps_save_time_where_they_are_allowed():
    """Two jobs in opposite directions: without swaps one waits outside until the other is gone."""
    shop = JobShop.of([[(0, 2), (1, 2)], [(1, 2), (0, 2)]])
    assert solve(shop, blocking=True, workers=1).objective == 4
    assert solve(shop, blocking=True, swap=False, workers=1).objective == 8


def test_ft06_without_swaps_is_longer_than_with_them():
    solution = solve(benchmark("ft06"), limit_s=120, blocking=True, swap=False, workers=1)
    assert (solution.status, solution.objective) == ("optimal", 69)
    assert solution.schedule is not None
    solution.schedule.validate(blocking=True, swap=False)


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [
        ([[(0, 2), (1, 0)]], "every operation must take time"),
        (
            [[(1, 1)], [(0, 2), (0, 1)]],
            "job 1, operation 1 may be on the machine of the one before",
        ),
    ],
)
def test_what_is_not_modelled_without_swaps_is_said(jobs, reason: str):
    with pytest.raises(ValueError, match=reason):
        solve(JobShop.of(jobs), blocking=True, swap=False)


def test_without_time_there_is_the_hint():
    shop = benchmark("ta71")
    hint = dispatch(shop, "tail_p")
    told = []
    solution = solve(shop, limit_s=4, hint=hint, progress=lambda *news: told.append(news))
    assert solution.status == "feasible"
    assert solution.schedule is not None
    solution.schedule.validate()
    assert shop.lower_bound() <= solution.bound <= solution.schedule.makespan <= hint.makespan
    assert all(makespan >= solution.schedule.makespan for _, makespan, _ in told)
    assert 0 < solution.gap < 1


def test_better_schedules_are_told():
    told = []
    solution = solve(benchmark("la01"), progress=lambda *news: told.append(news), workers=1)
    seconds, makespans, bounds = zip(*told, strict=True)
    assert sorted(seconds) == list(seconds)
    assert makespans[-1] == solution.objective == 666
    assert max(bounds) <= 666


def test_with_a_limit_of_work_every_run_gives_the_same():
    shop = benchmark("ft10")
    one, other = (solve(shop, float("inf"), workers=1, work=0.02) for _ in range(2))
    assert one.schedule is not None
    assert other.schedule is not None
    assert one.status == other.status == "feasible"
    assert one.bound == other.bound
    assert one.schedule.start.tolist() == other.schedule.start.tolist()


def test_a_hint_that_cannot_be_is_no_answer():
    """It has job 2 begin on a machine on which job 0 still waits, and is shorter than can be."""
    shop = JobShop.of([[(0, 1), (1, 1)], [(1, 5)], [(0, 5)]])
    hint = Schedule.plain(shop, np.array([0, 5, 0, 1]))
    hint.validate()
    assert hint.makespan == 6
    solution = solve(shop, blocking=True, hint=hint, workers=1)
    assert solution.schedule is not None
    solution.schedule.validate(blocking=True)
    assert solution.objective == solution.bound == 7


def test_a_hint_that_swaps_is_no_answer_without_swaps():
    shop = JobShop.of([[(0, 2), (1, 2)], [(1, 2), (0, 2)]])
    hint = Schedule.plain(shop, np.array([0, 2, 0, 2]))
    hint.validate(blocking=True)
    assert hint.makespan == 4
    assert solve(shop, blocking=True, swap=False, hint=hint, workers=1).objective == 8


def test_before_there_is_any_schedule_there_is_none():
    solution = solve(benchmark("ta71"), limit_s=1e-3)
    assert (solution.status, solution.schedule) == ("unknown", None)
    assert isnan(solution.gap)
    assert solution.bound == benchmark("ta71").lower_bound()


def test_what_takes_no_time_is_in_nobodys_way():
    shop = JobShop.of([[(0, 4)], [(1, 1), (0, 0), (1, 3)]])
    assert solve(shop, workers=1).objective == 4
    assert solve(shop, blocking=True, workers=1).objective == 4


@st.composite
def shops_with_no_time(draw: st.DrawFn) -> JobShop:
    """Two jobs, the second of which takes no time somewhere between its first and last machine."""
    operation = st.tuples(st.integers(0, 1), st.integers(0, 3))
    one = draw(st.lists(operation, min_size=1, max_size=2))
    before, after = draw(operation), draw(operation)
    return JobShop.of([one, [before, (draw(st.integers(0, 1)), 0), after]], machines=2)


@settings(deadline=None, max_examples=40)
@given(shops_with_no_time())
def test_who_takes_no_time_but_waits_is_in_the_way(shop: JobShop):
    solution = solve(shop, blocking=True, workers=1)
    assert solution.status == "optimal"
    assert solution.schedule is not None
    solution.schedule.validate(blocking=True)
    assert solution.objective == solution.bound == shortest_blocking(shop)


def shortest_blocking(shop: JobShop) -> int:
    """Over all starts that are early enough and pass the validator."""
    latest = int(shop.duration.sum())
    jobs = [b - a for a, b in itertools.pairwise(shop.first_operation.tolist())]
    ways = [itertools.combinations_with_replacement(range(latest + 1), count) for count in jobs]
    starts = (np.array([*one, *other]) for one, other in itertools.product(*ways))
    schedules = sorted((Schedule.plain(shop, s) for s in starts), key=lambda s: s.makespan)
    return next(schedule.makespan for schedule in schedules if is_valid(schedule))


def is_valid(schedule: Schedule) -> bool:
    try:
        schedule.validate(blocking=True)
    except ValueError:
        return False
    return True


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


def test_the_longest_shop_there_can_be_is_solved():
    part = LATEST // 4
    shop = JobShop.of([[(0, part), (1, part)], [(1, part), (0, part)]])
    solution = solve(shop, workers=1)
    assert (solution.status, solution.objective, solution.bound) == ("optimal", 2 * part, 2 * part)


def test_bad_input_is_named():
    shop = JobShop.of([[(0, 2)]])
    with pytest.raises(ValueError, match="must be positive, not 0"):
        solve(shop, limit_s=0)
    with pytest.raises(ValueError, match="must be positive, not nan"):
        solve(shop, work=float("nan"))
    with pytest.raises(ValueError, match="workers must not be negative, not -1"):
        solve(shop, workers=-1)
    for seed in (-1, 2**31):
        with pytest.raises(ValueError, match=f"seed must be 0 to .* not {seed}"):
            solve(shop, seed=seed)
    hint = Schedule.plain(JobShop.of([[(0, 1)]]), np.array([0]))
    with pytest.raises(ValueError, match="another job shop"):
        solve(shop, hint=hint)
