"""Random projects by level: their precedences, what is injected, and that they can be done."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import SeedSequence

from makespan.envs.jobshop.projects import ProjectSchedule
from makespan.traces.jobshop.layered import (
    CAPACITY,
    LARGEST_DEMAND,
    LONGEST,
    SLACK,
    _hidden,
    layered,
)
from makespan.traces.jobshop.project import NEVER, Project

EVERYTHING: dict[str, Any] = {"downtime": 0.75, "windows": 0.75, "pairs": 0.75}


def arcs(project: Project) -> set[tuple[int, int]]:
    return {(i, j) for i in range(project.tasks) for j in project.successors(i).tolist()}


def reachable(edges: set[tuple[int, int]], tasks: int) -> np.ndarray:
    """bool (tasks, tasks): whether there is a path."""
    path = np.zeros((tasks, tasks), np.bool_)
    for edge in edges:
        path[edge] = True
    for through in range(tasks):
        path |= path[:, [through]] & path[through]
    return path


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 25),
    st.tuples(*(st.floats(0, 1) for _ in range(3))),
)
def test_the_hidden_schedule_meets_everything(seed: int, level: int, shares):
    downtime, windows, pairs = shares
    project, start = layered(
        level, SeedSequence(seed), 20, 4, 2, downtime=downtime, windows=windows, pairs=pairs
    )
    ProjectSchedule(project, start).validate()


@pytest.mark.parametrize("level", [0, 1, 20, 40])
def test_a_level_is_the_number_of_precedences_and_none_follows_from_others(level: int):
    project, _ = layered(level, SeedSequence(3))
    edges = arcs(project)
    assert len(edges) == level
    for edge in edges:
        assert not reachable(edges - {edge}, project.tasks)[edge]


def test_precedences_go_from_a_layer_to_a_later_one():
    project, _ = layered(30, SeedSequence(1), tasks=30, layers=3)
    assert all(i // 10 < j // 10 for i, j in arcs(project))
    assert {(i // 10, j // 10) for i, j in arcs(project)} == {(0, 1), (1, 2), (0, 2)}


def test_a_higher_level_has_more_of_the_same():
    lower, higher = (layered(level, SeedSequence(5))[0] for level in (10, 20))
    assert (lower.duration == higher.duration).all()
    assert (lower.demand == higher.demand).all()
    assert arcs(lower) < arcs(higher)


def test_without_axes_there_is_nothing_but_precedences_and_resources():
    project, _ = layered(10, SeedSequence(0), tasks=200)
    assert len(project.downtime) == len(project.pairs) == 0
    assert (project.release == 0).all()
    assert (project.deadline == NEVER).all()
    assert set(project.duration.tolist()) == set(range(1, LONGEST + 1))
    assert set(project.demand.ravel().tolist()) == set(range(LARGEST_DEMAND + 1))
    assert (project.capacity == CAPACITY).all()


def test_each_axis_comes_with_its_probability():
    drawn = [layered(10, SeedSequence(seed), **EVERYTHING)[0] for seed in range(40)]
    shares = {
        "downtime": np.mean([len(p.downtime) / len(p.capacity) for p in drawn]),
        "windows": np.mean([(p.deadline != NEVER).mean() for p in drawn]),
        "pairs": np.mean([len(p.pairs) / p.tasks for p in drawn]),
    }
    for share, trials in zip(shares.values(), (120, 1200, 1200), strict=True):
        assert share == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / trials))
    for project in drawn:
        path = reachable(arcs(project), project.tasks)
        assert not any(path[i, j] or path[j, i] for i, j in project.pairs)
        assert len({frozenset(pair) for pair in project.pairs.tolist()}) == len(project.pairs)


def test_windows_leave_room_round_the_hidden_schedule_on_both_sides():
    for seed in range(10):
        project, start = layered(20, SeedSequence(seed), tasks=60, windows=0.75)
        end, given = start + project.duration, project.deadline != NEVER
        most = int(SLACK * end.max())
        before, after = (start - project.release)[given], (project.deadline - end)[given]
        for room in (before, after):
            assert ((room >= 0) & (room <= most)).all()
            assert room.max() > most / 2
        assert (project.release[given] > 0).mean() > 0.5
        assert (after > 0).mean() > 0.8
        assert (project.release[~given] == 0).all()


def test_downtimes_begin_at_any_time_of_the_work():
    horizons, begins = [], []
    for seed in range(10):
        project, _ = layered(0, SeedSequence(seed), resources=10, downtime=1.0)
        work = project.duration @ project.demand
        horizons += [work.max() // CAPACITY] * 10
        begins += project.downtime[:, 1].tolist()
    shares = np.array(begins) / horizons
    assert ((shares >= 0) & (shares < 1)).all()
    # Uniform, whose standard deviation is 1 / sqrt(12).
    assert shares.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * 100))
    assert shares.std() == pytest.approx(1 / np.sqrt(12), rel=0.2)


def test_hidden_schedules_take_the_tasks_in_random_orders():
    project, _ = layered(0, SeedSequence(0))
    one, same, other = (_hidden(project, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_hiding_a_schedule_looks_at_the_successors_of_a_task_a_few_times(monkeypatch):
    asked, successors = [], Project.successors

    def counted(project: Project, task: int) -> np.ndarray:
        asked.append(task)
        return successors(project, task)

    monkeypatch.setattr(Project, "successors", counted)
    layered(40, SeedSequence(0), tasks=120)
    assert len(asked) < 10 * 120


def test_the_same_seed_gives_the_same_project():
    (one, start), (other, again) = (layered(9, SeedSequence(2), **EVERYTHING) for _ in range(2))
    assert (start == again).all()
    for column in ("duration", "demand", "successor", "downtime", "release", "deadline", "pairs"):
        assert (getattr(one, column) == getattr(other, column)).all()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"level": -1}, "level must not be negative, not -1"),
        ({"level": 99, "tasks": 4, "layers": 2}, "4 precedences fit among 4 tasks, not 99"),
        ({"layers": 31}, "30 tasks cannot lie in 31 layers"),
        ({"resources": 0}, "resources must be at least 1, not 0"),
        ({"pairs": 1.5}, "pairs is a probability, not 1.5"),
    ],
)
def test_bad_input_is_named(more: dict, reason: str):
    with pytest.raises(ValueError, match=reason):
        layered(**{"level": 1, "seed": SeedSequence(0)} | more)
