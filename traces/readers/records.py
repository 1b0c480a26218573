"""JSON Lines to columns; a bad value is named by line and key."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from makespan.traces.errors import TraceError
from makespan.traces.readers.source import lines


class Record:
    """One JSON object of the file, whose values are fetched by key and checked."""

    def __init__(self, path: Path, line: int, values: dict[str, Any]) -> None:
        self._path, self._values, self.line = path, values, line

    def error(self, key: str, reason: str) -> TraceError:
        """The error to raise for the value under `key`."""
        return TraceError(self._path, reason, line=self.line, column=key)

    def _get(self, key: str) -> Any:
        if key not in self._values:
            raise self.error(key, f"is missing; found {', '.join(self._values) or 'nothing'}")
        return self._values[key]

    def whole_number(self, key: str, minimum: int) -> int:
        """The int under `key`, at least `minimum`."""
        value = self._get(key)
        if type(value) is not int or value < minimum:
            raise self.error(key, f"expected a whole number >= {minimum}, found {value!r}")
        return value

    def number(self, key: str) -> float:
        """The finite number under `key`."""
        value = self._get(key)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.error(key, f"expected a number, found {value!r}")
        return float(value)

    def text(self, key: str) -> str:
        """The string under `key`."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self.error(key, f"expected text, found {value!r}")
        return value

    def block_ids(self, key: str) -> list[int]:
        """The list of non-negative ints under `key`."""
        value = self._get(key)
        if not isinstance(value, list) or any(type(x) is not int or x < 0 for x in value):
            raise self.error(key, "expected a list of whole numbers >= 0")
        return value


def records(path: Path) -> Iterator[Record]:
    """The objects of a JSON Lines file; blank lines are passed over.

    Raises:
        TraceError: a line is not a JSON object; names file, line and place in the line.
    """
    for number, text in enumerate(lines(path), start=1):
        if text.isspace():
            continue
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            reason = f"not JSON: {error.msg} at character {error.colno}"
            raise TraceError(path, reason, line=number) from None
        if not isinstance(values, dict):
            raise TraceError(path, "expected a JSON object", line=number)
        yield Record(path, number, values)


def ordered_times(found: Sequence[Record], key: str) -> np.ndarray:
    """float64 (n,): the number under `key` of each record.

    Raises:
        TraceError: not a number, or earlier than the record before.
    """
    times = np.array([record.number(key) for record in found])
    backwards = times[1:] < times[:-1]
    if backwards.any():
        row = int(backwards.argmax()) + 1
        reason = f"{times[row]} is earlier than {times[row - 1]} before it; sort the trace by time"
        raise found[row].error(key, reason)
    return times
