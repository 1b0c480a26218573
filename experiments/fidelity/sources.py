"""What checks need that does not come with the project."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from makespan.experiments.fidelity.row import Missing, Row


@dataclass(frozen=True)
class Sources:
    """What there is to compare with on this machine.

    Attributes:
        data: folder with recorded runs, kernel tables and public traces; None: there is none.
        vllm: environment that has the real vLLM; None: there is none.
    """

    data: Path | None = None
    vllm: Path | None = None

    def lacks(self, *names: str) -> str:
        """Why there are no files of these names in `data`; empty if all of them are there."""
        if self.data is None:
            return "no folder of recorded runs and traces: give --data"
        absent = [name for name in names if not (self.data / name).exists()]
        return f"{', '.join(absent)} not in {self.data}" if absent else ""


Check = Callable[[Sources], Iterator[Row | Missing]]
"""Makes rows one by one, or one `Missing` that says what it lacks."""
