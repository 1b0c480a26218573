"""Readers of the file formats in which job shops are passed around; which one is told by the file.

    standard   jobs and machines; then for each job (machine, duration) of every operation
    reentrant  the same with any number of operations, and -1 -1 at the end (Da Col and Teppan)
    Taillard   a table of durations below `Times`, one of machines, from 1, below `Machines`
    FJSP       jobs, machines, mean number of options; then for each job its number of operations,
               and for each the number of options and (machine, from 1, duration) of each
    JSON       `machines` and `data`, a list of job, operation, machine, duration (ScheduleOpt), or
               `machines_matrix` and `duration_matrix` (job-shop-lib)

Empty lines and those that begin with `#` are left out, and files may be gzipped.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makespan.traces.errors import TraceError
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.readers.source import lines

Options = list[tuple[int, int]]
Jobs = list[list[Options]]
"""Machine and duration of the options of each operation of each job."""

END_OF_JOB = [-1, -1]


def read(path: Path | str) -> JobShop:
    """The job shop in a file; its name is that of the file.

    Raises:
        TraceError: the file cannot be read; the message names line, and operation or key.
        OSError: it cannot be opened.
    """
    path = Path(path)
    rows = [Row(path, number, line.split()) for number, line in _told(path)]
    if not rows:
        raise TraceError(path, "the file is empty")
    if rows[0].words[0].startswith(("{", "[")):
        jobs, machines = _json(path)
    elif any(row.words[0].lower() == "times" for row in rows):
        jobs, machines = _taillard(path, rows)
    elif path.suffix == ".fjs" or _is_flexible(rows):
        jobs, machines = _fjsp(path, rows)
    else:
        jobs, machines = _standard(path, rows)
    try:
        return JobShop.flexible(jobs, machines, path.name.partition(".")[0])
    except ValueError as error:
        raise TraceError(path, str(error)) from None


def _told(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers from 1."""
    for number, line in enumerate(lines(path), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


@dataclass(frozen=True)
class Row:
    """A line of a file."""

    path: Path
    line: int
    words: list[str]

    def error(self, reason: str) -> TraceError:
        return TraceError(self.path, reason, line=self.line)

    def numbers(self) -> list[int]:
        """All of it.

        Raises:
            TraceError: something in it is no whole number.
        """
        return [self._number(word) for word in self.words]

    def _number(self, word: str) -> int:
        try:
            return int(word)
        except ValueError:
            raise self.error(f"{word!r} is no whole number") from None

    def option(self, machine: int, duration: int, machines: int, first: int, where: str) -> tuple:
        """A machine, counted from 0, and a duration that may be.

        Args:
            first: number of the first machine in the file.
            where: which operation it is.
        """
        if not first <= machine < first + machines:
            known = f"{first} to {first + machines - 1}"
            raise self.error(f"{where}: there is no machine {machine}, only {known}")
        if duration < 0:
            raise self.error(f"{where}: takes {duration}; durations are not negative")
        return machine - first, duration


def _sizes(row: Row) -> tuple[int, int]:
    """Jobs and machines."""
    words = row.words[:2] if len(row.words) == 3 else row.words  # FJSP tells a mean, too
    sizes = Row(row.path, row.line, words).numbers()
    if len(sizes) != 2 or min(sizes) < 1:
        raise row.error("the first line must say the numbers of jobs and of machines")
    return sizes[0], sizes[1]


def _job_rows(path: Path, rows: list[Row], jobs: int, what: str) -> list[Row]:
    if len(rows) < jobs:
        line = rows[-1].line if rows else None
        raise TraceError(path, f"the file ends after {len(rows)} of {jobs} {what}", line=line)
    if len(rows) > jobs:
        raise rows[jobs].error(f"there is more after the {jobs} {what}")
    return rows


def _standard(path: Path, rows: list[Row]) -> tuple[Jobs, int]:
    jobs, machines = _sizes(rows[0])
    return [_plain_job(row, machines) for row in _job_rows(path, rows[1:], jobs, "jobs")], machines


def _plain_job(row: Row, machines: int) -> list[Options]:
    numbers = row.numbers()
    if numbers[-2:] == END_OF_JOB:
        numbers = numbers[:-2]
    elif len(numbers) != 2 * machines:
        raise row.error(
            f"{len(numbers)} numbers, where {machines} machines and durations make {2 * machines}"
        )
    if not numbers:
        raise row.error("this job visits no machine")
    if len(numbers) % 2:
        raise row.error("the last machine has no duration")
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return [
        [row.option(machine, duration, machines, 0, f"operation {k}")]
        for k, (machine, duration) in enumerate(pairs)
    ]


def _is_flexible(rows: list[Row]) -> bool:
    """Whether the first job reads as FJSP and not as standard."""
    if len(rows) < 2 or rows[1].words[-2:] == ["-1", "-1"]:
        return False
    try:
        _, machines = _sizes(rows[0])
        if len(rows[1].words) == 2 * machines and len(rows[0].words) == 2:
            return False
        _flexible_job(rows[1], machines)
    except TraceError:
        return len(rows[0].words) == 3
    return True


def _fjsp(path: Path, rows: list[Row]) -> tuple[Jobs, int]:
    jobs, machines = _sizes(rows[0])
    return [
        _flexible_job(row, machines) for row in _job_rows(path, rows[1:], jobs, "jobs")
    ], machines


def _flexible_job(row: Row, machines: int) -> list[Options]:
    numbers = iter(row.numbers())

    def take(what: str) -> int:
        if (number := next(numbers, None)) is None:
            raise row.error(f"the line ends before {what}")
        return number

    operations = []
    if (count := take("the number of operations")) < 1:
        raise row.error("this job visits no machine")
    for k in range(count):
        options = []
        if (choices := take(f"operation {k}")) < 1:
            raise row.error(f"operation {k} can be done nowhere")
        for _ in range(choices):
            machine, duration = take(f"a machine of operation {k}"), take("its duration")
            options.append(row.option(machine, duration, machines, 1, f"operation {k}"))
        operations.append(options)
    if (rest := next(numbers, None)) is not None:
        raise row.error(f"{rest} comes after the last operation")
    return operations


def _taillard(path: Path, rows: list[Row]) -> tuple[Jobs, int]:
    """The tables may come after a line of words, and one of sizes, seeds and bounds."""
    words = [row.words[0].lower() for row in rows]
    times = words.index("times")
    if "machines" not in words[times:]:
        raise TraceError(path, "there is no line `Machines` after `Times`")
    places = words.index("machines", times)
    sizes = next((row for row in rows[:times] if row.words[0].isdigit()), None)
    if sizes is None:
        raise rows[times].error("no line before it says the numbers of jobs and of machines")
    jobs, machines = _sizes(Row(path, sizes.line, sizes.words[:2]))
    durations = _job_rows(path, rows[times + 1 : places], jobs, "jobs below `Times`")
    orders = _job_rows(path, rows[places + 1 :], jobs, "jobs below `Machines`")
    return [
        _taillard_job(*pair, machines) for pair in zip(durations, orders, strict=True)
    ], machines


def _taillard_job(durations: Row, order: Row, machines: int) -> list[Options]:
    for row in (durations, order):
        if len(row.words) != machines:
            raise row.error(f"{len(row.words)} numbers for {machines} machines")
    pairs = zip(order.numbers(), durations.numbers(), strict=True)
    return [
        [
            (durations if duration < 0 else order).option(
                machine, duration, machines, 1, f"operation {k}"
            )
        ]
        for k, (machine, duration) in enumerate(pairs)
    ]


def _json(path: Path) -> tuple[Jobs, int]:
    try:
        fields = json.loads("".join(lines(path)))
    except json.JSONDecodeError as error:
        raise TraceError(path, f"no JSON: {error.msg}", line=error.lineno) from None
    readers: dict[str, Callable[[Path, dict[str, Any]], tuple[Jobs, int]]] = {
        "data": _json_list,
        "duration_matrix": _json_matrices,
    }
    for key, reader in readers.items():
        if isinstance(fields, dict) and key in fields:
            return reader(path, fields)
    raise TraceError(path, "a JSON object with `data`, or with `duration_matrix`, is needed")


def _json_list(path: Path, fields: dict[str, Any]) -> tuple[Jobs, int]:
    """Entries with the same job and operation are options of it."""
    machines = _whole(path, fields, "machines", "")
    found: dict[tuple[int, int], Options] = {}
    for i, entry in enumerate(fields["data"]):
        where = f"data[{i}]"
        if not isinstance(entry, dict):
            raise TraceError(path, "not an object", column=where)
        place = _whole(path, entry, "job", where), _whole(path, entry, "operation", where)
        machine = _whole(path, entry, "machine", where)
        duration = _whole(path, entry, "duration", where)
        found.setdefault(place, []).append((machine, duration))
    jobs: Jobs = []
    for job, operation in sorted(found):
        if operation == 0 and job == len(jobs):
            jobs.append([])
        if job != len(jobs) - 1 or operation != len(jobs[job]):
            raise TraceError(path, f"job {job}, operation {operation} has none before it")
        jobs[job].append(found[job, operation])
    return jobs, machines


def _json_matrices(path: Path, fields: dict[str, Any]) -> tuple[Jobs, int]:
    tables = []
    for key in ("machines_matrix", "duration_matrix"):
        table = fields.get(key)
        if not isinstance(table, list) or not all(isinstance(row, list) for row in table):
            raise TraceError(path, "a list of lists is needed", column=key)
        tables.append(
            [
                [_whole(path, dict(enumerate(row)), k, f"{key}[{j}]") for k in range(len(row))]
                for j, row in enumerate(table)
            ]
        )
    machines, durations = tables
    if [len(row) for row in machines] != [len(row) for row in durations]:
        raise TraceError(path, "the two matrices differ in size")
    jobs = [
        [[pair] for pair in zip(*rows, strict=True)]
        for rows in zip(machines, durations, strict=True)
    ]
    return jobs, 1 + max((machine for row in machines for machine in row), default=0)


def _whole(path: Path, entry: Any, key: Any, where: str) -> int:
    """A whole number; `true` is none."""
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        column = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}".lstrip(".")
        raise TraceError(path, f"{value!r} is no whole number", column=column)
    return value
