"""Readers of projects: the format of Patterson (`.rcp`) and that of PSPLIB (`.sm`).

    Patterson  tasks and resources; capacities; then for each task its duration, demands, number of
               successors and these, from 1; line ends mean nothing
    PSPLIB     sections with headings: precedence relations, requests and durations, availabilities

Which one it is is told by the file, which may be gzipped.
"""

from collections.abc import Iterator
from pathlib import Path

from makespan.traces.errors import TraceError
from makespan.traces.jobshop.project import Project
from makespan.traces.readers.source import lines

RULE = ("*", "-")
"""Lines that begin so separate the sections of PSPLIB."""


def read_project(path: Path | str) -> Project:
    """The project in a file; its name is that of the file.

    Raises:
        TraceError: the file cannot be read; the message names the line.
        OSError: it cannot be opened.
    """
    path = Path(path)
    rows = [(number, line.split()) for number, line in enumerate(lines(path), 1) if line.strip()]
    if not rows:
        raise TraceError(path, "the file is empty")
    headed = any(words[0].upper() == "PRECEDENCE" for _, words in rows)
    capacity, tasks = _psplib(path, rows) if headed else _patterson(path, rows)
    try:
        return Project.of(capacity, tasks, path.name.partition(".")[0])
    except ValueError as error:
        raise TraceError(path, str(error)) from None


Rows = list[tuple[int, list[str]]]
"""Lines that say something: their numbers, from 1, and words."""

Task = tuple[int, list[int], list[int]]
"""Duration, demands, successors from 0."""


class _Numbers:
    """Whole numbers, one after the other, that know their line."""

    def __init__(self, path: Path, rows: Rows) -> None:
        self._path = path
        self._words = ((number, word) for number, words in rows for word in words)
        self._line = rows[0][0] if rows else None

    def next(self, what: str) -> int:
        """The next one.

        Raises:
            TraceError: there is none, or it is no whole number.
        """
        number, word = next(self._words, (None, None))
        if number is None or word is None:
            raise TraceError(self._path, f"the file ends before {what}", line=self._line)
        self._line = number
        try:
            return int(word)
        except ValueError:
            reason = f"{what} must be a whole number, not {word!r}"
            raise TraceError(self._path, reason, line=number) from None

    def several(self, count: int, what: str) -> list[int]:
        """The next ones."""
        return [self.next(what) for _ in range(count)]

    def task(self, tasks: int, what: str) -> int:
        """The number of a task, from 1 in the file and from 0 here."""
        number = self.next(what)
        if not 1 <= number <= tasks:
            reason = f"{what}: there is no task {number}, only 1 to {tasks}"
            raise TraceError(self._path, reason, line=self._line)
        return number - 1

    def end(self) -> None:
        """See that there is nothing more."""
        for number, word in self._words:
            raise TraceError(self._path, f"{word!r} comes after the last task", line=number)


def _patterson(path: Path, rows: Rows) -> tuple[list[int], list[Task]]:
    numbers = _Numbers(path, rows)
    tasks, resources = numbers.next("the number of tasks"), numbers.next("that of resources")
    if tasks < 1 or resources < 0:
        raise TraceError(path, f"no project has {tasks} tasks, {resources} resources", line=1)
    capacity = numbers.several(resources, "a capacity")
    found = []
    for task in range(1, tasks + 1):
        duration = numbers.next(f"the duration of task {task}")
        demand = numbers.several(resources, f"a demand of task {task}")
        count = numbers.next(f"the number of successors of task {task}")
        after = [numbers.task(tasks, f"a successor of task {task}") for _ in range(count)]
        found.append((duration, demand, after))
    numbers.end()
    return capacity, found


def _psplib(path: Path, rows: Rows) -> tuple[list[int], list[Task]]:
    precedence = list(_section(path, rows, "PRECEDENCE"))
    requests = list(_section(path, rows, "REQUESTS/DURATIONS:"))
    tasks = len(precedence)
    if len(requests) != tasks:
        raise TraceError(path, f"{tasks} tasks have successors, and {len(requests)} durations")
    found = []
    for number, (after, request) in enumerate(zip(precedence, requests, strict=True), start=1):
        numbers = _Numbers(path, [after])
        _expect(path, after[0], numbers.next("the task"), number)
        numbers.next("the number of modes")
        count = numbers.next("the number of successors")
        successors = [numbers.task(tasks, f"a successor of task {number}") for _ in range(count)]
        numbers.end()
        duration, demand = _request(path, request, number)
        found.append((duration, demand, successors))
    (capacities,) = list(_section(path, rows, "RESOURCEAVAILABILITIES:"))[:1] or [(None, [])]
    numbers = _Numbers(path, [capacities] if capacities[0] else [])
    return numbers.several(len(found[0][1]), "a capacity"), found


def _request(path: Path, row: tuple[int, list[str]], number: int) -> tuple[int, list[int]]:
    """Duration and demands of the task with that number, which is done in one mode."""
    numbers = _Numbers(path, [row])
    _expect(path, row[0], numbers.next("the task"), number)
    if (mode := numbers.next("the mode")) != 1:
        reason = f"task {number} has several modes, of which only the first is read: found {mode}"
        raise TraceError(path, reason, line=row[0])
    duration = numbers.next("the duration")
    return duration, numbers.several(len(row[1]) - 3, "a demand")


def _expect(path: Path, line: int, found: int, expected: int) -> None:
    if found != expected:
        raise TraceError(path, f"task {expected} was expected, not {found}", line=line)


def _section(path: Path, rows: Rows, heading: str) -> Iterator[tuple[int, list[str]]]:
    """The rows below a heading and the line of column names, up to the next rule of stars."""
    starts = [k for k, (_, words) in enumerate(rows) if words[0].upper() == heading]
    if not starts:
        raise TraceError(path, f"there is no section {heading.rstrip(':')}")
    for number, words in rows[starts[0] + 2 :]:
        if words[0].startswith("*"):
            return
        if not words[0].startswith(RULE):
            yield number, words
