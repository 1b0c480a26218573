import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.envs.llm.hash_map import (
    ABSENT,
    EMPTY,
    capacity_for,
    find,
    insert,
    new_entries,
    remove,
)

KEYS = st.integers(-(2**62), 2**62) | st.integers(0, 40)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=60))
def test_it_behaves_like_a_dict(operations):
    capacity = capacity_for(60)
    entries = new_entries(capacity + 7)  # the map need not start at 0
    expected = {}
    for step, (adding, key) in enumerate(operations):
        at = find(entries, 7, capacity, key)
        assert (at != ABSENT) == (key in expected)
        if adding and key not in expected:
            insert(entries, 7, capacity, key, step)
            expected[key] = step
        elif not adding and key in expected:
            remove(entries, 7, capacity, at)
            del expected[key]
    for key, value in expected.items():
        assert entries[find(entries, 7, capacity, key)].value == value
    assert (entries.key != EMPTY).sum() == len(expected)


def test_capacity_is_a_power_of_two_at_half_load():
    assert capacity_for(1) == 16
    assert capacity_for(8) == 16
    assert capacity_for(9) == 32
    assert np.log2(capacity_for(31_251)).is_integer()
