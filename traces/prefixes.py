"""Prefix hashes in bulk: ragged rows of block identities, chaining, infinite-cache hits.

A ragged array is a pair: `values`, all rows end to end, and `offsets` of shape (rows + 1,), so that
row i is `values[offsets[i]:offsets[i + 1]]`.
"""

import numpy as np

from makespan.traces.workload import HASH_BLOCK_TOKENS, Workload


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """int64 (n + 1,): where each of n rows of the given `lengths` starts, and the total."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def positions(lengths: np.ndarray) -> np.ndarray:
    """int64: 0, 1, ... length - 1 for each row, end to end."""
    starts = offsets_of(lengths)[:-1]
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)


def take_rows(
    values: np.ndarray, offsets: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ragged array that holds `rows` (int indices) of another one, in that order."""
    lengths = np.diff(offsets)[rows]
    index = np.repeat(offsets[rows], lengths) + positions(lengths)
    return values[index], offsets_of(lengths)


def cut_rows(
    values: np.ndarray, offsets: np.ndarray, longest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ragged array with row i cut to at most `longest[i]` entries."""
    lengths = np.minimum(np.diff(offsets), longest)
    index = np.repeat(offsets[:-1], lengths) + positions(lengths)
    return values[index], offsets_of(lengths)


def chain(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Turn identities of blocks into identities of prefixes, exactly and without collisions.

    The result, int64 of the shape of `values`, is equal in two places exactly where the blocks up
    to and including that place are equal, which is what `Request.prefix_hashes` asks for.
    """
    lengths = np.diff(offsets)
    distinct, block = np.unique(values, return_inverse=True)
    chained = np.empty(len(values), np.int64)
    parent = np.zeros(len(lengths), np.int64)
    issued = 0
    for depth in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > depth)
        at = offsets[rows] + depth
        pair = parent[rows] * len(distinct) + block[at]
        new, identity = np.unique(pair, return_inverse=True)
        chained[at] = parent[rows] = issued + identity
        issued += len(new)
    return chained


def infinite_cache_hits(workload: Workload) -> np.ndarray:
    """int64 (n,): prompt tokens of each request that an endless cache would hold on its arrival.

    Counts full blocks of the prompt that an earlier request of the workload has as well, up to the
    first that none has. Earlier answers count as cached.
    """
    lengths = np.diff(workload.hash_offsets)
    if not len(workload.hashes):
        return np.zeros(len(workload), np.int64)
    _, first, identity = np.unique(workload.hashes, return_index=True, return_inverse=True)
    owner = np.repeat(np.arange(len(workload)), lengths)
    new = owner[first][identity] == owner
    in_prompt = np.minimum(lengths, workload.prompt_tokens // HASH_BLOCK_TOKENS)
    depth = np.where(new, positions(lengths), np.iinfo(np.int64).max)
    run = in_prompt.copy()
    filled = np.flatnonzero(lengths)
    first_new = np.minimum.reduceat(depth, workload.hash_offsets[:-1][filled])
    run[filled] = np.minimum(in_prompt[filled], first_new)
    return run * HASH_BLOCK_TOKENS
