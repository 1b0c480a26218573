"""Schedules of projects with downtimes, windows and tasks that exclude each other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.envs.jobshop.projects import PROJECT_WAYS, ProjectSchedule, generate_project
from makespan.traces.jobshop.project import NEVER, Project

PROJECT = Project.of([2], [(3, [1], [2]), (4, [1], []), (2, [2], [])])


@pytest.mark.parametrize(
    ("more", "serial", "parallel"),
    [
        ({}, [0, 0, 4], [0, 0, 4]),
        ({"downtime": np.array([[0, 1, 2]])}, [2, 2, 6], [2, 2, 6]),
        ({"downtime": np.array([[0, 5, 7]])}, [0, 0, 7], [0, 0, 7]),
        ({"downtime": np.array([[0, 3, 5]])}, [0, 5, 9], [0, 5, 9]),
        ({"release": np.array([0, 5, 0])}, [0, 5, 3], [0, 5, 3]),
        ({"pairs": np.array([[1, 0]])}, [0, 3, 7], [0, 3, 7]),
        # Missed, and kept by who looks at deadlines.
        ({"deadline": np.array([9, 9, 5])}, [0, 0, 4], [0, 0, 4]),
    ],
)
def test_worked_schedules(more: dict, serial: list[int], parallel: list[int]):
    project = replace(PROJECT, **more)
    by_number = np.arange(3.0)
    assert generate_project(project, by_number, "serial").start.tolist() == serial
    assert generate_project(project, by_number, "parallel").start.tolist() == parallel


def test_in_series_a_task_waits_where_its_resource_is_taken_by_one_of_higher_priority():
    """Task 1 is put first and waits for its release; in parallel, task 2 does not wait for it."""
    project = replace(PROJECT, release=np.array([0, 4, 0]))
    priority = np.array([0.0, 1.0, 2.0])
    assert generate_project(project, priority, "serial").start.tolist() == [0, 4, 8]
    assert generate_project(project, priority, "parallel").start.tolist() == [0, 5, 3]


@pytest.mark.parametrize(
    ("more", "start", "rule"),
    [
        ({"downtime": np.array([[0, 3, 4]])}, [0, 0, 4], "task 1 takes of resource 0, which is do"),
        ({"release": np.array([0, 1, 0])}, [0, 0, 4], "task 1 begins before its release at 1"),
        ({"deadline": np.array([3, 4, 5])}, [0, 0, 4], "task 2 ends at 6, after its deadline at 5"),
        ({"pairs": np.array([[1, 0]])}, [0, 2, 6], "tasks 1 and 0 are under way at once at 2"),
    ],
)
def test_what_cannot_be_is_named(more: dict, start: list[int], rule: str):
    ProjectSchedule(PROJECT, np.array(start)).validate()
    with pytest.raises(ValueError, match=rule):
        ProjectSchedule(replace(PROJECT, **more), np.array(start)).validate()


def test_what_takes_no_time_is_in_nobodys_way():
    project = Project.of([1], [(4, [1], []), (0, [1], [])])
    project = replace(project, pairs=np.array([[0, 1]]), downtime=np.array([[0, 9, 12]]))
    for moment in (2, 10):
        ProjectSchedule(project, np.array([0, moment])).validate()


@st.composite
def projects(draw: st.DrawFn) -> tuple[Project, np.ndarray]:
    """Up to six tasks with everything, and random priorities."""
    count = draw(st.integers(1, 6))
    capacity = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    tasks = []
    for task in range(count):
        demand = [draw(st.integers(0, most)) for most in capacity]
        later = range(task + 1, count)
        after = draw(st.lists(st.sampled_from(later), unique=True)) if later else []
        tasks.append((draw(st.integers(0, 5)), demand, after))
    down = st.tuples(st.integers(0, len(capacity) - 1), st.integers(0, 12), st.integers(1, 4))
    pair = st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True)
    project = replace(
        Project.of(capacity, tasks),
        downtime=np.array([(r, at, at + long) for r, at, long in draw(st.lists(down, max_size=3))]),
        release=np.array([draw(st.integers(0, 9)) for _ in range(count)]),
        pairs=np.array(draw(st.lists(pair, max_size=3)) if count > 1 else []),
    )
    return project, np.array(draw(st.permutations(range(count))), np.float64)


def possible(project: Project, start: np.ndarray) -> bool:
    try:
        ProjectSchedule(project, start).validate()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("way", PROJECT_WAYS)
@settings(deadline=None)  # it may have to be compiled
@given(drawn=projects())
def test_every_way_makes_schedules_that_can_be_but_for_deadlines(way, drawn):
    project, priority = drawn
    schedule = generate_project(project, priority, way)
    schedule.validate()
    assert schedule.makespan >= project.critical_path()
    hurried = replace(project, deadline=project.release + project.duration)
    again = generate_project(hurried, priority, way)
    assert again.start.tolist() == schedule.start.tolist()
    assert again.late.any() == (not possible(hurried, again.start))
    assert not schedule.late.any()
    assert (project.deadline == NEVER).all()


@given(projects())
def test_in_a_serial_schedule_no_task_can_be_earlier_alone(drawn):
    project, priority = drawn
    schedule = generate_project(project, priority, "serial")
    for task in range(project.tasks):
        for begin in range(int(schedule.start[task])):
            start = schedule.start.copy()
            start[task] = begin
            assert not possible(project, start)


@given(projects())
def test_in_a_parallel_schedule_nothing_waits_that_could_begin(drawn):
    project, priority = drawn
    schedule = generate_project(project, priority, "parallel")
    for task in np.flatnonzero(project.duration).tolist():
        for begin in range(int(project.release[task]), int(schedule.start[task])):
            assert not fits(schedule, task, begin)


def fits(schedule: ProjectSchedule, task: int, begin: int) -> bool:
    """Whether the task, released, could begin beside what is under way then."""
    project = schedule.project
    running = (schedule.start <= begin) & (begin < schedule.end)
    taken = project.demand[running].sum(axis=0) + project.demand[task]
    before = [i for i in range(project.tasks) if task in project.successors(i)]
    end = begin + project.duration[task]
    down = [project.demand[task, r] for r, a, b in project.downtime if a < end and begin < b]
    beside = {i for pair in project.pairs.tolist() if task in pair for i in pair} - {task}
    return (
        all(schedule.end[i] <= begin for i in before)
        and bool((taken <= project.capacity).all())
        and not any(down)
        and not any(running[i] for i in beside)
    )
