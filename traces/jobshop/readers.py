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

from dataclasses import dataclass
from pathlib import Path

from makespan.traces.errors import TraceError
from makespan.traces.jobshop.instance import LATEST, JobShop
from makespan.traces.jobshop.json_reader import Jobs, Options, read_json
from makespan.traces.readers.source import lines

PROJECTS = {".rcp", ".sm"}
"""Names of files that end so are projects, whose reader is `read_project`."""

END_OF_JOB = [-1, -1]


def read(path: Path | str) -> JobShop:
    """The job shop in a file; its name is that of the file.

    Raises:
        TraceError: the file cannot be read; the message names line, and operation or key.
        OSError: it cannot be opened.
    """
    path = Path(path)
    rows = _rows(path)
    told = [row for row in rows if row.words]
    if not told:
        raise TraceError(path, "the file is empty")
    _refuse_projects(told)
    rows = rows[rows.index(told[0]) :]
    if told[0].words[0].startswith(("{", "[")):
        jobs, machines = read_json(path)
    elif any(row.words[0].lower() == "times" for row in told):
        jobs, machines = _taillard(rows)
    elif path.suffix == ".fjs" or _is_flexible(told):
        jobs, machines = _fjsp(rows)
    else:
        jobs, machines = _standard(rows)
    try:
        return JobShop.flexible(jobs, machines, path.name.partition(".")[0])
    except ValueError as error:
        raise TraceError(path, str(error)) from None


@dataclass(frozen=True)
class Row:
    """A line of a file; an empty one has no words."""

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
        if duration > LATEST:
            raise self.error(f"{where}: takes {duration}; at most {LATEST} can be")
        return machine - first, duration


def _rows(path: Path) -> list[Row]:
    """Lines, but for comments, with their numbers from 1."""
    rows = [Row(path, number, line.split()) for number, line in enumerate(lines(path), start=1)]
    return [row for row in rows if not "".join(row.words[:1]).startswith("#")]


def _refuse_projects(told: list[Row]) -> None:
    heading = next((row for row in told if row.words[0].upper() == "PRECEDENCE"), None)
    if heading or PROJECTS & {suffix.lower() for suffix in told[0].path.suffixes}:
        row = heading or told[0]
        raise row.error("this is a project (RCPSP) and no job shop; `read_project` reads it")


def _sizes(row: Row) -> tuple[int, int]:
    """Jobs and machines."""
    words = row.words[:2] if len(row.words) == 3 else row.words  # FJSP tells a mean, too
    sizes = Row(row.path, row.line, words).numbers()
    if len(sizes) != 2 or min(sizes) < 1:
        raise row.error("the first line must say the numbers of jobs and of machines")
    return sizes[0], sizes[1]


def _job_rows(rows: list[Row], jobs: int, what: str, end: Row) -> list[Row]:
    """Those that are not empty, of which there must be so many before `end`."""
    told = [row for row in rows if row.words]
    if len(told) > jobs:
        raise told[jobs].error(f"there is more after the {jobs} {what}")
    if len(told) == jobs:
        return told
    few = f"only {len(told)} of {jobs} {what} are there"
    for row in rows:
        if not row.words:
            raise row.error(f"the line is empty, and {few}; every job must visit a machine")
    raise end.error(few)


def _standard(rows: list[Row]) -> tuple[Jobs, int]:
    jobs, machines = _sizes(rows[0])
    found = _job_rows(rows[1:], jobs, "jobs", rows[-1])
    return [_plain_job(row, machines) for row in found], machines


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
    """Whether the first job reads as FJSP and not as standard; no row is empty."""
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


def _fjsp(rows: list[Row]) -> tuple[Jobs, int]:
    jobs, machines = _sizes(rows[0])
    found = _job_rows(rows[1:], jobs, "jobs", rows[-1])
    return [_flexible_job(row, machines) for row in found], machines


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


def _taillard(rows: list[Row]) -> tuple[Jobs, int]:
    """The tables may come after a line of words, and one of sizes, seeds and bounds."""
    words = ["".join(row.words[:1]).lower() for row in rows]
    times = words.index("times")
    if "machines" not in words[times:]:
        raise rows[-1].error("there is no line `Machines` after `Times`")
    places = words.index("machines", times)
    sizes = next((row for k, row in enumerate(rows[:times]) if words[k].isdigit()), None)
    if sizes is None:
        raise rows[times].error("no line before it says the numbers of jobs and of machines")
    jobs, machines = _sizes(Row(sizes.path, sizes.line, sizes.words[:2]))
    durations = _job_rows(rows[times + 1 : places], jobs, "jobs below `Times`", rows[places])
    orders = _job_rows(rows[places + 1 :], jobs, "jobs below `Machines`", rows[-1])
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
            (durations if not 0 <= duration <= LATEST else order).option(
                machine, duration, machines, 1, f"operation {k}"
            )
        ]
        for k, (machine, duration) in enumerate(pairs)
    ]
