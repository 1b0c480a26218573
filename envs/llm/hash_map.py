"""A hash map from int64 keys to int64 values, as kernels over a slice of a flat array.

Open addressing with linear probing; a removal shifts later entries back, so that there are no
tombstones and a map that lives for a million requests stays as fast as a new one.

Every function takes the array of entries, the offset at which this map starts, and its capacity (a
power of two, more than the number of keys).
"""

import numpy as np

from makespan.envs.core.compiled import kernel

EMPTY = np.int64(-(2**63))
"""The key of an unused entry."""

ABSENT = -1
"""What `find` answers for a key that is not there."""

ENTRY = np.dtype([("key", np.int64), ("value", np.int64)], align=True)


def capacity_for(keys: int) -> int:
    """The smallest power of two that holds `keys` at half load."""
    return 1 << max(4, (2 * keys - 1).bit_length())


def new_entries(size: int) -> np.recarray:
    """`size` empty entries."""
    entries = np.zeros(size, ENTRY).view(np.recarray)
    entries.key[:] = EMPTY
    return entries


@kernel
def home(key, capacity):
    """Where `key` would stand in an empty map: multiplicative hashing of its folded bits.

    The product stays below 2**61, so that compiled and plain Python arithmetic agree.
    """
    folded = (key ^ (key >> 31)) & 0x7FFFFFFF
    return ((folded * 0x2545F491) >> 24) & (capacity - 1)


@kernel
def find(entries, start, capacity, key):
    """Position of `key` in `entries`, or ABSENT."""
    at = home(key, capacity)
    while True:
        found = entries[start + at].key
        if found == key:
            return start + at
        if found == EMPTY:
            return ABSENT
        at = (at + 1) & (capacity - 1)


@kernel
def insert(entries, start, capacity, key, value):
    """Add `key`, which must be absent."""
    at = home(key, capacity)
    while entries[start + at].key != EMPTY:
        at = (at + 1) & (capacity - 1)
    entries[start + at].key = key
    entries[start + at].value = value


@kernel
def remove(entries, start, capacity, position):
    """Remove the entry at `position`, which `find` gave, and close the gap behind it."""
    hole = position - start
    at = hole
    while True:
        at = (at + 1) & (capacity - 1)
        key = entries[start + at].key
        if key == EMPTY:
            break
        # An entry may move back only if its home is not between the hole and where it stands.
        if ((at - home(key, capacity)) & (capacity - 1)) >= ((at - hole) & (capacity - 1)):
            entries[start + hole].key = key
            entries[start + hole].value = entries[start + at].value
            hole = at
    entries[start + hole].key = EMPTY
