"""Readers of public trace formats: `read(path)` recognises the format by the file's content."""

import csv
import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from makespan.traces.errors import TraceError
from makespan.traces.readers import (
    azure,
    bailian,
    burstgpt,
    conversations,
    generic,
    mooncake,
    served,
    servegen,
    vidur,
)
from makespan.traces.readers.generic import write
from makespan.traces.readers.source import head, is_tar, lines
from makespan.traces.readers.table import wide_cells
from makespan.traces.workload import Workload

__all__ = ["READERS", "Reader", "read", "recognise", "write"]


@dataclass(frozen=True)
class Reader:
    """A trace format.

    Attributes:
        container: `csv`, `jsonl` or `folder`.
        keys: columns or keys by which the format is told from the others.
        read: path, request rate and seed to a workload; the last two matter only to formats that
            carry no arrival times.
    """

    container: str
    keys: tuple[str, ...]
    read: Callable[[Path, float, int], Workload]


READERS: dict[str, Reader] = {
    "azure": Reader("csv", ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), azure.read),
    "mooncake": Reader(
        "jsonl", ("timestamp", "input_length", "output_length", "hash_ids"), mooncake.read
    ),
    "burstgpt": Reader(
        "csv", ("Timestamp", "Model", "Request tokens", "Response tokens"), burstgpt.read
    ),
    "bailian": Reader(
        "jsonl",
        ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "hash_ids"),
        bailian.read,
    ),
    "servegen": Reader("folder", (servegen.TRACE, servegen.DATASET), servegen.read),
    "conversations": Reader(
        "csv", ("conversation", "turn", "user_tokens", "assistant_tokens"), conversations.read
    ),
    "vidur": Reader("csv", ("arrived_at", "num_prefill_tokens", "num_decode_tokens"), vidur.read),
    "vidur-lengths": Reader("csv", ("num_prefill_tokens", "num_decode_tokens"), vidur.read_lengths),
    "served": Reader("jsonl", served.KEYS, served.read),
    "generic": Reader("csv", ("arrival_s", "prompt_tokens", "output_tokens"), generic.read),
}
"""Every known format by name."""


def read(path: Path | str, *, rate: float = 1.0, seed: int = 0) -> Workload:
    """Read a trace of any known format, plain or gzip; arrival times are set to begin at 0.

    Args:
        path: a file or folder.
        rate: mean requests per second to give to traces that carry no arrival times.
        seed: for what has to be drawn: arrivals of length tables, ServeGen's clients.

    Raises:
        TraceError: the file cannot be read; the message names file, line and column.
    """
    path = Path(path)
    return READERS[recognise(path)].read(path, rate, seed)


def recognise(path: Path | str) -> str:
    """Name in `READERS` of the format of a file or folder, told from its content.

    Raises:
        TraceError: no such file, nothing in it, or no known format.
    """
    path = Path(path)
    if not path.exists():
        raise TraceError(path, "no such file")
    if path.is_dir() or is_tar(head(path)):
        return "servegen"
    first = _first_line(path)
    if first.lstrip().startswith("{"):
        return _match(path, "jsonl", _json_keys(path, first))
    with wide_cells():
        return _match(path, "csv", [cell.strip() for cell in next(csv.reader([first]))])


def _first_line(path: Path) -> str:
    if b"\0" in head(path):
        raise TraceError(path, f"is binary data. {_known()}", line=1)
    first = next((line for line in lines(path) if line.strip()), "")
    if not first:
        raise TraceError(path, "is empty")
    return first


def _json_keys(path: Path, line: str) -> list[str]:
    try:
        return list(json.loads(line))
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} at character {error.colno}"
        raise TraceError(path, reason, line=1) from None


def _match(path: Path, container: str, found: list[str]) -> str:
    """The format with the most keys, all of them found; else one error about the nearest."""
    known = {name: reader for name, reader in READERS.items() if reader.container == container}
    full = [name for name, reader in known.items() if set(reader.keys) <= set(found)]
    if full:
        return max(full, key=lambda name: len(known[name].keys))
    nearest = max(known, key=lambda name: len(set(known[name].keys) & set(found)))
    missing = [key for key in known[nearest].keys if key not in found]
    if len(missing) == len(known[nearest].keys):
        begins = ", ".join(found)[:60]
        raise TraceError(path, f"unknown format, begins {begins!r}. {_known()}", line=1)
    close = difflib.get_close_matches(missing[0], found, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    reason = f"is missing from this {nearest} trace; found {', '.join(found)}{hint}"
    raise TraceError(path, reason, line=1, column=missing[0])


def _known() -> str:
    formats = (f"{name} ({', '.join(reader.keys)})" for name, reader in READERS.items())
    return f"Known formats: {'; '.join(formats)}"
