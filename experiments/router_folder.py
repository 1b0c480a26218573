"""The run folder of a comparison of router policies: its cells, and its log of requests."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from makespan.experiments.replay import Cell
from makespan.experiments.run_folder import RunFolder

SCALARS = ("replicas", "decisions", "decision_s", "wall_s")
"""Fields of a `Cell` that are single numbers."""


class RouterFolder(RunFolder):
    """The folder of one comparison; a cell is a policy and a seed."""

    def save(self, cell: Cell) -> None:
        """Keep a finished cell."""
        arrays = {f"log.{name}": column for name, column in cell.log.items()}
        arrays |= {f"timeline.{name}": column for name, column in cell.timeline.items()}
        arrays |= {name: np.array(getattr(cell, name)) for name in SCALARS}
        self.keep(_cell_name(cell.policy, cell.seed), arrays)

    def holds(self, policy: str, seed: int) -> bool:
        """Whether the cell of `policy` and `seed` is finished and kept."""
        return self.keeps(_cell_name(policy, seed))

    def load(self, policy: str, seed: int) -> Cell:
        """The kept cell of `policy` and `seed`."""
        arrays = self.kept(_cell_name(policy, seed))
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
        self.write_tables("log.parquet", (_table(self.load(*cell)) for cell in cells))


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


def _columns(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}


def _cell_name(policy: str, seed: int) -> str:
    return f"{policy}-{seed}"
