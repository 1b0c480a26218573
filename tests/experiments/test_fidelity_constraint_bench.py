"""Feasibility curves of projects: what is counted, and that every row can fail."""

from dataclasses import replace

import numpy as np
import pytest

from makespan.experiments.fidelity import constraint_bench
from makespan.experiments.fidelity.constraint_bench import (
    AXES,
    HIDDEN,
    IN_TABLE,
    SOLVER,
    curve_table,
    curves,
    figure,
    mean_and_half_width,
    projects,
    rows,
    table,
    wauc,
)
from makespan.experiments.fidelity.row import Missing
from makespan.experiments.fidelity.sources import Sources


@pytest.fixture(autouse=True)
def few_projects(monkeypatch: pytest.MonkeyPatch):
    projects.cache_clear()
    curves.cache_clear()
    monkeypatch.setattr(constraint_bench, "PROJECTS", 3)
    monkeypatch.setattr(constraint_bench, "LEVELS", (5, 20))
    yield
    projects.cache_clear()
    curves.cache_clear()


def passed() -> list[bool | None]:
    projects.cache_clear()
    curves.cache_clear()
    return [row.passed for row in rows(Sources()) if not isinstance(row, Missing)]


def test_a_level_weighs_what_its_number_is_and_what_is_unknown_is_not_done():
    outcomes = np.array([[1, 0], [0, 1], [1, 1], [1, np.nan]])
    assert wauc(outcomes) == pytest.approx([0.2, 0.8, 1.0, 0.2])
    assert mean_and_half_width(np.array([0.0, 1.0])) == pytest.approx((0.5, 0.98))


def test_rows_pass_and_are_shown():
    pytest.importorskip("ortools")
    assert passed() == [True] * 4 + [None]
    lines = table().splitlines()
    assert len(lines) == 2 + 12 + 2
    assert lines[2] == f"| {HIDDEN} | " + " | ".join(["1.000 +- 0.000"] * len(AXES)) + " |"
    pytest.importorskip("matplotlib")
    panel = figure().axes[-1]
    assert panel.get_title() == "everything"
    assert len(panel.get_lines()) == 12 + 1


def test_the_table_of_curves_counts_what_is_done(monkeypatch: pytest.MonkeyPatch):
    outcomes = {by: np.array([[0, 1], [1, 1], [np.nan, 1]]) for by in (*IN_TABLE, HIDDEN)}
    monkeypatch.setattr(constraint_bench, "curves", lambda _: outcomes)
    lines = curve_table("everything").splitlines()
    assert lines[0] == "| | 5 | 20 |"
    assert lines[2:] == [f"| {by} | 1 | 3 |" for by in IN_TABLE]
    monkeypatch.setattr(constraint_bench, "curves", lambda _: {"lft, serial": outcomes[SOLVER]})
    assert curve_table("everything").splitlines()[2:] == ["| lft, serial | 1 | 3 |"]


def test_a_hidden_schedule_that_is_none_fails(monkeypatch: pytest.MonkeyPatch):
    fair = constraint_bench.layered
    monkeypatch.setattr(
        constraint_bench, "layered", lambda *of, **axes: (fair(*of, **axes)[0], np.zeros(30, int))
    )
    assert passed()[0] is False


def test_projects_that_cannot_be_done_fail_for_the_solver(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ortools")
    fair = constraint_bench.layered

    def hurried(*of, **axes):
        project, start = fair(*of, **axes)
        return replace(project, deadline=project.release + project.duration), start

    monkeypatch.setattr(constraint_bench, "layered", hurried)
    assert passed()[:3] == [False, False, False]


def test_a_solver_that_does_less_than_a_rule_fails(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ortools")
    monkeypatch.setattr(constraint_bench, "solved", lambda _: float("nan"))
    assert passed()[2:4] == [True, False]


def test_without_the_solver_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constraint_bench, "find_spec", lambda _: None)
    assert passed() == [True, True]
    assert SOLVER not in curves("precedences")
    assert isinstance(list(rows(Sources()))[-1], Missing)
