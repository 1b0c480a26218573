"""`runs/<name>/`: what a run leaves behind, written so that no file is ever half there.

config.toml    the configuration; `--config` repeats the run from it
results.json   every metric of every policy with its interval; the same for the same seeds
log.parquet    what happened, row by row; the same for the same seeds
timing.json    what the wall clock says
report.html    plots
cells/         finished cells of a run that is under way or was interrupted
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from makespan.agents.whole_file import write_text, writing
from makespan.experiments.configuration import read_config, to_toml

FILES = ("config.toml", "results.json", "log.parquet", "timing.json", "report.html", "cells")


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cells = path / "cells"

    def open(self, config: Any, resume: bool) -> None:
        """Start a run here: clear what an older one left, or with `resume` keep its cells.

        Args:
            config: a dataclass that `makespan.experiments.configuration` can write and read.

        Raises:
            ValueError: the folder holds something else, or the cells of another configuration.
            OSError: it cannot be written to.
        """
        self._check_own()
        if resume and self._cells.exists() and self._config_of(type(config)) != config:
            raise ValueError(f"{self.path} holds a run of another configuration")
        for name in FILES:
            if not (resume and name == "cells"):
                remove(self.path / name)
        self.write_text("config.toml", to_toml(config))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        write_text(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` as JSON, whole or not at all."""
        self.write_text(name, to_json(value))

    def write_tables(self, name: str, tables: Iterable[Any]) -> None:
        """Write Arrow tables of the same columns as one parquet file, whole or not at all.

        Each is a row group.
        """
        with writing(self.path / name) as path:
            _write_parquet(path, tables)

    def keep(self, cell: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep what a finished cell left."""
        with writing(self._file(cell)) as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def keeps(self, cell: str) -> bool:
        """Whether the cell is finished and kept."""
        return self._file(cell).exists()

    def kept(self, cell: str) -> dict[str, np.ndarray]:
        """What the cell left."""
        with np.load(self._file(cell), allow_pickle=False) as arrays:
            return dict(arrays)

    def forget_cells(self) -> None:
        """Remove the cells: the log holds them all."""
        remove(self._cells)

    def _file(self, cell: str) -> Path:
        return self._cells / f"{cell}.npz"

    def _config_of(self, kind: type) -> Any:
        return read_config(kind, self.path / "config.toml")

    def _check_own(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder")
        if not self.path.exists() or (self.path / "config.toml").exists():
            return
        if any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run: choose another --name")


def _write_parquet(path: Path, tables: Iterable[Any]) -> None:
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    finally:
        if writer is not None:
            writer.close()


def to_json(value: Any) -> str:
    """JSON text, indented, keys in their order; nan becomes null."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"


def remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """`value` with tuples as lists, keys as text, and numbers that JSON lacks as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value
