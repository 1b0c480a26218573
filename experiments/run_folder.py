"""`runs/<name>/`: what a run leaves behind, written so that no file is ever half there.

config.toml    the configuration; `--config` repeats the run from it
results.json   every metric of every policy with its interval; the same for the same seeds
log.parquet    one row per request, policy and seed; the same for the same seeds
timing.json    what the wall clock says: decision times, replay times
report.html    plots
cells/         finished cells of a run that is under way or was interrupted
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from makespan.agents.whole_file import write_text, writing
from makespan.experiments.replay import Cell
from makespan.experiments.run_config import RunConfig, from_toml, to_toml

FILES = ("config.toml", "results.json", "log.parquet", "timing.json", "report.html", "cells")

SCALARS = ("replicas", "decisions", "decision_s", "wall_s")
"""Fields of a `Cell` that are single numbers."""


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cells = path / "cells"

    def open(self, config: RunConfig, resume: bool) -> None:
        """Start a run here: clear what an older one left, or with `resume` keep its cells.

        Raises:
            ValueError: the folder holds something else, or the cells of another configuration.
            OSError: it cannot be written to.
        """
        self._check_own()
        if resume and self._cells.exists() and from_toml(self.path / "config.toml") != config:
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

    def save(self, cell: Cell) -> None:
        """Keep a finished cell."""
        scalars = {
            "decisions": cell.decisions,
            "decision_s": cell.decision_s,
            "wall_s": cell.wall_s,
        }
        arrays = {f"log.{name}": column for name, column in cell.log.items()}
        arrays |= {f"timeline.{name}": column for name, column in cell.timeline.items()}
        arrays |= {name: np.array(value) for name, value in scalars.items()}
        with (
            writing(self._cells / _cell_name(cell.policy, cell.seed)) as path,
            path.open("wb") as file,
        ):
            np.savez(file, allow_pickle=False, replicas=np.array(cell.replicas), **arrays)

    def holds(self, policy: str, seed: int) -> bool:
        """Whether the cell of `policy` and `seed` is finished and kept."""
        return (self._cells / _cell_name(policy, seed)).exists()

    def load(self, policy: str, seed: int) -> Cell:
        """The kept cell of `policy` and `seed`."""
        with np.load(self._cells / _cell_name(policy, seed), allow_pickle=False) as arrays:
            return Cell(
                policy=policy,
                seed=seed,
                log=_columns(arrays, "log."),
                timeline=_columns(arrays, "timeline."),
                **{name: arrays[name].item() for name in SCALARS},
            )

    def write_log(self, cells: Iterable[tuple[str, int]]) -> None:
        """Write the kept cells, given as policy and seed, as `log.parquet`, whole or not at all.

        One row group per cell: policy, seed, request, then the log's columns, `status` spelled out.
        """
        with writing(self.path / "log.parquet") as path:
            _write_parquet(path, (_table(self.load(*cell)) for cell in cells))

    def forget_cells(self) -> None:
        """Remove the cells: the log holds them all."""
        remove(self._cells)

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


def _table(cell: Cell) -> Any:
    import pyarrow as pa

    from makespan.envs.llm.fleet import STATUS

    rows = len(cell.log["status"])
    names = pa.dictionary(pa.int8(), pa.string())
    policy = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), [cell.policy])
    status = pa.DictionaryArray.from_arrays(
        pa.array(cell.log["status"].astype(np.int8)), list(STATUS)
    )
    columns = {
        "policy": policy.cast(names),
        "seed": np.full(rows, cell.seed, np.int64),
        "request": np.arange(rows),
        **cell.log,
        "status": status.cast(names),
    }
    return pa.table(columns)


def _columns(arrays: Any, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}


def _cell_name(policy: str, seed: int) -> str:
    return f"{policy}-{seed}.npz"
