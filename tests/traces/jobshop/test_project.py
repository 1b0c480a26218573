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
        ([1], [(1, [1], []), (1, [1], [2]), (1, [1], [1, 0])], "task [12] waits for itself"),
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
    "empty": ("", "", " the file is empty"),
    "no tasks": ("4 2\n", "0 2\n", "1: no project has 0 tasks"),
    "cut off": (
        "4 1 1 1\n4 0 0 0 0\n",
        "4 1 1\n",
        "5: the number of successors of task 3 is missing",
    ),
    "a fraction": (
        "3 2 0",
        "3.5 2 0",
        "4: the duration of task 2 must be a whole number, not '3.5'",
    ),
    "too much": ("4 0 0 0 0\n", "4 0 0 0 0\n7\n", "7: '7' comes after the last number"),
    "an unknown task": (
        "0 0 0 2 2 3",
        "0 0 0 2 2 5",
        "3: a successor of task 1: there is no task 5, only 1 to 4",
    ),
    "a negative capacity": ("2 1\n", "2 -1\n", "2: a capacity must be from 0 to"),
    "a negative duration": ("3 2 0", "-3 2 0", "4: the duration of task 2 must be from 0 to"),
    "a duration too high": (
        "3 2 0",
        "9223372036854775807 2 0",
        "4: the duration of task 2 must be",
    ),
    "durations too high": (
        "3 2 0",
        "9007199254740992 2 0",
        " all times add up to 9007199254740996",
    ),
    "too much of a resource": (
        "3 2 0",
        "3 3 0",
        "4: what task 2 takes of resource 1 must be from 0 to 2, not 3",
    ),
    "a negative demand": ("3 2 0", "3 2 -1", "4: what task 2 takes of resource 2 must be from 0"),
    "a negative number of successors": (
        "4 0 0 0 0",
        "4 0 0 0 -1",
        "6: the number of successors of task 4 must be from 0",
    ),
    "a circle": ("4 0 0 0 0", "4 0 0 0 1 2", "4: task 2 waits for itself, in a circle"),
}
"""What is replaced in Patterson's file, by what, and what is said, with the line."""

ROW = "  3      1     4       1    1\n"

BAD_PSPLIB = {
    "no durations": (
        PSPLIB[PSPLIB.index("REQUESTS") :],
        "",
        "13: the file ends without a section REQUESTS/DURATIONS",
    ),
    "no capacities": (
        PSPLIB[PSPLIB.index("RESOURCE") :],
        "",
        "21: the file ends without a section RESOURCEAVAILABILITIES",
    ),
    "cut off below a heading": (
        PSPLIB[PSPLIB.index("    2    1\n") :],
        "",
        "22: the section is empty",
    ),
    "a capacity too few": ("    2    1\n", "    2\n", "24: a capacity is missing"),
    "a capacity too many": ("    2    1\n", "    2  1  7\n", "24: '7' comes after the last"),
    "a negative capacity": ("    2    1\n", "   -2    1\n", "24: a capacity must be from 0"),
    "several modes": (
        "   2        1 ",
        "   2        3 ",
        "10: the number of modes of task 2 must be 1",
    ),
    "another mode": (
        "  2      1     3",
        "  2      2     3",
        "18: the mode of task 2 must be 1, not 2",
    ),
    "a task left out": (
        "   2        1          1           4\n",
        "",
        "10: task 2 was expected, not 3",
    ),
    "the last task left out": (
        "   4        1          0\n",
        "",
        "11: the row of task 4 is missing after this",
    ),
    "a duration left out": (ROW, "", "19: task 3 was expected, not 4"),
    "the last duration left out": (
        "  4      1     0       0    0\n",
        "",
        "19: the row of task 4 is missing after this",
    ),
    "a demand too few": (ROW, ROW[:-6] + "\n", "19: what task 3 takes of resource 2 is missing"),
    "a demand too many": (ROW, ROW[:-1] + "  0\n", "19: '0' comes after the last number"),
    "too much of a resource": (
        ROW,
        ROW.replace("1    1", "1    2"),
        "19: what task 3 takes of resource 2 must be from 0 to 1, not 2",
    ),
    "a negative duration": (
        ROW,
        ROW.replace("4", "-4"),
        "19: the duration of task 3 must be from 0",
    ),
    "a successor too many": ("1           4\n   3", "1       4 3\n   3", "10: '3' comes after"),
    "a negative number of successors": (
        "   4        1          0",
        "   4        1         -1",
        "12: the number of successors of task 4 must be from 0",
    ),
    "a circle": ("   4        1          0", "   4   1   1   3", "11: task 3 waits for itself"),
}


@pytest.mark.parametrize(
    ("good", "bad"),
    [*((PATTERSON, bad) for bad in BAD.values()), *((PSPLIB, bad) for bad in BAD_PSPLIB.values())],
    ids=[*BAD, *(f"{name} in PSPLIB" for name in BAD_PSPLIB)],
)
def test_a_bad_file_is_one_error_with_its_place(good: str, bad: tuple, tmp_path: Path):
    old, new, said = bad
    text = good.replace(old, new, 1) if old else ""
    assert text != good
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_project(path)
    assert str(caught.value).startswith(f"{path}:{said}")
