"""What goes wrong with trace files, said in one sentence that names the place."""

from pathlib import Path


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
