"""The critical path that the report shows."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.envs.jobshop.generation import WAYS, generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.experiments.jobshop.critical import blocks, critical_path
from makespan.traces.jobshop import JobShop


def test_a_path_worked_out_by_hand():
    """Machine 0: job 0 (0-3), job 1 (3-7); machine 1: job 1 (0-2), job 0 (3-5)."""
    shop = JobShop.of([[(0, 3), (1, 2)], [(1, 2), (0, 4)]])
    schedule = Schedule.plain(shop, np.array([0, 3, 0, 3]))
    path = critical_path(schedule)
    assert path.tolist() == [0, 3]
    assert blocks(schedule, path) == [(0, 1)]


def test_the_chain_that_goes_back_furthest_is_taken():
    """Both job 0 and job 1 end when the last operation begins; job 1 began late."""
    shop = JobShop.of([[(0, 2), (1, 2), (2, 1)], [(2, 1)]])
    schedule = Schedule.plain(shop, np.array([0, 2, 4, 3]))
    schedule.validate()
    path = critical_path(schedule)
    assert path.tolist() == [0, 1, 2]
    assert blocks(schedule, path) == [(0, 0), (1, 1), (2, 2)]


def test_with_time_to_spare_it_ends_where_the_machine_waits():
    shop = JobShop.of([[(0, 2), (0, 2)]])
    assert critical_path(Schedule.plain(shop, np.array([0, 3]))).tolist() == [1]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    machines = draw(st.integers(1, 4))
    operation = st.tuples(st.integers(0, machines - 1), st.integers(0, 6))
    jobs = draw(st.lists(st.lists(operation, min_size=1, max_size=5), min_size=1, max_size=5))
    shop = JobShop.of(jobs, machines)
    numbers = st.lists(st.integers(0, 9), min_size=shop.operations, max_size=shop.operations)
    return generate(shop, np.array(draw(numbers), np.float64), draw(st.sampled_from(WAYS)))


@settings(deadline=None)  # it may have to be compiled
@given(schedules())
def test_it_takes_the_whole_time_of_a_schedule_without_slack(schedule):
    path = critical_path(schedule)
    start, end, job = schedule.start[path], schedule.end[path], schedule.shop.job[path]
    machine = schedule.machine[path]
    assert start[0] == 0
    assert end[-1] == schedule.makespan
    assert (start[1:] == end[:-1]).all()
    assert ((job[1:] == job[:-1]) | (machine[1:] == machine[:-1])).all()
    assert len(set(path.tolist())) == len(path)


@settings(deadline=None)  # it may have to be compiled
@given(schedules())
def test_blocks_cut_the_path_where_the_machine_changes(schedule):
    path = critical_path(schedule)
    cut = blocks(schedule, path)
    assert [place for first, last in cut for place in range(first, last + 1)] == [*range(len(path))]
    machines = [set(schedule.machine[path[first : last + 1]]) for first, last in cut]
    assert all(len(on) == 1 for on in machines)
    assert all(one != other for one, other in pairwise(machines))
