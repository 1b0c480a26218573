"""Logs of the live router (JSON Lines, one object per request, see `makespan.agents.serve.record`).

Lines stand in the order in which requests ended, and a log may hold several runs of the router,
each with its own zero of `arrival_s`: `wall`, the time of day of the arrival, tells where on one
time line a run lies, and `arrival_s` where in its run a request came, to the last digit.

Prefix hashes are made with a key that every run draws anew, so they match within a run alone: a
replay of several runs has fewer cache hits than there were.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from makespan.traces.errors import TraceError, TraceWarning
from makespan.traces.prefixes import offsets_of
from makespan.traces.readers.assemble import assemble, encode
from makespan.traces.readers.records import Record
from makespan.traces.readers.source import lines
from makespan.traces.workload import Workload

FORMAT = "makespan-served-1"
"""What stands under `format` in every line; another number means other keys."""

OUTCOMES = ("finished", "failed", "cancelled", "rejected")
"""How a request can have ended."""

KEYS = ("format", "arrival_s", "wall", "prompt_tokens", "output_tokens", "prefix_hashes", "outcome")
"""By which the format is told from others."""

SAME_RUN_S = 0.5
"""Two requests whose runs seem to have begun closer than that are of one run.

The time of day is cut to milliseconds and clocks are slewed by 0.5 ms/s at most, while a router
takes longer than this to start.
"""

_TOO_BIG = 2**63


class Line(Record):
    """One line of the log, whose values are fetched by key and checked."""

    def null(self, key: str) -> bool:
        """Whether null is under `key`."""
        return self._get(key) is None

    def boolean(self, key: str) -> bool:
        """The bool under `key`."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.error(key, f"expected true or false, found {value!r}")
        return value

    def seconds(self, key: str) -> float:
        """The finite number >= 0 under `key`."""
        value = self.number(key)
        if value < 0:
            raise self.error(key, f"expected a number >= 0, found {value!r}")
        return value

    def whole_number(self, key: str, minimum: int) -> int:
        """The int under `key`, at least `minimum` and below 2**63."""
        value = super().whole_number(key, minimum)
        if value >= _TOO_BIG:
            raise self.error(key, f"expected a whole number below 2**63, found {value}")
        return value

    def block_ids(self, key: str) -> list[int]:
        """The list of ints in [0, 2**63) under `key`."""
        value = super().block_ids(key)
        if max(value, default=0) >= _TOO_BIG:
            raise self.error(key, "expected whole numbers below 2**63")
        return value

    def one_of(self, key: str, names: Sequence[str]) -> str:
        """The text under `key`, which must be one of `names`."""
        value = self.text(key)
        if value not in names:
            raise self.error(key, f"expected {' or '.join(names)}, found {value!r}")
        return value

    def texts(self, key: str) -> dict[str, str]:
        """The object under `key`, whose values are text."""
        value = self._get(key)
        if not isinstance(value, dict) or any(not isinstance(x, str) for x in value.values()):
            raise self.error(key, "expected an object whose values are text")
        return value

    def unix_s(self, key: str) -> float:
        """Seconds since 1970 of the time under `key`, as `2026-01-01T00:00:00.000Z`."""
        value = self.text(key)
        try:
            return unix_seconds(value)
        except ValueError:
            reason = f"expected a time like 2026-01-01T00:00:00.000Z, found {value!r}"
            raise self.error(key, reason) from None


def unix_seconds(wall: str) -> float:
    """Seconds since 1970 of a time in ISO 8601 with its zone.

    Raises:
        ValueError: it is none.
    """
    time = datetime.fromisoformat(wall)
    if time.tzinfo is None:
        raise ValueError(f"{wall} has no time zone")
    return time.timestamp()


def served_lines(path: Path) -> Iterator[Line]:
    """The lines of a log, plain or gzip; blank ones are passed over.

    So are, with one `TraceWarning` that counts them, lines that were cut off: the last, if the
    router was killed while it wrote, and others where the disk was full or the router went on with
    the log of a run that was killed.

    Raises:
        TraceError: a line is not a JSON object or of another format; names file, line and key.
    """
    cut = []
    for number, text in enumerate(lines(path), start=1):
        if not (text := text.strip()):
            continue
        values = _object(path, number, text)
        if values is None:
            cut.append(number)
            continue
        line = Line(path, number, values)
        line.one_of("format", (FORMAT,))
        yield line
    if cut:
        count = f"line {cut[0]}" if len(cut) == 1 else f"{len(cut)} lines, from line {cut[0]} on"
        warnings.warn(f"{path}: passed over {count}, cut off", TraceWarning, stacklevel=2)


def _object(path: Path, number: int, text: str) -> dict[str, Any] | None:
    """The object that `text` is; None where it begins as one and stops before its end."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text) or error.msg.startswith("Unterminated string")
        if text.startswith("{") and (at_end or not text.endswith("}")):
            return None
        reason = f"not JSON: {error.msg} at character {error.colno}"
        raise TraceError(path, reason, line=number) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, for one
        raise TraceError(path, f"not to be read: {error}", line=number) from None
    if not isinstance(values, dict):
        raise TraceError(path, "expected a JSON object", line=number)
    return values


def read(path: Path, rate: float, seed: int) -> Workload:
    """Read one log; there is nothing random about it.

    The requests that were answered (finished, with status 200) are there in order of arrival. How
    long the others would have been is not known: they are left out, with one `TraceWarning` that
    counts them. Whatever has no output tokens has one: engines have no request without, and an
    embedding costs what a prompt and its first token cost.

    Raises:
        TraceError: a line is bad, or no request was answered.
    """
    rows = _answered(path, list(served_lines(path)))
    arrival_s = arrivals(
        np.array([row.unix_s("wall") for row in rows]),
        np.array([row.seconds("arrival_s") for row in rows]),
    )
    order = np.argsort(arrival_s, kind="stable")
    return assemble(path, arrival_s[order], **_columns([rows[k] for k in order]))


def _answered(path: Path, rows: Sequence[Line]) -> list[Line]:
    why = [_why_not(row) for row in rows]
    kept = [row for row, reason in zip(rows, why, strict=True) if not reason]
    if not kept:
        raise TraceError(path, "has no request that was answered")
    if len(kept) < len(rows):
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(filter(None, why)).items())
        message = f"{path}: left out {len(rows) - len(kept)} of {len(rows)} requests"
        message += f", which were not answered in full ({reasons})"
        warnings.warn(message, TraceWarning, stacklevel=3)
    return kept


def _why_not(row: Line) -> str:
    """Why a request was not answered; empty if it was."""
    outcome, status = row.one_of("outcome", OUTCOMES), row.whole_number("status", 0)
    if outcome != "finished":
        return outcome
    return "" if status == 200 else f"with status {status}"


def arrivals(wall_s: np.ndarray, arrival_s: np.ndarray) -> np.ndarray:
    """Times of arrival on one time line, where runs follow each other as they did.

    Within a run they differ by what `arrival_s` differs by; a run begins where the time of day of
    its first line says.

    Args:
        wall_s: (n,) time of day of each arrival in seconds since 1970, in the order of the log.
        arrival_s: (n,) seconds from the start of the run.

    Returns:
        float64 (n,): seconds from the start of the run of the first line.
    """
    began_s = wall_s - arrival_s
    first = np.abs(np.diff(began_s, prepend=-np.inf)) > SAME_RUN_S
    run_began_s = began_s[first][np.cumsum(first) - 1]
    return run_began_s - began_s[:1] + arrival_s


def _columns(rows: Sequence[Line]) -> dict[str, Any]:
    """What `assemble` takes besides the arrivals."""
    hashes = [row.block_ids("prefix_hashes") for row in rows]
    slo_class, slo_classes = encode(np.array([row.text("slo_class") for row in rows], object))
    model, models = encode(np.array([row.text("model") for row in rows], object))
    return {
        "prompt": _whole_numbers(rows, "prompt_tokens", 0),
        "output": np.maximum(1, _whole_numbers(rows, "output_tokens", 0)),
        "session": _whole_numbers(rows, "session", -1),
        "priority": _whole_numbers(rows, "priority", -(2**62)),
        "hashes": np.fromiter(chain.from_iterable(hashes), np.int64),
        "hash_offsets": offsets_of(np.array([len(row) for row in hashes])),
        "slo_class": slo_class,
        "slo_classes": slo_classes,
        "model": model,
        "models": models,
    }


def _whole_numbers(rows: Sequence[Line], key: str, minimum: int) -> np.ndarray:
    return np.array([row.whole_number(key, minimum) for row in rows], np.int64)
