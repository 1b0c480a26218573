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
)
from makespan.envs.llm.state import NODE

KEYS = st.integers(-(2**62), 2**62) | st.integers(0, 40)
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


def test_capacity_is_a_power_of_two_at_half_load():
    assert capacity_for(1) == 16
    assert capacity_for(8) == 16
    assert capacity_for(9) == 32
    assert np.log2(capacity_for(31_251)).is_integer()
