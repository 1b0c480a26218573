"""The router's own idea of what each replica has cached: an index of bounded size.

A router does not see the engines' caches. Like llm-d's approximate prefix scorer (its indexer keeps
31,250 blocks a pod, least recently used first out), it remembers the hashes of the prompts it sent
to each replica. It counts in the workload's 16-token blocks whatever the engine's block size.
"""

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.hash_map import ABSENT, EMPTY, find, insert, remove
from makespan.envs.llm.kv_cache import TOKENS_PER_HASH


@kernel
def reset_index(s, r):
    """Forget everything about replica `r`."""
    replica = s.replicas[r]
    for i in range(replica.index_capacity):
        s.index[replica.index_start + i].key = EMPTY
    s.nodes[replica.node_start].next = 0
    s.nodes[replica.node_start].previous = 0
    replica.index_used = 0


@kernel
def prompt_hashes(s, q):
    """How many of the request's hashes lie wholly in its prompt."""
    return min(s.requests[q].hash_count, s.requests[q].prompt // TOKENS_PER_HASH)


@kernel
def matched_tokens(s, r, q):
    """Leading tokens of the prompt of `q` that the index expects on replica `r`."""
    replica = s.replicas[r]
    request = s.requests[q]
    matched = 0
    for i in range(prompt_hashes(s, q)):
        key = s.hashes[request.hash_start + i]
        if find(s.index, replica.index_start, replica.index_capacity, key) == ABSENT:
            break
        matched += TOKENS_PER_HASH
    return matched


@kernel
def unlink_node(s, r, node):
    """Take `node` out of the list of use."""
    start = s.replicas[r].node_start
    entry = s.nodes[start + node]
    s.nodes[start + entry.previous].next = entry.next
    s.nodes[start + entry.next].previous = entry.previous


@kernel
def link_newest(s, r, node):
    """Put `node` at the recent end of the list of use."""
    start = s.replicas[r].node_start
    newest = s.nodes[start].next
    s.nodes[start + node].next = newest
    s.nodes[start + node].previous = 0
    s.nodes[start + newest].previous = node
    s.nodes[start].next = node


@kernel
def node_for(s, r, key):
    """A node for the new `key`: a fresh one, or the one least recently used."""
    replica = s.replicas[r]
    if replica.index_used + 1 < replica.index_nodes:
        replica.index_used += 1
        node = replica.index_used
    else:
        node = s.nodes[replica.node_start].previous
        unlink_node(s, r, node)
        old = s.nodes[replica.node_start + node].key
        at = find(s.index, replica.index_start, replica.index_capacity, old)
        remove(s.index, replica.index_start, replica.index_capacity, at)
    s.nodes[replica.node_start + node].key = key
    insert(s.index, replica.index_start, replica.index_capacity, key, node)
    return node


@kernel
def remember_prompt(s, r, q):
    """Note that replica `r` will hold the prompt of `q`; its beginning counts as used last."""
    replica = s.replicas[r]
    request = s.requests[q]
    for i in range(prompt_hashes(s, q) - 1, -1, -1):
        key = s.hashes[request.hash_start + i]
        at = find(s.index, replica.index_start, replica.index_capacity, key)
        if at == ABSENT:
            node = node_for(s, r, key)
        else:
            node = s.index[at].value
            unlink_node(s, r, node)
        link_newest(s, r, node)


@kernel
def match_all(s, q):
    """Fill `s.matches` with the matched tokens of every replica."""
    for r in range(s.matches.size):
        s.matches[r] = matched_tokens(s, r, q)
