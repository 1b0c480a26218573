"""The log of the live router: one line of JSON for each request, when it has ended.

`makespan run --trace LOG` replays it (`makespan.traces.readers.served`) and `makespan serve report
LOG` compares the policies in it (`makespan.agents.serve.report`). It holds no text of requests, no
keys and no headers.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Self, cast

from makespan.agents.serve.status import Outcome
from makespan.traces.readers.served import FORMAT, OUTCOMES, Line, served_lines
from makespan.traces.readers.source import head

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request that has ended. All numbers are finite.

    Attributes:
        arrival_s: seconds from the start of the router to the arrival of the request.
        wall: time of day of the arrival, see `utc`.
        id: the router's name for the request.
        endpoint: path of the URL.
        model: that was asked for.
        prompt_tokens: length of the prompt, as the policy was told.
        output_tokens: that came back; 0 for embeddings.
        predicted_tokens: output tokens that the policy was told to expect; None if it was not.
        prefix_hashes: as in `makespan.traces.workload.Request`: Python ints in [0, 2**63).
        session: -1 for none.
        priority: lower is more urgent.
        slo_class: name of the service class.
        stream: whether the client asked for the answer token by token.
        backend: URL of the last one it was sent to; None if it was sent to none.
        policy: that chose.
        choice: its last choice, the URL of a backend or "hold"; None if it was not asked.
        shadow: what each shadow policy would have chosen then: a URL, "hold", or "error" if it
            failed.
        decision_s: time the policy took for its last choice.
        held_s: time the request was held in the router.
        attempts: how often it was sent.
        ttft_s: from arrival to the first token; None if none came or the answer came in one piece.
        e2e_s: from arrival to the end.
        status: HTTP status that the client was sent, or would have been.
        outcome: how it ended.
    """

    arrival_s: float
    wall: str
    id: str
    endpoint: str
    model: str
    prompt_tokens: int
    output_tokens: int
    predicted_tokens: float | None = None
    prefix_hashes: tuple[int, ...] = ()
    session: int = -1
    priority: int = 0
    slo_class: str = ""
    stream: bool = False
    backend: str | None = None
    policy: str
    choice: str | None = None
    shadow: Mapping[str, str] = field(default_factory=dict)
    decision_s: float = 0.0
    held_s: float = 0.0
    attempts: int = 0
    ttft_s: float | None = None
    e2e_s: float
    status: int
    outcome: Outcome

    @property
    def answered(self) -> bool:
        """Whether the client got the whole answer of a backend that had no complaint."""
        return self.outcome == "finished" and self.status == 200


_FIELDS = tuple(field.name for field in fields(Served))


def utc(unix_s: float) -> str:
    """`2026-01-01T00:00:00.000Z` for a time in seconds since 1970, as from `time.time()`."""
    time = datetime.fromtimestamp(unix_s, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json(served: Served) -> str:
    """One line of the log, in ASCII, without its line end.

    Raises:
        TypeError, ValueError: a value does not fit into JSON: a NumPy number, or one not finite.
    """
    values = {name: getattr(served, name) for name in _FIELDS}
    return json.dumps({"format": FORMAT} | values, separators=(",", ":"), allow_nan=False)


def read_log(path: Path | str) -> Iterator[Served]:
    """The requests in a log, plain or gzip, in the order in which they ended.

    Lines that were cut off are passed over with one `TraceWarning`; an empty file has no requests.

    Raises:
        TraceError: the file cannot be read (at once), or a line is bad (when it is reached); names
            file, line and key.
    """
    head(Path(path))
    return map(_served, served_lines(Path(path)))


def _served(line: Line) -> Served:
    return Served(
        arrival_s=line.seconds("arrival_s"),
        wall=_wall(line),
        id=line.text("id"),
        endpoint=line.text("endpoint"),
        model=line.text("model"),
        prompt_tokens=line.whole_number("prompt_tokens", 0),
        output_tokens=line.whole_number("output_tokens", 0),
        predicted_tokens=_seconds_or_none(line, "predicted_tokens"),
        prefix_hashes=tuple(line.block_ids("prefix_hashes")),
        session=line.whole_number("session", -1),
        priority=line.whole_number("priority", -(2**62)),
        slo_class=line.text("slo_class"),
        stream=line.boolean("stream"),
        backend=_text_or_none(line, "backend"),
        policy=line.text("policy"),
        choice=_text_or_none(line, "choice"),
        shadow=line.texts("shadow"),
        decision_s=line.seconds("decision_s"),
        held_s=line.seconds("held_s"),
        attempts=line.whole_number("attempts", 0),
        ttft_s=_seconds_or_none(line, "ttft_s"),
        e2e_s=line.seconds("e2e_s"),
        status=line.whole_number("status", 0),
        outcome=cast(Outcome, line.one_of("outcome", OUTCOMES)),
    )


def _wall(line: Line) -> str:
    line.unix_s("wall")
    return line.text("wall")


def _text_or_none(line: Line, key: str) -> str | None:
    return None if line.null(key) else line.text(key)


def _seconds_or_none(line: Line, key: str) -> float | None:
    return None if line.null(key) else line.seconds(key)


class Log:
    """A log that is open for more lines.

    Every line is handed to the operating system whole, in one call, so a router that is killed
    leaves at most its last line cut off. A log that ends so goes on in a new line.

    Writing never raises: what cannot be written (the disk is full) is lost and counted, and said
    once until `reopen`.

    Args:
        path: the file; made where there is none.

    Attributes:
        path: the file.
        lost: how many lines could not be written.

    Raises:
        ValueError: the file cannot be written; names it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.lost = 0
        self._said = False
        try:
            self._file, self._cut = _open(self.path)
        except OSError as error:
            raise ValueError(f"the log {path} cannot be written: {error.strerror}") from error

    def write(self, served: Served) -> None:
        """Add a line."""
        try:
            self._write(to_json(served).encode("ascii") + b"\n")
        except (OSError, TypeError, ValueError) as error:
            self._lose(error)

    def _write(self, line: bytes) -> None:
        text = b"\n" + line if self._cut else line
        self._cut = (self._file.write(text) or 0) < len(text)
        if self._cut:
            raise OSError("only a part of a line could be written")

    def _lose(self, error: Exception) -> None:
        self.lost += 1
        if not self._said:
            self._said = True
            log.error("the log %s loses requests, which are still served: %s", self.path, error)

    def reopen(self) -> None:
        """Open the path again, after another program has moved the file away (logrotate).

        If that fails it is said, and the old file goes on.
        """
        try:
            file, cut = _open(self.path)
        except OSError as error:
            log.error("the log %s cannot be opened again: %s", self.path, error.strerror)
            return
        self.close()
        self._file, self._cut, self._said = file, cut, False

    def close(self) -> None:
        """Close the file; what is written afterwards is lost and counted."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path) -> tuple[FileIO, bool]:
    """The file, to add to it without a buffer, and whether its last line was cut off."""
    cut = path.is_file() and not _ends_whole(path)
    return path.open("ab", buffering=0), cut


def _ends_whole(path: Path) -> bool:
    """Whether the file has nothing after its last line end."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) in (b"", b"\n")
