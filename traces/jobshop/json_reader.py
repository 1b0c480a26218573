"""The two kinds of JSON in which job shops are passed around; see `readers`."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from makespan.traces.errors import TraceError
from makespan.traces.jobshop.instance import LATEST
from makespan.traces.readers.source import lines

Options = list[tuple[int, int]]
Jobs = list[list[Options]]
"""Machine and duration of the options of each operation of each job."""

Key = str | int
"""The name of a value in an object, or its number in a list."""


def read_json(path: Path) -> tuple[Jobs, int]:
    """The jobs in a file, and the number of machines.

    Raises:
        TraceError: the file cannot be read; the message names line and keys.
    """
    document = Document.load(path)
    readers: dict[str, Callable[[Document], tuple[Jobs, int]]] = {
        "data": _list,
        "duration_matrix": _matrices,
    }
    for key, reader in readers.items():
        if isinstance(document.root, dict) and key in document.root:
            return reader(document)
    raise document.error("a JSON object with `data`, or with `duration_matrix`, is needed")


@dataclass(frozen=True)
class Document:
    """A JSON file. Its values are named by the keys that lead to them from the outermost one."""

    path: Path
    text: str
    root: Any

    @classmethod
    def load(cls, path: Path) -> Self:
        """The file.

        Raises:
            TraceError: it is no JSON.
        """
        text = "".join(lines(path))
        try:
            return cls(path, text, json.loads(text))
        except json.JSONDecodeError as error:
            raise TraceError(path, f"no JSON: {error.msg}", line=error.lineno) from None

    def error(self, reason: str, *keys: Key) -> TraceError:
        """What is wrong with a value."""
        names = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
        column = "".join(names).lstrip(".")
        return TraceError(self.path, reason, line=line_of(self.text, *keys), column=column or None)

    def value(self, *keys: Key) -> Any:
        """A value; None if the last key is not there."""
        value: Any = self.root
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else value[key]
        return value

    def values(self, *keys: Key) -> list[Any]:
        """Those of a list.

        Raises:
            TraceError: it is none, or empty.
        """
        values = self.value(*keys)
        if not isinstance(values, list) or not values:
            raise self.error("a list is needed that is not empty", *keys)
        return values

    def whole(self, *keys: Key, least: int = 0, most: int = LATEST) -> int:
        """A whole number.

        Raises:
            TraceError: it is none, as is `true`, or out of range.
        """
        value = self.value(*keys)
        if value is None:
            raise self.error("a whole number is needed", *keys)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(f"{value!r} is no whole number", *keys)
        if not least <= value <= most:
            raise self.error(f"must be from {least} to {most}, not {value}", *keys)
        return value


def line_of(text: str, *keys: Key) -> int:
    """The line, from 1, on which a value begins; if it is not there, what should have it.

    Args:
        text: JSON without a mistake.
        keys: that lead to the value.
    """
    at = _after_space(text, 0)
    for key in keys:
        at = dict(_members(text, at)).get(key, at)
    return text.count("\n", 0, at) + 1


def _members(text: str, at: int) -> Iterator[tuple[Key, int]]:
    """The keys of the object or list that begins there, and where their values begin."""
    decode = json.JSONDecoder().raw_decode
    named, number = text[at] == "{", 0
    at = _after_space(text, at + 1)
    while text[at] not in "]}":
        key: Key = number
        if named:
            key, at = decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)  # behind the colon
        yield key, at
        at = _after_space(text, decode(text, at)[1])
        if text[at] == ",":
            at = _after_space(text, at + 1)
        number += 1


def _after_space(text: str, at: int) -> int:
    while text[at].isspace():
        at += 1
    return at


def _list(document: Document) -> tuple[Jobs, int]:
    """Entries with the same job and operation are options of it."""
    machines = document.whole("machines", least=1)
    said = document.whole("jobs", least=1) if "jobs" in document.root else None
    most = {"job": (said or LATEST) - 1, "machine": machines - 1}
    found: dict[int, dict[int, Options]] = {}
    for i, entry in enumerate(document.values("data")):
        if not isinstance(entry, dict):
            raise document.error("not an object", "data", i)
        job, operation, machine, duration = (
            document.whole("data", i, key, most=most.get(key, LATEST))
            for key in ("job", "operation", "machine", "duration")
        )
        found.setdefault(job, {}).setdefault(operation, []).append((machine, duration))
    for job in range(said or max(found) + 1):
        if job not in found:
            raise document.error(f"job {job} visits no machine", "data")
    return [_operations(document, job, found[job]) for job in sorted(found)], machines


def _operations(document: Document, job: int, found: dict[int, Options]) -> list[Options]:
    for operation in range(max(found)):
        if operation not in found:
            raise document.error(f"job {job} has no operation {operation}, but a later one", "data")
    return [found[operation] for operation in sorted(found)]


def _matrices(document: Document) -> tuple[Jobs, int]:
    machines, durations = (
        [
            [document.whole(key, job, k) for k in range(len(document.values(key, job)))]
            for job in range(len(document.values(key)))
        ]
        for key in ("machines_matrix", "duration_matrix")
    )
    if len(machines) != len(durations):
        reason = f"{len(durations)} jobs, of which {len(machines)} are in machines_matrix"
        raise document.error(reason, "duration_matrix")
    for job, (visited, takes) in enumerate(zip(machines, durations, strict=True)):
        if len(visited) != len(takes):
            reason = f"{len(takes)} durations for {len(visited)} machines"
            raise document.error(reason, "duration_matrix", job)
    jobs = [
        [[pair] for pair in zip(*rows, strict=True)]
        for rows in zip(machines, durations, strict=True)
    ]
    return jobs, 1 + max(machine for row in machines for machine in row)
