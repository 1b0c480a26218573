"""Projects: the columns, the critical path, what is refused, and their files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from makespan.traces.errors import TraceError
from makespan.traces.jobshop.instance import LATEST
from makespan.traces.jobshop.project import NEVER, Project
from makespan.traces.jobshop.project_readers import read_project

TASKS = [(0, [0, 0], [1, 2]), (3, [2, 0], [3]), (4, [1, 1], [3]), (0, [0, 0], [])]
PROJECT = Project.of([2, 1], TASKS)

PATTERSON = "4 2\n2 1\n0 0 0 2 2 3\n3 2 0 1 4\n4 1 1 1\n4 0 0 0 0\n"

PSPLIB = """\
************************************************************************
file with basedata            : tiny.bas
************************************************************************
projects                      :  1
jobs (incl. supersource/sink ):  4
************************************************************************
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          2           2   3
   2        1          1           4
   3        1          1           4
   4        1          0
************************************************************************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  R 2
------------------------------------------------------------------------
  1      1     0       0    0
  2      1     3       2    0
  3      1     4       1    1
  4      1     0       0    0
************************************************************************
RESOURCEAVAILABILITIES:
  R 1  R 2
    2    1
************************************************************************
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.rcp"
    path.write_text(text)
    return path


def test_the_critical_path_says_when_tasks_can_and_must_begin():
    assert PROJECT.critical_path() == 4
    assert PROJECT.earliest().tolist() == [0, 0, 0, 4]
    assert PROJECT.latest().tolist() == [0, 1, 0, 4]
    assert PROJECT.order()[0] == 0
    assert PROJECT.order()[-1] == 3


@pytest.mark.parametrize("text", [PATTERSON, PSPLIB, PATTERSON.replace("\n", " ")])
def test_every_format_is_read(text: str, tmp_path: Path):
    project = read_project(written(tmp_path, text))
    assert project.name == "tiny"
    for column in ("capacity", "duration", "demand", "first_successor", "successor"):
        assert (getattr(project, column) == getattr(PROJECT, column)).all()


@pytest.mark.parametrize(
    ("capacity", "tasks", "reason"),
    [
        ([1], [], "needs tasks"),
        ([1], [(1, [1, 1], [])], "demands of shape"),
        ([1], [(-1, [1], [])], "task 0 takes -1"),
        ([1], [(1, [2], [])], "task 0 takes 2 of resource 0, which has 1"),
        ([1], [(1, [-1], [])], "task 0 takes -1 of resource 0"),
        ([1], [(2**63 - 1, [1], [])], "task 0 has the number 9223372036854775807"),
        ([2**70], [(1, [2**70], [])], "task 0 has the number 1180591620717411303424"),
        ([1], [(LATEST, [1], []), (1, [1], [])], f"all times add up to {LATEST + 1}"),
        ([1], [(1, [1], [1])], "there is no task 1 to come after"),
        ([1], [(1, [1], [1]), (1, [1], [0])], "task 0 waits for itself, in a circle"),
        ([1], [(1.5, [1], [])], "duration must be whole numbers"),
    ],
)
def test_what_cannot_be_is_named(capacity, tasks, reason: str):
    with pytest.raises(ValueError, match=reason):
        Project.of(capacity, tasks)


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("downtime", [[2, 0, 1]], "downtime 0 is of resource 2, which there is not"),
        ("downtime", [[0, 0, 1], [1, 3, 3]], "downtime 1 lasts from 3 to 3"),
        ("downtime", [[0, -1, 1]], "downtime 0 lasts from -1 to 1"),
        ("downtime", [0, 0, 1], "a downtime is a resource, its beginning and its end"),
        ("release", [0, 0, 0], "release has not one entry for each of 4 tasks"),
        ("release", [0, 0, -1, 0], "task 2 must not be released before 0"),
        ("release", [0, 0, 2**63 - 1, 0], "all times add up to 9223372036854775814"),
        ("downtime", [[0, 0, LATEST]], f"all times add up to {LATEST + 7}"),
        ("duration", [0, 2**63 - 1, 4, 0], "task 1 takes 9223372036854775807, not from 0 to"),
        ("deadline", [0, -(2**63), 9, 9], "task 1 takes 3 and cannot be done from 0 to -9"),
        ("deadline", [0, 2, 9, 9], "task 1 takes 3 and cannot be done from 0 to 2"),
        ("pairs", [[0, 0]], "pair 0 must be two tasks of 4: 0 and 0"),
        ("pairs", [[0, 1], [1, 4]], "pair 1 must be two tasks of 4: 1 and 4"),
        ("pairs", [[0, 1, 2]], "a pair is two tasks"),
    ],
)
def test_times_and_pairs_that_cannot_be_are_named(column: str, values, reason: str):
    with pytest.raises(ValueError, match=reason):
        replace(PROJECT, **{column: np.array(values)})


def test_without_times_and_pairs_there_are_none():
    assert PROJECT.downtime.shape == (0, 3)
    assert PROJECT.pairs.shape == (0, 2)
    assert PROJECT.release.tolist() == [0] * 4
    assert PROJECT.deadline.tolist() == [NEVER] * 4


def test_the_critical_path_knows_windows():
    late = replace(PROJECT, release=np.array([1, 0, 0, 0]), deadline=np.array([9, 9, 8, 9]))
    assert late.critical_path() == 5
    assert late.earliest().tolist() == [1, 1, 1, 5]
    assert late.latest().tolist() == [1, 2, 1, 5]
    hurried = replace(PROJECT, deadline=np.array([9, 3, 8, 9]))
    assert hurried.latest().tolist() == [0, 0, 0, 4]


BAD = {
    "empty": ("", "the file is empty"),
    "no tasks": ("0 1\n1\n", ":1: no project has 0 tasks"),
    "cut off": (PATTERSON[:30], ": the file ends before"),
    "a fraction": (PATTERSON.replace("3 2 0", "3.5 2 0"), ":4: the duration of task 2 must be"),
    "too much": (PATTERSON + "7\n", ":7: '7' comes after the last task"),
    "an unknown task": (
        PATTERSON.replace("0 0 0 2 2 3", "0 0 0 2 2 5"),
        ":3: a successor of task 1: there is no task 5, only 1 to 4",
    ),
    "too much of a resource": (PATTERSON.replace("3 2 0", "3 3 0"), "task 1 takes 3 of resource 0"),
    "a circle": (PATTERSON.replace("4 0 0 0 0", "4 0 0 0 1 1"), "waits for itself"),
    "no durations": (PSPLIB.partition("REQUESTS")[0], "there is no section REQUESTS/DURATIONS"),
    "no capacities": (PSPLIB.partition("RESOURCE")[0], "there is no section RESOURCEAVAIL"),
    "a capacity too few": (PSPLIB.replace("    2    1\n", "    2\n"), "ends before a capacity"),
    "several modes": (PSPLIB.replace("  2      1     3", "  2      2     3"), ":18: task 2 has"),
    "a task left out": (
        PSPLIB.replace("   2        1          1           4\n", ""),
        "3 tasks have successors, and 4 durations",
    ),
    "a duration left out": (
        PSPLIB.replace("  3      1     4       1    1\n", ""),
        "4 tasks have successors, and 3 durations",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_one_error_with_its_place(bad: str, tmp_path: Path):
    text, said = BAD[bad]
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_project(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
