"""The last step of every reader: columns to a `Workload`, without what cannot be run."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from makespan.traces.errors import TraceError, TraceWarning
from makespan.traces.prefixes import take_rows
from makespan.traces.workload import Workload


def assemble(
    path: Path, arrival_s: np.ndarray, prompt: np.ndarray, output: np.ndarray, **columns: Any
) -> Workload:
    """Make the workload, its clock set to 0 at the first arrival.

    Requests without a prompt or without an answer are left out with one `TraceWarning` that counts
    them: in public traces such a row is a request that failed (BurstGPT's README says so).

    Args:
        path: the file; names the workload.
        arrival_s: (n,) seconds from any origin, not decreasing.
        prompt: (n,) tokens, >= 0.
        output: (n,) tokens, >= 0.
        columns: further columns of `Workload`, ragged hashes as `hashes` and `hash_offsets`.

    Raises:
        TraceError: no request is left.
    """
    keep = (prompt > 0) & (output > 0)
    if not keep.any():
        raise TraceError(path, "has no request with both a prompt and an answer")
    if not keep.all():
        columns = _select(columns, np.flatnonzero(keep))
        _warn(path, keep)
    arrival_s = arrival_s[keep] - arrival_s[keep][0]
    return Workload(arrival_s, prompt[keep], output[keep], name=_name(path), **columns)


def _select(columns: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    chosen = dict(columns)
    if "hashes" in columns:
        hashes, offsets = take_rows(columns["hashes"], columns["hash_offsets"], rows)
        chosen |= {"hashes": hashes, "hash_offsets": offsets}
    for name in ("session", "priority", "slo_class", "model"):
        if name in columns:
            chosen[name] = columns[name][rows]
    return chosen


def _warn(path: Path, keep: np.ndarray) -> None:
    message = f"{path}: left out {np.count_nonzero(~keep)} of {len(keep)} requests"
    warnings.warn(f"{message}, which have no prompt or no answer", TraceWarning, stacklevel=3)


def _name(path: Path) -> str:
    """`trace` for `folder/trace.csv.gz`."""
    return path.name.split(".")[0] or path.name


def encode(names: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Names as indices, int64 (n,), into the names in order of first appearance."""
    distinct, first, code = np.unique(names.astype(str), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[code.ravel()], tuple(distinct[order].tolist())
