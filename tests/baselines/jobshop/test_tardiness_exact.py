"""The solver for total tardiness: against dynamic programming, and against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop.tardiness import RULES, optimal, tardiness
from makespan.traces.jobshop.tardiness import jobs_with_due_dates

pytest.importorskip("ortools")

from makespan.baselines.jobshop.exact_tardiness import solve_tardiness


@pytest.mark.parametrize("tightness", [0.4, 0.8])
def test_the_optimum_is_that_of_dynamic_programming(tightness: float):
    duration, due = jobs_with_due_dates(14, tightness, 0.4, np.random.default_rng(1))
    solution = solve_tardiness(duration, due, workers=1)
    assert solution.status == "optimal"
    assert solution.schedule is not None
    least = tardiness(duration, due, optimal(duration, due))
    assert solution.objective == solution.bound == least
    assert tardiness(duration, due, solution.schedule) == least


JOBS = st.lists(
    st.tuples(st.integers(1, 6), st.integers(-3, 15), st.integers(0, 3)), min_size=1, max_size=6
).map(lambda jobs: np.array(jobs).T)


@settings(deadline=None, max_examples=40)
@given(JOBS)
def test_the_weighted_optimum_is_that_of_all_orders(jobs: np.ndarray):
    duration, due, weight = jobs
    solution = solve_tardiness(duration, due, weight, workers=1)
    assert solution.status == "optimal"
    assert solution.schedule is not None
    orders = map(np.array, itertools.permutations(range(len(due))))
    least = min(weighted(duration, due, weight, order) for order in orders)
    assert solution.objective == least
    assert weighted(duration, due, weight, solution.schedule) == least


def weighted(duration, due, weight, order) -> int:
    late = np.maximum(np.cumsum(duration[order]) - due[order], 0)
    return int((weight[order] * late).sum())


def test_without_time_there_is_the_hint():
    duration, due = jobs_with_due_dates(40, 0.6, 0.4, np.random.default_rng(0))
    hint = RULES["mdd"](duration, due)
    solution = solve_tardiness(duration, due, limit_s=0.01, hint=hint, workers=1)
    assert solution.status == "feasible"
    assert solution.schedule is not None
    assert solution.schedule.tolist() == hint.tolist()
    assert solution.objective == tardiness(duration, due, hint)
    assert solution.gap >= 0


def test_unsigned_columns_are_as_good():
    """Though a job is early by what is below zero, and weights are compared negated."""
    early = solve_tardiness(np.array([3, 2], np.uint64), np.array([1, 9], np.uint64), workers=1)
    assert (early.objective, early.bound) == (2, 2)
    equal = np.array([3, 3])
    weighted = solve_tardiness(equal, equal, np.array([0, 5], np.uint64), workers=1)
    assert (weighted.objective, weighted.bound) == (0, 0)


@pytest.mark.parametrize(
    ("duration", "more", "reason"),
    [
        ([2, 0], {}, "duration of job 1 must be at least 1, not 0"),
        ([2.5, 1], {}, "duration must be a whole number for each of 2 jobs"),
        ([2, 1], {"weight": np.array([1, -1])}, "weight of job 1 must be at least 0, not -1"),
        ([2, 1], {"weight": np.array([1])}, "weight must be a whole number for each of 2 jobs"),
        ([2, 1], {"hint": np.array([1, 1])}, "no order of 2 jobs"),
        ([2, 1], {"limit_s": 0}, "must be positive"),
    ],
)
def test_bad_input_is_named(duration, more, reason: str):
    with pytest.raises(ValueError, match=reason):
        solve_tardiness(np.array(duration), np.array([3, 3]), **more)
