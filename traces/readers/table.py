"""CSV tables to NumPy columns, a chunk at a time; a bad cell is named by line and column.

Cells are converted by whole columns, which is what makes a million rows a matter of seconds; the
line of a bad cell is looked up only once there is one.
"""

import csv
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from makespan.traces.errors import TraceError
from makespan.traces.readers.source import lines

CHUNK_ROWS = 8_192
_WIDEST_CELL = 2**31 - 1

Cells = Sequence[str]


@dataclass(frozen=True)
class Column:
    """A column to read.

    Attributes:
        name: as in the header.
        parse: cells to an array of as many entries; ValueError where a cell is bad.
        expected: what a good cell is, for the error message.
        default: cell to take where the table lacks the column; None: the column is required.
    """

    name: str
    parse: Callable[[Cells], np.ndarray]
    expected: str
    default: str | None = None


def _require(good: bool | np.bool_) -> None:
    if not good:
        raise ValueError


def whole_numbers(name: str, minimum: int, default: str | None = None) -> Column:
    """A column of int64, none below `minimum`."""

    def parse(cells: Cells) -> np.ndarray:
        values = np.array(cells, dtype=np.int64)
        _require(values.min(initial=minimum) >= minimum)
        return values

    return Column(name, parse, f"a whole number >= {minimum}", default)


def seconds(name: str) -> Column:
    """A column of float64 seconds."""

    def parse(cells: Cells) -> np.ndarray:
        values = np.array(cells, dtype=np.float64)
        _require(np.isfinite(values).all())
        return values

    return Column(name, parse, "a number of seconds")


def instants(name: str) -> Column:
    """A column of calendar times, as datetime64[ns] in UTC; a chunk has one form of time zone."""
    shortest = len("2023-11-16 18:15:46")

    def parse(cells: Cells) -> np.ndarray:
        zoned = sum(cell.endswith("+00:00") for cell in cells)
        _require(zoned in (0, len(cells)))
        plain = [cell[:-6] for cell in cells] if zoned else cells
        # Without this, NumPy would take "1234" for a year.
        _require(min(map(len, plain)) >= shortest)
        # NumPy reads other zones with a warning that it does not support them.
        with warnings.catch_warnings(action="error", category=UserWarning):
            values = np.array(plain).astype("datetime64[ns]")
        _require(not np.isnat(values).any())
        return values

    example = "2023-11-16 18:15:46.68"
    return Column(name, parse, f"a time such as {example}, all with +00:00 or all without")


def words(name: str, default: str | None = None) -> Column:
    """A column of text, as an object array of str."""
    return Column(name, lambda cells: np.array(cells, dtype=object), "text", default)


def read_table(path: Path, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """The named columns of a CSV file with a header line, each of shape (rows,).

    Raises:
        TraceError: a column is missing, a cell is bad, or a row has another length than the
            header; names file, line and column.
    """
    with wide_cells():
        rows = _rows(path)
        header = [cell.strip() for cell in next(rows, [])]
        _check_header(path, header, columns)
        parts: dict[str, list[np.ndarray]] = {column.name: [] for column in columns}
        for start, chunk in _chunks(rows):
            cells = _transpose(path, header, start, chunk)
            for column in columns:
                values = _values(path, start, column, cells.get(column.name), len(chunk))
                parts[column.name].append(values)
    if not parts[columns[0].name]:
        raise TraceError(path, "has a header but no requests", line=1)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


@contextmanager
def wide_cells() -> Iterator[None]:
    """Lift the csv module's limit on the width of a cell while in the block."""
    # A cell of prefix hashes passes the csv module's limit of 128 KiB at 100k tokens of prompt.
    before = csv.field_size_limit(_WIDEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows(path: Path) -> Iterator[list[str]]:
    """The rows that are not blank."""
    return filter(None, csv.reader(lines(path)))


def _chunks(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[list[str]]]]:
    """(index of the first row, rows), again and again."""
    start = 0
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield start, chunk
        start += len(chunk)


def _check_header(path: Path, header: Cells, columns: Sequence[Column]) -> None:
    for column in columns:
        if column.default is None and column.name not in header:
            found = ", ".join(header) or "nothing"
            raise TraceError(path, f"is missing; found {found}", line=1, column=column.name)
        if header.count(column.name) > 1:
            raise TraceError(path, "stands twice in the header", line=1, column=column.name)


def _transpose(
    path: Path, header: Cells, start: int, chunk: Sequence[Cells]
) -> dict[str, Sequence[str]]:
    try:
        return dict(zip(header, zip(*chunk, strict=True), strict=True))
    except ValueError:
        wrong = next(i for i, row in enumerate(chunk) if len(row) != len(header))
        reason = f"expected {len(header)} fields, found {len(chunk[wrong])}"
        raise TraceError(path, reason, line=line_of(path, start + wrong)) from None


def _values(path: Path, start: int, column: Column, cells: Cells | None, rows: int) -> np.ndarray:
    if cells is None:
        return np.repeat(column.parse([column.default or ""]), rows)
    try:
        return column.parse(cells)
    except (ValueError, OverflowError, UserWarning):
        wrong = _first_bad(column, cells)
        reason = f"expected {column.expected}, found {cells[wrong]!r}"
        line = line_of(path, start + wrong)
        raise TraceError(path, reason, line=line, column=column.name) from None


def _first_bad(column: Column, cells: Cells) -> int:
    """Index of the first cell that is bad by itself or beside the first one."""
    for index, cell in enumerate(cells):
        try:
            column.parse([cells[0], cell])
        except (ValueError, OverflowError, UserWarning):
            return index
    raise AssertionError(f"column {column.name} parses cell by cell but not as a whole")


def line_of(path: Path, row: int) -> int:
    """Line of the file, from 1, on which data row `row`, from 0, ends."""
    with wide_cells():
        reader = csv.reader(lines(path))
        full = (reader.line_num for cells in reader if cells)
        return next(islice(full, row + 1, None))


def check_order(path: Path, column: str, times: np.ndarray) -> None:
    """Require `times`, one per data row, not to go backwards.

    Raises:
        TraceError: names the first row that is earlier than the one before it.
    """
    backwards = times[1:] < times[:-1]
    if backwards.any():
        row = int(backwards.argmax()) + 1
        reason = f"{times[row]} is earlier than {times[row - 1]} before it; sort the trace by time"
        raise TraceError(path, reason, line=line_of(path, row), column=column)
