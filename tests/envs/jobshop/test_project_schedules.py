"""Schedules of projects, the two ways of making them, and what the validator says."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.envs.jobshop.projects import PROJECT_WAYS, ProjectSchedule, generate_project
from makespan.traces.jobshop.instance import LATEST
from makespan.traces.jobshop.project import Project

PROJECT = Project.of(
    [2, 1], [(0, [0, 0], [1, 2]), (3, [2, 0], [3]), (4, [1, 1], [3]), (0, [0, 0], [])]
)


@st.composite
def projects(draw: st.DrawFn) -> tuple[Project, np.ndarray]:
    """Up to six tasks, each of which may wait for any before it, and random priorities."""
    count = draw(st.integers(1, 6))
    capacity = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    tasks = []
    for task in range(count):
        demand = [draw(st.integers(0, most)) for most in capacity]
        later = range(task + 1, count)
        after = draw(st.lists(st.sampled_from(later), unique=True)) if later else []
        tasks.append((draw(st.integers(0, 5)), demand, after))
    priority = draw(st.permutations(range(count)))
    return Project.of(capacity, tasks), np.array(priority, np.float64)


@pytest.mark.parametrize("way", PROJECT_WAYS)
@settings(deadline=None)  # it may have to be compiled
@given(drawn=projects())
def test_every_way_makes_schedules_that_can_be(way, drawn):
    project, priority = drawn
    schedule = generate_project(project, priority, way)
    schedule.validate()
    assert project.critical_path() <= schedule.makespan <= project.duration.sum()


@given(projects())
def test_in_a_serial_schedule_no_task_can_be_earlier_alone(drawn):
    project, priority = drawn
    schedule = generate_project(project, priority, "serial")
    for task in range(project.tasks):
        for begin in range(int(schedule.start[task])):
            start = schedule.start.copy()
            start[task] = begin
            with pytest.raises(ValueError, match=r"begins before|of resource"):
                ProjectSchedule(project, start).validate()


@given(projects())
def test_in_a_parallel_schedule_nothing_waits_that_could_begin_when_something_ends(drawn):
    project, priority = drawn
    schedule = generate_project(project, priority, "parallel")
    moments = {0, *schedule.end.tolist()}
    for task in range(project.tasks):
        for begin in [m for m in moments if m < schedule.start[task]]:
            running = (schedule.start <= begin) & (begin < schedule.end)
            taken = project.demand[running].sum(axis=0) + project.demand[task]
            before = [i for i in range(project.tasks) if task in project.successors(i)]
            ready = all(schedule.end[i] <= begin for i in before)
            assert not ready or (taken > project.capacity).any()


@settings(deadline=None, max_examples=30)
@given(projects())
def test_some_serial_schedule_is_the_shortest(drawn):
    """And so none of the parallel ones is shorter."""
    project, _ = drawn
    orders = [np.array(o, np.float64) for o in itertools.permutations(range(project.tasks))]
    shortest = {
        way: min(generate_project(project, order, way).makespan for order in orders)
        for way in PROJECT_WAYS
    }
    assert shortest["serial"] <= shortest["parallel"]


@pytest.mark.parametrize(
    ("start", "rule"),
    [
        ([0, 0, 3, 6], "task 3 begins before task 2 ends"),
        ([0, 0, 0, 4], "at 0 tasks take 3 of resource 0, which has 2"),
        ([0, 0, -1, 7], "needs a start from 0 on"),
        ([0, 0, 3], "for each of 4 tasks"),
    ],
)
def test_what_cannot_be_is_named(start: list[int], rule: str):
    ProjectSchedule(PROJECT, np.array([0, 0, 3, 7])).validate()
    with pytest.raises(ValueError, match=rule):
        ProjectSchedule(PROJECT, np.array(start)).validate()


@pytest.mark.parametrize(
    ("priority", "way", "reason"),
    [
        ([0.0], "serial", "needs 4 priorities"),
        ([0.0, 0.0, float("inf"), 0.0], "serial", "finite"),
        ([0.0] * 4, "backward", "not by 'backward'"),
    ],
)
def test_what_cannot_be_made_is_said(priority, way, reason: str):
    with pytest.raises(ValueError, match=reason):
        generate_project(PROJECT, np.array(priority), way)


def test_the_longest_project_there_can_be_is_made_in_parallel():
    project = Project.of([1], [(LATEST - 2, [1], []), (2, [1], [])])
    schedule = generate_project(project, np.array([1.0, 0.0]), "parallel")
    schedule.validate()
    assert (schedule.start.tolist(), schedule.makespan) == ([2, 0], LATEST)
    with pytest.raises(ValueError, match="keeps 9007199254740993 numbers for so long a project"):
        generate_project(project, np.array([1.0, 0.0]), "serial")
