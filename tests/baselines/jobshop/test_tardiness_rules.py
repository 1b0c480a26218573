"""Orders of jobs on one machine: worked examples, and the optimum against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop.tardiness import MOST_JOBS, RULES, edd, optimal, tardiness

JOBS = st.lists(st.tuples(st.integers(1, 20), st.integers(-5, 60)), min_size=1, max_size=6).map(
    lambda jobs: np.array(jobs).T
)


def test_tardiness_is_the_sum_of_what_is_late():
    duration, due = np.array([3, 2, 4]), np.array([4, 1, 9])
    assert tardiness(duration, due, np.array([0, 1, 2])) == 0 + 4 + 0
    assert tardiness(duration, due, np.array([1, 0, 2])) == 1 + 1 + 0


@pytest.mark.parametrize(
    ("rule", "order", "total"),
    [("mddc", [3, 5, 2, 0, 1, 4], 141), ("mdd", [1, 0, 2, 3, 5, 4], 144)],
)
def test_the_worked_example_of_the_paper(rule: str, order: list[int], total: int):
    duration, due = np.array([10, 11, 10, 10, 11, 10]), np.array([15, 11, 13, 11, 12, 11])
    found = RULES[rule](duration, due)
    assert found.tolist() == order
    assert tardiness(duration, due, found) == total
    assert tardiness(duration, due, optimal(duration, due)) == 141


@pytest.mark.parametrize("rule", RULES)
@given(jobs=JOBS)
def test_every_rule_orders_all_jobs_and_none_beats_the_optimum(rule: str, jobs: np.ndarray):
    duration, due = jobs
    order = RULES[rule](duration, due)
    assert sorted(order.tolist()) == list(range(len(due)))
    least = tardiness(duration, due, optimal(duration, due))
    assert tardiness(duration, due, order) >= least


@settings(deadline=None)
@given(JOBS)
def test_the_optimum_is_that_of_all_orders(jobs: np.ndarray):
    duration, due = jobs
    orders = itertools.permutations(range(len(due)))
    least = min(tardiness(duration, due, np.array(order)) for order in orders)
    assert tardiness(duration, due, optimal(duration, due)) == least


@pytest.mark.parametrize("rule", ["edd", "mdd", "psk", "augmented_mdd"])
@given(jobs=JOBS)
def test_who_can_be_in_time_by_due_dates_is(rule: str, jobs: np.ndarray):
    """If the order of due dates makes nobody late, these rules do not either."""
    duration, due = jobs
    if tardiness(duration, due, edd(duration, due)) == 0:
        assert tardiness(duration, due, RULES[rule](duration, due)) == 0


def test_eddc_does_more_than_sort_by_due_dates():
    """As its pseudo-code in the paper would: who is late in any case is not moved back."""
    duration, due = np.array([4, 6]), np.array([3, 1])
    assert edd(duration, due).tolist() == [1, 0]
    assert RULES["eddc"](duration, due).tolist() == [0, 1]
    assert RULES["eddc"](duration, np.array([5, 1])).tolist() == [1, 0]


def test_too_many_jobs_for_the_optimum_are_refused():
    many = np.ones(MOST_JOBS + 1, np.int64)
    with pytest.raises(ValueError, match=f"at most {MOST_JOBS} jobs, not {MOST_JOBS + 1}"):
        optimal(many, many)
