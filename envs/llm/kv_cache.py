"""The KV block pool with prefix caching, as vLLM 0.32 has it.

Source: `vllm/v1/core/block_pool.py` (free list, hash map, eviction), `kv_cache_manager.py`
(`allocate_slots`) and `single_type_kv_cache_manager.py` (how many blocks an allocation needs).
Block 0 is vLLM's null block, never allocated; here it doubles as the sentinel of the free list.

The free list is in order of reuse. Blocks that are not in the prefix cache go back to its front,
last block of a request first; cached ones go to its end, last block first, so that the end of a
prefix is evicted before its beginning.
"""

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.hash_map import ABSENT, EMPTY, find, insert, remove

UNLISTED = EMPTY + 1
"""Hash of a cached block whose text no other request has: it stays out of the hash map until its
request is preempted and may ask for it again. It is freed and evicted like any cached block."""

POSITION_BITS = 21
"""Bits of a block's position in the key under which a preempted request finds such a block."""

TOKENS_PER_HASH = 16
"""Tokens per entry of a workload's prefix hashes (`makespan.traces.workload.HASH_BLOCK_TOKENS`)."""


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
    n = replica.kv_blocks
    for b in range(n):
        block = s.blocks[replica.block_start + b]
        block.hash = EMPTY
        block.references = 0
        block.twin = 0
        block.next = b + 1 if b + 1 < n else 0
        block.previous = b - 1 if b > 0 else n - 1
    replica.free_blocks = n - 1
    for i in range(replica.map_capacity):
        s.map[replica.map_start + i].key = EMPTY
    for i in range(replica.max_num_seqs):
        s.slots[replica.list_start + i] = i
    replica.free_slots = replica.max_num_seqs


@kernel
def unlink(s, r, b):
    """Take block `b` out of the free list."""
    replica = s.replicas[r]
    start = replica.block_start
    block = s.blocks[start + b]
    s.blocks[start + block.previous].next = block.next
    s.blocks[start + block.next].previous = block.previous
    replica.free_blocks -= 1


@kernel
def link_after(s, r, b, before):
    """Put block `b` into the free list behind block `before` (0: at the front)."""
    replica = s.replicas[r]
    start = replica.block_start
    after = s.blocks[start + before].next
    s.blocks[start + b].previous = before
    s.blocks[start + b].next = after
    s.blocks[start + before].next = b
    s.blocks[start + after].previous = b
    replica.free_blocks += 1


@kernel
def enter_cache(s, r, b, key):
    """Enter the full block `b` in the prefix cache; twins are kept in order of entry."""
    replica = s.replicas[r]
    start = replica.block_start
    s.blocks[start + b].hash = key
    s.blocks[start + b].twin = 0
    at = find(s.map, replica.map_start, replica.map_capacity, key)
    if at == ABSENT:
        insert(s.map, replica.map_start, replica.map_capacity, key, b)
        return
    twin = s.map[at].value
    while s.blocks[start + twin].twin != 0:
        twin = s.blocks[start + twin].twin
    s.blocks[start + twin].twin = b


@kernel
def leave_cache(s, r, b):
    """Evict block `b` from the prefix cache."""
    replica = s.replicas[r]
    start = replica.block_start
    block = s.blocks[start + b]
    at = find(s.map, replica.map_start, replica.map_capacity, block.hash)
    first = s.map[at].value
    if first == b and block.twin == 0:
        remove(s.map, replica.map_start, replica.map_capacity, at)
    elif first == b:
        s.map[at].value = block.twin
    else:
        while s.blocks[start + first].twin != b:
            first = s.blocks[start + first].twin
        s.blocks[start + first].twin = block.twin
    block.hash = EMPTY


@kernel
def take_blocks(s, r, q, count):
    """Give request `q` the next `count` free blocks, evicting what they cached."""
    replica = s.replicas[r]
    request = s.requests[q]
    row = replica.table_start + request.slot * replica.table_width
    for _ in range(count):
        b = s.blocks[replica.block_start].next
        unlink(s, r, b)
        block = s.blocks[replica.block_start + b]
        if block.hash == UNLISTED:
            block.hash = EMPTY
        elif block.hash != EMPTY:
            leave_cache(s, r, b)
        block.references = 1
        s.table[row + request.blocks] = b
        request.blocks += 1


@kernel
def cache_full_blocks(s, r, q, tokens):
    """Enter the blocks of `q` that its first `tokens` tokens fill, from where it left off."""
    replica = s.replicas[r]
    request = s.requests[q]
    row = replica.table_start + request.slot * replica.table_width
    while (request.hashed_blocks + 1) * replica.block_size <= tokens:
        b = s.table[row + request.hashed_blocks]
        key = block_hash(s, r, q, request.hashed_blocks)
        if key == UNLISTED:
            s.blocks[replica.block_start + b].hash = UNLISTED
        else:
            enter_cache(s, r, b, key)
        request.hashed_blocks += 1


@kernel
def list_blocks(s, r, q):
    """Enter the unlisted blocks of `q`, which is about to be preempted, in the hash map."""
    replica = s.replicas[r]
    row = replica.table_start + s.requests[q].slot * replica.table_width
    for position in range(s.requests[q].hashed_blocks):
        b = s.table[row + position]
        if s.blocks[replica.block_start + b].hash == UNLISTED:
            enter_cache(s, r, b, own_key(q, position))


@kernel
def cached_block(s, r, q, position):
    """The block that the prefix cache holds for block `position` of `q`, or ABSENT."""
    replica = s.replicas[r]
    key = block_hash(s, r, q, position)
    if key == UNLISTED:
        if s.requests[q].preemptions == 0:
            return ABSENT
        key = own_key(q, position)
    at = find(s.map, replica.map_start, replica.map_capacity, key)
    return ABSENT if at == ABSENT else s.map[at].value


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
    replica = s.replicas[r]
    request = s.requests[q]
    row = replica.table_start + request.slot * replica.table_width
    for position in range(hits):
        b = cached_block(s, r, q, position)
        block = s.blocks[replica.block_start + b]
        if block.references == 0:
            unlink(s, r, b)
        block.references += 1
        s.table[row + position] = b
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
    start = replica.block_start
    row = replica.table_start + request.slot * replica.table_width
    for i in range(request.blocks - 1, -1, -1):
        b = s.table[row + i]
        block = s.blocks[start + b]
        block.references -= 1
        if block.references == 0 and block.hash != EMPTY:
            link_after(s, r, b, s.blocks[start].previous)
    for i in range(request.blocks):
        b = s.table[row + i]
        block = s.blocks[start + b]
        if block.references == 0 and block.hash == EMPTY:
            link_after(s, r, b, 0)
    s.slots[replica.list_start + replica.free_slots] = request.slot
    replica.free_slots += 1
    request.slot = -1
    request.blocks = 0
    request.hashed_blocks = 0
