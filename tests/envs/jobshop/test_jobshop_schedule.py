"""Schedules of job shops, and what the validator says of those that cannot be."""

import numpy as np
import pytest

from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop

SHOP = JobShop.of([[(0, 3), (1, 2)], [(0, 2), (1, 4)]])
GOOD = [0, 5, 3, 7]


def test_a_schedule_knows_its_ends():
    schedule = Schedule.plain(SHOP, np.array(GOOD))
    schedule.validate()
    assert schedule.end.tolist() == [3, 7, 5, 11]
    assert schedule.machine.tolist() == [0, 1, 0, 1]
    assert schedule.makespan == 11


@pytest.mark.parametrize(
    ("start", "rule"),
    [
        ([0, 2, 3, 7], "job 0, operation 1 begins before the one before it ends"),
        ([-1, 5, 3, 7], "job 0, operation 0 begins before its job is released"),
        ([0, 5, 2, 7], "machine 0 has job 0, operation 0 and job 1, operation 0 at once"),
        ([0, 5, 3, 6], "machine 1 has job 0, operation 1 and job 1, operation 1 at once"),
        ([0, 5, 3], "start must say something of each of 4 operations"),
    ],
)
def test_what_cannot_be_is_named(start: list[int], rule: str):
    with pytest.raises(ValueError, match=rule):
        Schedule(SHOP, np.array(start), np.arange(4)).validate()


def test_a_job_waits_for_its_release():
    shop = JobShop(
        machines=1,
        first_operation=np.array([0, 1]),
        first_option=np.array([0, 1]),
        machine=np.array([0]),
        duration=np.array([2]),
        release=np.array([5]),
    )
    Schedule.plain(shop, np.array([5])).validate()
    with pytest.raises(ValueError, match="released"):
        Schedule.plain(shop, np.array([4])).validate()


def test_an_operation_is_done_by_an_option_of_its_own():
    shop = JobShop.flexible([[[(0, 3), (1, 5)]], [[(1, 4)]]])
    Schedule(shop, np.array([0, 0]), np.array([0, 2])).validate()
    Schedule(shop, np.array([0, 5]), np.array([1, 2])).validate()
    with pytest.raises(ValueError, match="job 0, operation 0 is done by no option of its own"):
        Schedule(shop, np.array([0, 0]), np.array([2, 2])).validate()
    with pytest.raises(ValueError, match="machine 1 has"):
        Schedule(shop, np.array([0, 0]), np.array([1, 2])).validate()


def test_where_nothing_lies_between_machines_a_job_blocks_its_own():
    shop = JobShop.of([[(0, 2), (1, 2)], [(1, 3), (0, 1)]])
    swapped = Schedule.plain(shop, np.array([0, 3, 0, 3]))
    swapped.validate(blocking=True)  # both go on at 3
    late = Schedule.plain(shop, np.array([0, 4, 0, 3]))
    late.validate()
    with pytest.raises(ValueError, match="machine 0 has job 0, operation 0 and job 1, operation 1"):
        late.validate(blocking=True)


def test_what_takes_no_time_is_in_nobodys_way():
    shop = JobShop.of([[(0, 4)], [(0, 0)]])
    Schedule.plain(shop, np.array([0, 2])).validate()


SWAPPING = {
    2: ([[(0, 2), (1, 2)], [(1, 3), (0, 1)]], [0, 3, 0, 3], "jobs 0 and 1 swap at 3"),
    3: (
        [[(0, 2), (1, 2)], [(1, 3), (2, 1)], [(2, 2), (0, 2)], [(3, 9)]],
        [0, 3, 0, 3, 0, 3, 0],
        "jobs 0, 1 and 2 swap at 3",
    ),
}


@pytest.mark.parametrize("jobs", SWAPPING)
def test_jobs_that_swap_are_named(jobs: int):
    operations, start, rule = SWAPPING[jobs]
    schedule = Schedule.plain(JobShop.of(operations), np.array(start))
    schedule.validate(blocking=True)
    with pytest.raises(ValueError, match=rule):
        schedule.validate(blocking=True, swap=False)


def test_jobs_that_go_on_in_a_row_at_once_do_not_swap():
    """Job 0 leaves the shop, job 1 takes its machine, and job 2 that of job 1, all at 3."""
    shop = JobShop.of([[(0, 3)], [(1, 2), (0, 2)], [(2, 1), (1, 2)]])
    Schedule.plain(shop, np.array([0, 0, 3, 0, 3])).validate(blocking=True, swap=False)


def test_a_job_that_stays_on_its_machine_swaps_with_nobody():
    shop = JobShop.of([[(0, 3), (0, 2)]])
    Schedule.plain(shop, np.array([0, 3])).validate(blocking=True, swap=False)


def test_what_takes_no_time_does_not_hide_a_swap():
    """Job 0 passes machine 2 on its way to that of job 1."""
    shop = JobShop.of([[(0, 2), (2, 0), (1, 2)], [(1, 2), (0, 1)]])
    schedule = Schedule.plain(shop, np.array([0, 2, 2, 0, 2]))
    with pytest.raises(ValueError, match="jobs 0 and 1 swap at 2"):
        schedule.validate(blocking=True, swap=False)
