"""Ragged rows, chaining and infinite-cache hits, each against the obvious slow way."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from makespan.traces import Request, Workload
from makespan.traces.prefixes import chain, cut_rows, infinite_cache_hits, offsets_of, take_rows

rows = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=8)


def ragged(lists):
    flat = np.array([x for row in lists for x in row], np.int64)
    return flat, offsets_of(np.array([len(row) for row in lists], np.int64))


def as_lists(flat, offsets):
    return [flat[a:b].tolist() for a, b in pairwise(offsets)]


@given(rows, st.data())
def test_take_and_cut(lists, data):
    flat, offsets = ragged(lists)
    index = data.draw(
        st.lists(st.integers(0, len(lists) - 1), max_size=6) if lists else st.just([])
    )
    taken = take_rows(flat, offsets, np.array(index, np.int64))
    assert as_lists(*taken) == [lists[i] for i in index]
    longest = np.array([data.draw(st.integers(0, 6)) for _ in lists], np.int64)
    cut = cut_rows(flat, offsets, longest)
    assert as_lists(*cut) == [row[:n] for row, n in zip(lists, longest, strict=True)]


@given(rows)
def test_chained_identities_agree_exactly_where_prefixes_do(lists):
    flat, offsets = ragged(lists)
    names = {}
    for row, chained in zip(lists, as_lists(chain(flat, offsets), offsets), strict=True):
        for depth, identity in enumerate(chained):
            assert names.setdefault(identity, row[: depth + 1]) == row[: depth + 1]
    assert len(names) == len({tuple(row[: k + 1]) for row in lists for k in range(len(row))})


@given(rows, st.lists(st.integers(1, 90), min_size=8, max_size=8))
def test_infinite_cache_hits(lists, prompts):
    flat, offsets = ragged(lists)
    hashes = as_lists(chain(flat, offsets), offsets)
    requests = [Request(i, prompts[i], 1, tuple(row)) for i, row in enumerate(hashes)]
    expected, seen = [], set()
    for request in requests:
        run = 0
        full = request.prefix_hashes[: request.prompt_tokens // 16]
        while run < len(full) and full[run] in seen:
            run += 1
        expected.append(16 * run)
        seen |= set(request.prefix_hashes)
    assert infinite_cache_hits(Workload.from_requests(requests)).tolist() == expected
