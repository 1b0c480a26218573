"""Job shops: the columns, what is refused, and lower bounds."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.traces.jobshop.instance import LATEST, NEVER, JobShop

TINY = [[(0, 3), (1, 2), (2, 2)], [(0, 2), (2, 1), (1, 4)], [(1, 4), (2, 3)]]
"""Three machines; the last job visits two of them."""


def test_a_plain_shop_has_one_option_per_operation():
    shop = JobShop.of(TINY, name="tiny")
    assert (shop.name, shop.jobs, shop.machines, shop.operations) == ("tiny", 3, 3, 8)
    assert not shop.is_flexible
    assert shop.first_operation.tolist() == [0, 3, 6, 8]
    assert shop.machine.tolist() == [0, 1, 2, 0, 2, 1, 1, 2]
    assert shop.duration.tolist() == [3, 2, 2, 2, 1, 4, 4, 3]
    assert shop.job.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert shop.release.tolist() == [0, 0, 0]
    assert set(shop.due.tolist()) == {NEVER}


def test_a_flexible_shop_has_options():
    shop = JobShop.flexible([[[(0, 3), (1, 5)], [(1, 2)]], [[(1, 4)]]], machines=4)
    assert (shop.jobs, shop.machines, shop.operations) == (2, 4, 3)
    assert shop.is_flexible
    assert shop.first_option.tolist() == [0, 2, 3, 4]


def test_nothing_can_be_changed():
    shop = JobShop.of(TINY)
    with pytest.raises(ValueError, match="read-only"):
        shop.duration[0] = 9


@pytest.mark.parametrize(
    ("shop", "bound"),
    [
        (TINY, 10),  # machine 1: 2 + 4 + 4
        ([[(0, 5), (1, 9)], [(0, 1)]], 14),  # the first job
        ([[(0, 0)]], 0),
    ],
)
def test_no_schedule_is_shorter_than_the_longest_job_or_the_busiest_machine(shop, bound: int):
    assert JobShop.of(shop).lower_bound() == bound


def test_a_choice_of_machines_counts_by_its_shortest():
    assert JobShop.flexible([[[(0, 9), (1, 4)], [(0, 2)]]]).lower_bound() == 6


OPERATION = st.tuples(st.integers(0, 4), st.integers(0, 99))


@given(st.lists(st.lists(OPERATION, min_size=1, max_size=6), min_size=1, max_size=6))
def test_what_goes_in_is_there(jobs: list[list[tuple[int, int]]]):
    shop = JobShop.of(jobs, machines=5)
    pairs = list(zip(shop.machine.tolist(), shop.duration.tolist(), strict=True))
    ends = shop.first_operation.tolist()
    assert [pairs[a:b] for a, b in pairwise(ends)] == jobs
    loads = [sum(d for job in jobs for m, d in job if m == machine) for machine in range(5)]
    longest = max(sum(d for _, d in job) for job in jobs)
    assert shop.lower_bound() == max(*loads, longest)


@pytest.mark.parametrize(
    ("jobs", "machines", "reason"),
    [
        ([], 2, "needs machines and jobs"),
        ([[(0, 1)], []], 2, "job 1 visits no machine"),
        ([[(0, 1)], [(0, 1), (2, 1)]], 2, "job 1, operation 1 must be on machine 0 to 1, not 2"),
        ([[(-1, 1)]], 2, "job 0, operation 0 must be on machine 0 to 1, not -1"),
        ([[(0, 1), (1, -3)]], 2, "job 0, operation 1 must take at least 0, not -3"),
        ([[(0, 1.5)]], 1, "duration must be a row of whole numbers"),
        ([[(0, 1), (0, 2**63 - 1)]], 1, "job 0, operation 1 has the number 9223372036854775807"),
        ([[(0, 2**70)]], 1, "job 0, operation 0 has the number 1180591620717411303424"),
        ([[(2**70, 1)]], 1, "job 0, operation 0 has the number 1180591620717411303424"),
        ([[(0, LATEST), (0, 1)]], 1, f"all times add up to {LATEST + 1}; at most {LATEST}"),
    ],
)
def test_what_cannot_be_is_named(jobs, machines: int, reason: str):
    with pytest.raises(ValueError, match=reason):
        JobShop.of(jobs, machines)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"first_operation": [0, 2, 1]}, "first_operation must go from 0 up to 3"),
        ({"first_operation": [1, 2, 3]}, "first_operation must go from 0 up to 3"),
        ({"first_option": [0, 1, 1, 3]}, "job 0, operation 1 can be done nowhere"),
        ({"first_option": [0, 1, 2, 9]}, "first_option must go from 0 up to 3"),
        ({"duration": [1, 2]}, "2 durations for 3 machines"),
        ({"release": [0]}, "release has 1 entries for 2 jobs"),
        ({"release": [0, -1]}, "job 1 must not be released before 0"),
        ({"release": [0, LATEST]}, f"all times add up to {LATEST + 3}"),
        ({"duration": [1, 2**62, 2**62]}, f"job 0, operation 1 must take at most {LATEST}"),
        ({"due": [1, 2, 3]}, "due has 3 entries for 2 jobs"),
        ({"machine": [[0, 0, 0]]}, "machine must be a row of whole numbers"),
        ({"machines": 0}, "needs machines and jobs, not 0 and 2"),
    ],
)
def test_columns_have_to_fit(columns: dict[str, Any], reason: str):
    good = {
        "first_operation": [0, 2, 3],
        "first_option": [0, 1, 2, 3],
        "machine": [0, 0, 0],
        "duration": [1, 1, 1],
    }
    made(1, good)
    with pytest.raises(ValueError, match=reason):
        made(columns.pop("machines", 1), good | columns)


def made(machines: int, columns: dict[str, Any]) -> JobShop:
    arrays: dict[str, Any] = {name: np.array(column) for name, column in columns.items()}
    return JobShop(machines=machines, **arrays)
