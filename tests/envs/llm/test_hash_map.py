import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.envs.llm.hash_map import (
    ABSENT,
    UNUSED,
    capacity_for,
    find,
    insert,
    remove,
    replace,
    tag_of,
)
from makespan.envs.llm.state import NODE

SAME_TAG = (8, 2**34)
KEYS = st.integers(-(2**62), 2**62) | st.integers(0, 40) | st.sampled_from(SAME_TAG)
OPERATIONS = st.sampled_from(["add", "remove", "replace"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(OPERATIONS, KEYS), max_size=60))
def test_it_behaves_like_a_dict(operations):
    entries = np.zeros(capacity_for(60), np.int64)
    records = np.zeros(1 + len(operations), NODE).view(np.recarray)
    where = (entries, records)
    expected = {}
    for position, (operation, key) in enumerate(operations, start=1):
        records[position].key = key
        found = find(*where, key)
        assert found == expected.get(key, ABSENT)
        if operation == "add" and key not in expected:
            insert(*where, position)
            expected[key] = position
        elif operation == "remove" and key in expected:
            remove(*where, found)
            del expected[key]
        elif operation == "replace" and key in expected:
            replace(*where, found, position)
            expected[key] = position
    for key, position in expected.items():
        assert find(*where, key) == position
    assert (entries != UNUSED).sum() == len(expected)


def test_different_keys_with_the_same_tag_are_told_apart():
    assert len({tag_of(np.int64(key)) for key in SAME_TAG}) == 1
    entries, records = np.zeros(16, np.int64), np.zeros(3, NODE).view(np.recarray)
    records.key = (0, *SAME_TAG)
    insert(entries, records, 1)
    assert find(entries, records, SAME_TAG[1]) == ABSENT
    insert(entries, records, 2)
    assert [find(entries, records, key) for key in SAME_TAG] == [1, 2]


def test_capacity_is_a_power_of_two_at_half_load():
    assert capacity_for(1) == 16
    assert capacity_for(8) == 16
    assert capacity_for(9) == 32
    assert np.log2(capacity_for(31_251)).is_integer()
