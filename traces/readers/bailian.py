"""Qwen-Bailian usage traces (JSON Lines: chat_id, parent_chat_id, timestamp, input_length, ...).

`hash_ids` name blocks of 16 prompt tokens. The README (alibaba-edu/qwen-bailian-usagetraces-anon)
says that a block's own tokens are hashed, not the prefix, so the ids are chained here. Answers are
not hashed in the trace. Time stamps are seconds.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from makespan.traces.prefixes import chain, cut_rows, offsets_of
from makespan.traces.readers.assemble import assemble, encode
from makespan.traces.readers.records import Record, ordered_times, records
from makespan.traces.workload import HASH_BLOCK_TOKENS, Workload


def read(path: Path, rate: float, seed: int) -> Workload:
    """Read one trace; the request type (text, search, ...) becomes the SLO class."""
    rows = list(records(path))
    prompt = np.array([row.whole_number("input_length", 0) for row in rows])
    output = np.array([row.whole_number("output_length", 0) for row in rows])
    slo_class, slo_classes = encode(np.array([row.text("type") for row in rows], dtype=object))
    hashes, offsets = _hashes(rows, prompt)
    return assemble(
        path,
        ordered_times(rows, "timestamp"),
        prompt,
        output,
        hashes=hashes,
        hash_offsets=offsets,
        session=_sessions(rows),
        slo_class=slo_class,
        slo_classes=slo_classes,
    )


def _sessions(rows: Sequence[Record]) -> np.ndarray:
    """The first chat of each request's chain of parents, as far as the trace holds the chain."""
    root: dict[int, int] = {}
    for row in rows:
        chat, parent = row.whole_number("chat_id", 0), row.whole_number("parent_chat_id", -1)
        root[chat] = chat if parent == -1 else root.get(parent, parent)
    return np.array([root[row.whole_number("chat_id", 0)] for row in rows], np.int64)


def _hashes(rows: Sequence[Record], prompt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids = [row.block_ids("hash_ids") for row in rows]
    flat = np.array([block for row in ids for block in row], np.int64)
    offsets = offsets_of(np.array([len(row) for row in ids]))
    flat, offsets = cut_rows(flat, offsets, prompt // HASH_BLOCK_TOKENS)
    return chain(flat, offsets), offsets
