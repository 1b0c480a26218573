"""The solver for projects: a worked one, and small ones against all serial schedules."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop.project_rules import dispatch_project
from makespan.envs.jobshop.projects import ProjectSchedule, generate_project
from makespan.traces.jobshop.project import Project

pytest.importorskip("ortools")

from makespan.baselines.jobshop.exact_project import solve_project

WORKED = Project.of(
    [2],
    [
        (0, [0], [1, 2]),
        (3, [1], [3]),
        (4, [1], [3, 4]),
        (2, [1], [5]),
        (5, [2], [5]),
        (0, [0], []),
    ],
)
"""The first two tasks go beside each other; the last two, from 4 on, do not: 4 + 5 + 2."""


def optimum(project: Project) -> int:
    solution = solve_project(project, workers=1)
    assert solution.status == "optimal"
    assert solution.schedule is not None
    solution.schedule.validate()
    assert solution.objective == solution.bound == solution.schedule.makespan
    return solution.bound


@pytest.mark.parametrize(
    ("more", "shortest"),
    [
        ({}, 11),
        # Task 4 takes all of it for 5: it cannot be done before 7, and then the other goes first.
        ({"downtime": np.array([[0, 6, 7]])}, 12),
        ({"downtime": np.array([[0, 0, 2]])}, 13),
        # One after the other: 3 + 4 + 5 + 2.
        ({"pairs": np.array([[1, 2]])}, 14),
        ({"release": np.array([0, 0, 2, 0, 0, 0])}, 13),
        # Task 3 before task 4, which is shorter in any case.
        ({"deadline": np.array([20, 20, 20, 6, 20, 20])}, 11),
    ],
)
def test_a_worked_project(more: dict, shortest: int):
    assert optimum(replace(WORKED, **more)) == shortest


def test_deadlines_that_cannot_be_met_are_seen():
    hurried = replace(WORKED, deadline=np.array([20, 20, 20, 10, 9, 20]))
    solution = solve_project(hurried, hint=dispatch_project(hurried, "lft", "serial"), workers=1)
    assert (solution.status, solution.schedule, solution.objective) == ("infeasible", None, None)
    empty = replace(WORKED, deadline=np.array([20, 20, 20, 20, 20, 3]))
    assert solve_project(empty, workers=1).status == "infeasible"


def test_without_time_there_is_the_hint():
    hint = dispatch_project(WORKED, "lft", "serial")
    solution = solve_project(WORKED, limit_s=1e-6, hint=hint, workers=1)
    assert solution.status == "feasible"
    assert solution.schedule is hint
    assert solution.objective == hint.makespan
    assert solution.bound == WORKED.critical_path()


def test_the_first_schedule_is_the_answer_if_only_that_is_asked_for():
    rng = np.random.default_rng(0)
    tasks = [(int(rng.integers(1, 9)), [int(rng.integers(1, 4))], []) for _ in range(12)]
    project = Project.of([4], tasks)
    solution = solve_project(project, first=True, workers=1)
    assert solution.status == "feasible"
    assert solution.schedule is not None
    solution.schedule.validate()
    assert solution.schedule.makespan > optimum(project)


@st.composite
def projects(draw: st.DrawFn) -> Project:
    """Up to five tasks with everything but deadlines."""
    count = draw(st.integers(1, 5))
    capacity = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    tasks = []
    for task in range(count):
        demand = [draw(st.integers(0, most)) for most in capacity]
        later = range(task + 1, count)
        after = draw(st.lists(st.sampled_from(later), unique=True, max_size=2)) if later else []
        tasks.append((draw(st.integers(0, 5)), demand, after))
    down = st.tuples(st.integers(0, len(capacity) - 1), st.integers(0, 8), st.integers(1, 4))
    pair = st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True)
    return replace(
        Project.of(capacity, tasks),
        downtime=np.array([(r, at, at + long) for r, at, long in draw(st.lists(down, max_size=2))]),
        release=np.array([draw(st.integers(0, 6)) for _ in range(count)]),
        pairs=np.array(draw(st.lists(pair, max_size=2)) if count > 1 else []),
    )


@settings(deadline=None, max_examples=40)
@given(projects())
def test_small_projects_are_solved_as_by_all_serial_schedules(project: Project):
    """Among which is an optimal one, since a task is put where it first fits."""
    orders = [np.array(o, np.float64) for o in itertools.permutations(range(project.tasks))]
    assert optimum(project) == min(
        generate_project(project, order, "serial").makespan for order in orders
    )


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="must be positive, not 0"):
        solve_project(WORKED, limit_s=0)
    hint = ProjectSchedule(replace(WORKED, duration=WORKED.duration // 2), np.arange(6))
    with pytest.raises(ValueError, match="another project"):
        solve_project(WORKED, hint=hint)
