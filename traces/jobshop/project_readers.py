"""Readers of projects: the format of Patterson (`.rcp`) and that of PSPLIB (`.sm`).

    Patterson  tasks and resources; capacities; then for each task its duration, demands, number of
               successors and these, from 1; line ends mean nothing
    PSPLIB     sections with headings: precedence relations, requests and durations, availabilities

Which one it is is told by the file, which may be gzipped.
"""

from dataclasses import dataclass
from pathlib import Path

from makespan.traces.errors import TraceError
from makespan.traces.jobshop.instance import LATEST
from makespan.traces.jobshop.project import Circle, Project
from makespan.traces.readers.source import lines

RULE = ("*", "--")
"""Lines that begin so separate the sections of PSPLIB."""

Rows = list[tuple[int, list[str]]]
"""Lines that say something: their numbers, from 1, and words."""


@dataclass(frozen=True)
class Task:
    """What a file says of a task; `line` is where."""

    duration: int
    demand: list[int]
    successors: list[int]
    line: int


def read_project(path: Path | str) -> Project:
    """The project in a file; its name is that of the file.

    Raises:
        TraceError: the file cannot be read; the message names the line, and tasks and resources as
            the file does, from 1.
        OSError: it cannot be opened.
    """
    path = Path(path)
    rows = [(number, line.split()) for number, line in enumerate(lines(path), 1) if line.strip()]
    if not rows:
        raise TraceError(path, "the file is empty")
    headed = any(words[0].upper() == "PRECEDENCE" for _, words in rows)
    capacity, tasks = _psplib(path, rows) if headed else _patterson(path, rows)
    columns = [(task.duration, task.demand, task.successors) for task in tasks]
    try:
        return Project.of(capacity, columns, path.name.partition(".")[0])
    except Circle as circle:
        reason = f"task {circle.task + 1} waits for itself, in a circle"
        raise TraceError(path, reason, line=tasks[circle.task].line) from None
    except ValueError as error:
        raise TraceError(path, str(error)) from None


class _Numbers:
    """Whole numbers, one after the other, that know their line. None of them is negative."""

    def __init__(self, path: Path, rows: Rows) -> None:
        self._path = path
        self._words = ((number, word) for number, words in rows for word in words)
        self.line = rows[0][0]
        self._last = rows[-1][0]

    def error(self, reason: str) -> TraceError:
        """What is wrong with the last one."""
        return TraceError(self._path, reason, line=self.line)

    def next(self, what: str, most: int = LATEST) -> int:
        """The next one.

        Raises:
            TraceError: there is none, it is no whole number, or out of range.
        """
        self.line, word = next(self._words, (self._last, None))
        if word is None:
            raise self.error(f"{what} is missing")
        try:
            number = int(word)
        except ValueError:
            raise self.error(f"{what} must be a whole number, not {word!r}") from None
        if not 0 <= number <= most:
            raise self.error(f"{what} must be from 0 to {most}, not {number}")
        return number

    def several(self, count: int, what: str) -> list[int]:
        """The next ones."""
        return [self.next(what) for _ in range(count)]

    def demand(self, capacity: list[int], number: int) -> list[int]:
        """What the task with that number takes of each resource."""
        return [
            self.next(f"what task {number} takes of resource {resource}", most)
            for resource, most in enumerate(capacity, start=1)
        ]

    def successors(self, tasks: int, number: int) -> list[int]:
        """Their number, and these; from 0."""
        count = self.next(f"the number of successors of task {number}")
        return [self._task(tasks, f"a successor of task {number}") for _ in range(count)]

    def _task(self, tasks: int, what: str) -> int:
        number = self.next(what)
        if not 1 <= number <= tasks:
            raise self.error(f"{what}: there is no task {number}, only 1 to {tasks}")
        return number - 1

    def end(self) -> None:
        """See that there is nothing more."""
        self.line, word = next(self._words, (self._last, None))
        if word is not None:
            raise self.error(f"{word!r} comes after the last number")


def _patterson(path: Path, rows: Rows) -> tuple[list[int], list[Task]]:
    numbers = _Numbers(path, rows)
    if (tasks := numbers.next("the number of tasks")) < 1:
        raise numbers.error("no project has 0 tasks")
    capacity = numbers.several(numbers.next("the number of resources"), "a capacity")
    found = []
    for task in range(1, tasks + 1):
        duration = numbers.next(f"the duration of task {task}")
        line = numbers.line
        demand = numbers.demand(capacity, task)
        found.append(Task(duration, demand, numbers.successors(tasks, task), line))
    numbers.end()
    return capacity, found


def _psplib(path: Path, rows: Rows) -> tuple[list[int], list[Task]]:
    precedence = _section(path, rows, "PRECEDENCE")
    requests = _section(path, rows, "REQUESTS/DURATIONS:")
    availabilities = _Numbers(path, _section(path, rows, "RESOURCEAVAILABILITIES:")[:1])
    resources = len(requests[0][1]) - 3  # behind task, mode and duration
    capacity = availabilities.several(resources, "a capacity")
    availabilities.end()
    tasks = max(len(precedence), len(requests))
    found = []
    for number in range(1, tasks + 1):
        after, request = _row(path, precedence, number), _row(path, requests, number)
        for numbers, what in ((after, "the number of modes"), (request, "the mode")):
            if (modes := numbers.next(what)) != 1:
                raise numbers.error(f"{what} of task {number} must be 1, not {modes}")
        successors = after.successors(tasks, number)
        duration = request.next(f"the duration of task {number}")
        demand = request.demand(capacity, number)
        after.end()
        request.end()
        found.append(Task(duration, demand, successors, precedence[number - 1][0]))
    return capacity, found


def _row(path: Path, section: Rows, number: int) -> _Numbers:
    """What the row of the task with that number says of it."""
    if number > len(section):
        reason = f"the row of task {number} is missing after this"
        raise TraceError(path, reason, line=section[-1][0])
    numbers = _Numbers(path, [section[number - 1]])
    if (found := numbers.next("the task")) != number:
        raise numbers.error(f"task {number} was expected, not {found}")
    return numbers


def _section(path: Path, rows: Rows, heading: str) -> Rows:
    """The rows below a heading and the line of column names, up to the next rule of stars."""
    starts = [k for k, (_, words) in enumerate(rows) if words[0].upper() == heading]
    if not starts:
        reason = f"the file ends without a section {heading.rstrip(':')}"
        raise TraceError(path, reason, line=rows[-1][0])
    found = []
    for number, words in rows[starts[0] + 2 :]:
        if words[0].startswith("*"):
            break
        if not words[0].startswith(RULE):
            found.append((number, words))
    if not found:
        raise TraceError(path, "the section is empty", line=rows[starts[0]][0])
    return found
