"""The KV block pool with prefix caching, as vLLM 0.32 has it.

Source: `vllm/v1/core/block_pool.py` (free list, hash map, eviction), `kv_cache_manager.py`
(`allocate_slots`) and `single_type_kv_cache_manager.py` (how many blocks an allocation needs).
Block 0 is vLLM's null block, never allocated; here it doubles as the sentinel of the free list.

The free list is in order of reuse. Blocks that are not in the prefix cache go back to its front,
last block of a request first; cached ones go to its end, last block first, so that the end of a
prefix is evicted before its beginning.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.hash_map import ABSENT, NO_KEY, UNUSED, find, insert, remove, replace

UNLISTED = NO_KEY + 1
"""Hash of a cached block whose text no other request has: it stays out of the hash map until its
request is preempted and may ask for it again. It is freed and evicted like any cached block."""

POSITION_BITS = 21
"""Bits of a block's position in the key under which a preempted request finds such a block."""

TOKENS_PER_HASH = 16
"""Tokens per entry of a workload's prefix hashes (`makespan.traces.workload.HASH_BLOCK_TOKENS`)."""


@kernel
def blocks_of(s, r):
    """The blocks of replica `r`."""
    replica = s.replicas[r]
    return s.blocks[replica.block_start : replica.block_start + replica.kv_blocks]


@kernel
def entries_of(s, r):
    """The hash map of the prefix cache of replica `r`."""
    replica = s.replicas[r]
    return s.map[replica.map_start : replica.map_start + replica.map_capacity]


@kernel
def table_of(s, r, q):
    """The row of the block table that belongs to request `q`."""
    replica = s.replicas[r]
    start = replica.table_start + s.requests[q].slot * replica.table_width
    return s.table[start : start + replica.table_width]


@kernel
def block_hash(s, r, q, position):
    """Hash of block `position` of request `q`; chained, so it stands for the whole prefix."""
    request = s.requests[q]
    # An engine block may span several hashed blocks; the last of them identifies it.
    last = (position + 1) * (s.replicas[r].block_size // TOKENS_PER_HASH) - 1
    if last < request.hash_count:
        return s.hashes[request.hash_start + last]
    return UNLISTED


@kernel
def own_key(q, position):
    """Key of an unlisted block of request `q` while it is preempted: negative, unlike any hash."""
    return -((q << POSITION_BITS) + position) - 1


@kernel
def reset_pool(s, r):
    """Free every block and slot of replica `r` and forget its prefix cache."""
    replica = s.replicas[r]
    blocks = blocks_of(s, r)
    for b in range(blocks.size):
        blocks[b].key = NO_KEY
        blocks[b].references = 0
        blocks[b].twin = ABSENT
        blocks[b].next = (b + 1) % blocks.size
        blocks[b].previous = (b - 1) % blocks.size
    replica.free_blocks = blocks.size - 1
    entries_of(s, r)[:] = UNUSED
    for i in range(replica.max_num_seqs):
        s.slots[replica.list_start + i] = i
    replica.free_slots = replica.max_num_seqs


@kernel
def unlink(blocks, b):
    """Take block `b` out of the free list."""
    before, after = blocks[b].previous, blocks[b].next
    blocks[before].next = after
    blocks[after].previous = before


@kernel
def link_after(blocks, b, before):
    """Put block `b` into the free list behind block `before` (0: at the front)."""
    after = blocks[before].next
    blocks[b].previous = before
    blocks[b].next = after
    blocks[before].next = b
    blocks[after].previous = b


@kernel
def enter_cache(entries, blocks, b, key):
    """Enter the full block `b` in the prefix cache; twins are kept in order of entry."""
    twin = find(entries, blocks, key)
    blocks[b].key = key
    blocks[b].twin = ABSENT
    if twin == ABSENT:
        insert(entries, blocks, b)
        return
    while blocks[twin].twin != ABSENT:
        twin = blocks[twin].twin
    blocks[twin].twin = b


@kernel
def leave_cache(entries, blocks, b):
    """Evict block `b` from the prefix cache."""
    first = find(entries, blocks, blocks[b].key)
    twin = blocks[b].twin
    if first == b and twin == ABSENT:
        remove(entries, blocks, b)
    elif first == b:
        replace(entries, blocks, b, twin)
    else:
        while blocks[first].twin != b:
            first = blocks[first].twin
        blocks[first].twin = twin
    blocks[b].key = NO_KEY


@kernel
def take_blocks(s, r, q, count):
    """Give request `q` the next `count` free blocks, evicting what they cached."""
    request = s.requests[q]
    blocks, entries, row = blocks_of(s, r), entries_of(s, r), table_of(s, r, q)
    for _ in range(count):
        b = np.int64(blocks[0].next)
        unlink(blocks, b)
        if blocks[b].key == UNLISTED:
            blocks[b].key = NO_KEY
        elif blocks[b].key != NO_KEY:
            leave_cache(entries, blocks, b)
        blocks[b].references = 1
        row[request.blocks] = b
        request.blocks += 1
    s.replicas[r].free_blocks -= count


@kernel
def cache_full_blocks(s, r, q, tokens):
    """Enter the blocks of `q` that its first `tokens` tokens fill, from where it left off."""
    request = s.requests[q]
    blocks, entries, row = blocks_of(s, r), entries_of(s, r), table_of(s, r, q)
    for position in range(request.hashed_blocks, tokens // s.replicas[r].block_size):
        b = row[position]
        key = block_hash(s, r, q, position)
        if key == UNLISTED:
            blocks[b].key = UNLISTED
        else:
            enter_cache(entries, blocks, b, key)
        request.hashed_blocks += 1


@kernel
def list_blocks(s, r, q):
    """Enter the unlisted blocks of `q`, which is about to be preempted, in the hash map."""
    blocks, entries, row = blocks_of(s, r), entries_of(s, r), table_of(s, r, q)
    for position in range(s.requests[q].hashed_blocks):
        b = row[position]
        if blocks[b].key == UNLISTED:
            enter_cache(entries, blocks, b, own_key(q, position))


@kernel
def cached_block(s, r, q, position):
    """The block that the prefix cache holds for block `position` of `q`, or ABSENT."""
    key = block_hash(s, r, q, position)
    if key == UNLISTED:
        if s.requests[q].preemptions == 0:
            return ABSENT
        key = own_key(q, position)
    return np.int64(find(entries_of(s, r), blocks_of(s, r), key))


@kernel
def cached_prefix(s, r, q):
    """How many leading blocks of `q` are cached, and how many of these nobody holds.

    The last token is always computed anew, so a fully cached request still gets its output.
    """
    replica = s.replicas[r]
    request = s.requests[q]
    hits = 0
    unheld = 0
    if replica.caching == 0:
        return hits, unheld
    limit = (request.prompt + request.generated - 1) // replica.block_size
    while hits < limit:
        b = cached_block(s, r, q, hits)
        if b == ABSENT:
            break
        unheld += s.blocks[replica.block_start + b].references == 0
        hits += 1
    return hits, unheld


@kernel
def adopt_prefix(s, r, q, hits):
    """Let `q` share its first `hits` blocks, which are cached."""
    request = s.requests[q]
    blocks, row = blocks_of(s, r), table_of(s, r, q)
    for position in range(hits):
        b = cached_block(s, r, q, position)
        if blocks[b].references == 0:
            unlink(blocks, b)
            s.replicas[r].free_blocks -= 1
        blocks[b].references += 1
        row[position] = b
    request.blocks = hits
    request.hashed_blocks = hits


@kernel
def blocks_for(tokens, block_size):
    """Blocks that hold `tokens` tokens."""
    return (tokens + block_size - 1) // block_size


@kernel
def grow(s, r, q, tokens):
    """Give `q` the blocks for its first `tokens` tokens; False if there are not enough."""
    replica = s.replicas[r]
    needed = blocks_for(tokens, replica.block_size) - s.requests[q].blocks
    if needed > replica.free_blocks:
        return False
    if needed > 0:
        take_blocks(s, r, q, needed)
    if replica.caching:
        cache_full_blocks(s, r, q, tokens)
    return True


@kernel
def release(s, r, q):
    """Give back what `q` holds."""
    replica = s.replicas[r]
    request = s.requests[q]
    blocks, row = blocks_of(s, r), table_of(s, r, q)
    for i in range(request.blocks - 1, -1, -1):
        b = row[i]
        blocks[b].references -= 1
        if blocks[b].references == 0:
            replica.free_blocks += 1
            if blocks[b].key != NO_KEY:
                link_after(blocks, b, blocks[0].previous)
    for i in range(request.blocks):
        b = row[i]
        if blocks[b].references == 0 and blocks[b].key == NO_KEY:
            link_after(blocks, b, 0)
    s.slots[replica.list_start + replica.free_slots] = request.slot
    replica.free_slots += 1
    request.slot = -1
    request.blocks = 0
    request.hashed_blocks = 0
