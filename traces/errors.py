"""What goes wrong with trace files, said in one sentence that names the place."""

import difflib
from collections.abc import Iterable
from pathlib import Path

MOST_LISTED = 60
"""Names that an error message lists."""


class TraceError(ValueError):
    """A trace file cannot be read.

    Attributes:
        path: the file.
        line: line of the file, from 1; None where the trouble is the file as a whole.
        column: column or key; None where the trouble is the line as a whole.
    """

    def __init__(
        self, path: Path | str, reason: str, *, line: int | None = None, column: str | None = None
    ) -> None:
        self.path = Path(path)
        self.line = line
        self.column = column
        place = str(path) if line is None else f"{path}:{line}"
        within = "" if column is None else f" column {column}:"
        super().__init__(f"{place}:{within} {reason}")


class TraceWarning(UserWarning):
    """A trace was read, but some of its requests were left out; the message counts them."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among those known, with the nearest of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    listed = f" Known: {', '.join(known)}" if len(known) <= MOST_LISTED else ""
    return ValueError(f"unknown {kind} {name!r}.{hint}{listed}")
