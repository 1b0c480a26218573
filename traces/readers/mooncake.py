"""Mooncake's traces (JSON Lines: timestamp in ms, input_length, output_length, hash_ids).

`hash_ids` name blocks of 512 prompt tokens, each id standing for the whole prefix up to its block
(kvcache-ai/Mooncake, FAST25-release/README.md). An id expands to the 32 engine blocks of 16 tokens
it consists of. The id of a last, partial block expands to the full engine blocks in it.
"""

from pathlib import Path

import numpy as np

from makespan.traces.prefixes import cut_rows, offsets_of
from makespan.traces.readers.assemble import assemble
from makespan.traces.readers.records import ordered_times, records
from makespan.traces.workload import HASH_BLOCK_TOKENS, Workload

BLOCK_TOKENS = 512
_PARTS = BLOCK_TOKENS // HASH_BLOCK_TOKENS


def read(path: Path, rate: float, seed: int) -> Workload:
    """Read one trace; there is nothing random about it."""
    rows = list(records(path))
    arrival_s = ordered_times(rows, "timestamp") / 1000
    prompt = np.array([row.whole_number("input_length", 0) for row in rows])
    output = np.array([row.whole_number("output_length", 0) for row in rows])
    ids = [row.block_ids("hash_ids") for row in rows]
    hashes, offsets = expand(ids, prompt)
    return assemble(path, arrival_s, prompt, output, hashes=hashes, hash_offsets=offsets)


def expand(ids: list[list[int]], prompt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the full 16-token blocks of each prompt: (hashes, offsets) as in `Workload`."""
    flat = np.array([block for row in ids for block in row], np.int64)
    parts = (flat[:, None] * _PARTS + np.arange(_PARTS)).ravel()
    offsets = offsets_of(np.array([len(row) for row in ids])) * _PARTS
    return cut_rows(parts, offsets, prompt // HASH_BLOCK_TOKENS)
