"""`runs/<name>/` of a sweep.

config.toml    the sweep's file, as it was given
cells/         a line for every finished cell of a grid, written when it was finished
rows.jsonl     the same in the order of the grid; the same for the same file, whatever ran it
results.json   every policy by trace and load, best first, with intervals; or the trials of a tuning
tune/          what Ray Tune keeps of its trials
agent/         the best agent of a tuning
"""

from dataclasses import dataclass
from pathlib import Path

from makespan.agents.whole_file import write_text
from makespan.experiments.sweep.config import read

CONFIG, ROWS, RESULTS = "config.toml", "rows.jsonl", "results.json"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep."""

    path: Path

    def check(self, config: Path, resume: bool) -> None:
        """See that the sweep of the file `config` can begin here, or with `resume` go on.

        Raises:
            ValueError: there is a sweep already, or one of another file, or something else.
            OSError: it cannot be read.
        """
        own = self.path / CONFIG
        if own.exists():
            self._check_same(config, resume)
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no sweep: choose another --name")

    def open(self, config: Path) -> None:
        """Note what is run here.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.write_text(CONFIG, config.read_text(encoding="utf-8"))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        write_text(self.path / name, text)

    def _check_same(self, config: Path, resume: bool) -> None:
        if not resume:
            raise ValueError(
                f"{self.path} holds a sweep: --resume goes on with it, --name begins another"
            )
        if read(self.path / CONFIG) != read(config):
            raise ValueError(f"{self.path} holds a sweep with other settings than {config}")
