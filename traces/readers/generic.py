"""The package's own CSV: arrival_s, prompt_tokens, output_tokens, and what else there is.

Optional columns: session, priority, slo_class, model and prefix_hashes (numbers parted by spaces).
"""

import csv
import gzip
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from makespan.traces.prefixes import offsets_of
from makespan.traces.readers.assemble import assemble, encode
from makespan.traces.readers.table import (
    Column,
    check_order,
    read_table,
    seconds,
    whole_numbers,
    words,
)
from makespan.traces.workload import Workload


def _hash_cells(cells: Sequence[str]) -> np.ndarray:
    split = [cell.split() for cell in cells]
    flat = np.array(list(chain.from_iterable(split)), dtype=np.int64)
    if flat.min(initial=0) < 0:
        raise ValueError
    rows, stop = np.empty(len(cells), dtype=object), 0
    for index, row in enumerate(split):
        start, stop = stop, stop + len(row)
        rows[index] = flat[start:stop]
    return rows


COLUMNS = (
    seconds("arrival_s"),
    whole_numbers("prompt_tokens", 1),
    whole_numbers("output_tokens", 1),
    whole_numbers("session", -1, default="-1"),
    whole_numbers("priority", -(2**62), default="0"),
    words("slo_class", default=""),
    words("model", default=""),
    Column("prefix_hashes", _hash_cells, "whole numbers >= 0 parted by spaces", default=""),
)


def read(path: Path, rate: float, seed: int) -> Workload:
    """Read a workload that `write` wrote or a person made; there is nothing random about it."""
    table = read_table(path, COLUMNS)
    check_order(path, "arrival_s", table["arrival_s"])
    slo_class, slo_classes = encode(table["slo_class"])
    model, models = encode(table["model"])
    hashes = table["prefix_hashes"]
    return assemble(
        path,
        table["arrival_s"],
        table["prompt_tokens"],
        table["output_tokens"],
        session=table["session"],
        priority=table["priority"],
        slo_class=slo_class,
        slo_classes=slo_classes,
        model=model,
        models=models,
        hashes=np.concatenate(hashes),
        hash_offsets=offsets_of(np.array([len(row) for row in hashes])),
    )


def write(workload: Workload, path: Path | str) -> None:
    """Write `workload` as CSV, gzip where `path` ends in `.gz`; `read` gives it back.

    Columns in which every request has the default are left out. The file appears whole or not at
    all.
    """
    cells = _cells(workload)
    with _replacing(Path(path)) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))


def _cells(workload: Workload) -> dict[str, Sequence[object]]:
    cells: dict[str, Sequence[object]] = {
        name: getattr(workload, name).tolist()
        for name in ("arrival_s", "prompt_tokens", "output_tokens")
    }
    if (workload.session != -1).any():
        cells["session"] = workload.session.tolist()
    if workload.priority.any():
        cells["priority"] = workload.priority.tolist()
    if any(workload.slo_classes):
        cells["slo_class"] = [workload.slo_classes[code] for code in workload.slo_class]
    if any(workload.models):
        cells["model"] = [workload.models[code] for code in workload.model]
    if len(workload.hashes):
        rows = (workload.prefix_hashes(index).tolist() for index in range(len(workload)))
        cells["prefix_hashes"] = [" ".join(map(str, row)) for row in rows]
    return cells


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A text file beside `path` that takes its place when all went well."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as raw:
            if path.suffix == ".gz":
                # A fixed time stamp: the same workload gives the same bytes.
                with gzip.GzipFile(
                    filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6
                ) as packed:
                    yield from _text(packed)
            else:
                yield from _text(raw)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _text(raw: io.BufferedWriter | gzip.GzipFile) -> Iterator[TextIO]:
    with io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        yield file
