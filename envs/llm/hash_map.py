"""A hash map from int64 keys to the records that bear them, as kernels over slices of flat arrays.

The map proper holds, in an int64 per entry, a record's position (lower half) and its tag, a 31-bit
hash of the key (upper half). The keys themselves stand in the records: these are looked at only
where a tag agrees, for a record that is not in the processor's cache costs more than all the rest.
Position 0 means an unused entry, so record 0 must not be in a map (it is the sentinel of a list in
every array that has one).

Open addressing with linear probing; a removal shifts later entries back, so that there are no
tombstones and a map that lives for a million requests stays as fast as a new one.

Every function takes the entries (a power of two, more than there are keys) and the records, all of
one map: slices where arrays hold several.
"""

import numpy as np

from makespan.envs.core.compiled import kernel

NO_KEY = np.int64(-(2**63))
"""The key of a record that is in no map."""

ABSENT = 0
"""What `find` answers for a key that is not there."""

UNUSED = 0
"""An unused entry."""

TAG_SHIFT = 32
POSITION_MASK = (1 << TAG_SHIFT) - 1

NEIGHBOURS = 3
"""Keys that differ in so many low bits only stand side by side: the blocks of one text are numbered
in a row by most generators and readers, and are looked up in a row."""


def capacity_for(keys: int) -> int:
    """The smallest power of two that holds `keys` at half load."""
    return 1 << max(4, (2 * keys - 1).bit_length())


@kernel
def tag_of(key):
    """31 bits: multiplicative hashing of the upper bits, folded, and the lowest bits as they are.

    The product stays below 2**61, so that compiled and plain Python arithmetic agree.
    """
    group = key >> NEIGHBOURS
    folded = (group ^ (group >> 31)) & 0x7FFFFFFF
    within = key & ((1 << NEIGHBOURS) - 1)
    return ((folded * 0x2545F491) >> 24 << NEIGHBOURS | within) & 0x7FFFFFFF


@kernel
def find(entries, records, key):
    """Position of the record that bears `key`, or ABSENT."""
    tag = tag_of(key)
    at = tag & (entries.size - 1)
    while entries[at] != UNUSED:
        if entries[at] >> TAG_SHIFT == tag:
            position = entries[at] & POSITION_MASK
            if records[position].key == key:
                return position
        at = (at + 1) & (entries.size - 1)
    return ABSENT


@kernel
def insert(entries, records, position):
    """Add the record at `position`, whose key must be absent."""
    tag = tag_of(records[position].key)
    at = tag & (entries.size - 1)
    while entries[at] != UNUSED:
        at = (at + 1) & (entries.size - 1)
    entries[at] = tag << TAG_SHIFT | position


@kernel
def entry_of(entries, records, position):
    """Which entry of the map holds the record at `position`, which must be there."""
    at = tag_of(records[position].key) & (entries.size - 1)
    while entries[at] & POSITION_MASK != position:
        at = (at + 1) & (entries.size - 1)
    return at


@kernel
def replace(entries, records, position, other):
    """Put the record at `other`, which bears the same key, in the place of that at `position`."""
    at = entry_of(entries, records, position)
    entries[at] += other - position


@kernel
def remove(entries, records, position):
    """Remove the record at `position`, which must be there, and close the gap behind it."""
    hole = entry_of(entries, records, position)
    at = hole
    while True:
        at = (at + 1) & (entries.size - 1)
        if entries[at] == UNUSED:
            break
        # An entry may move back only if its home is not between the hole and where it stands.
        home = entries[at] >> TAG_SHIFT
        if ((at - home) & (entries.size - 1)) >= ((at - hole) & (entries.size - 1)):
            entries[hole] = entries[at]
            hole = at
    entries[hole] = UNUSED
