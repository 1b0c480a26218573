"""The router's own idea of what each replica has cached: an index of bounded size.

A router does not see the engines' caches. Like llm-d's approximate prefix scorer (its indexer keeps
31,250 blocks a pod, least recently used first out), it remembers the hashes of the prompts it sent
to each replica. It counts in the workload's 16-token blocks whatever the engine's block size.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.hash_map import ABSENT, NO_KEY, UNUSED, find, insert, remove
from makespan.envs.llm.kv_cache import TOKENS_PER_HASH


@kernel
def index_of(s, r):
    """The index of replica `r`: its hash map, and its nodes."""
    replica = s.replicas[r]
    entries = s.index[replica.index_start : replica.index_start + replica.index_capacity]
    return entries, s.nodes[replica.node_start : replica.node_start + replica.index_nodes]


@kernel
def prompt_of(s, q):
    """The hashes of the request that lie wholly in its prompt."""
    request = s.requests[q]
    count = min(request.hash_count, request.prompt // TOKENS_PER_HASH)
    return s.hashes[request.hash_start : request.hash_start + count]


@kernel
def reset_index(s, r):
    """Forget everything about replica `r`."""
    entries, nodes = index_of(s, r)
    entries[:] = UNUSED
    nodes[0].key = NO_KEY
    nodes[0].next = 0
    nodes[0].previous = 0
    s.replicas[r].index_used = 0


@kernel
def matched_tokens(s, r, q):
    """Leading tokens of the prompt of `q` that the index expects on replica `r`.

    The blocks of a prompt are neighbours in the list of use from when they were last sent, so most
    are found by a step along the list.
    """
    entries, nodes = index_of(s, r)
    prompt = prompt_of(s, q)
    node = 0
    for i in range(prompt.size):
        node = nodes[node].next
        if nodes[node].key != prompt[i]:
            node = find(entries, nodes, prompt[i])
        if node == ABSENT:
            return i * TOKENS_PER_HASH
    return prompt.size * TOKENS_PER_HASH


@kernel
def unlink_nodes(nodes, first, last):
    """Take the nodes from `first` to `last`, neighbours, out of the list of use."""
    before = nodes[first].previous
    after = nodes[last].next
    nodes[before].next = after
    nodes[after].previous = before


@kernel
def link_nodes(nodes, first, last, before):
    """Put the nodes from `first` to `last`, neighbours, into the list of use behind `before`."""
    after = nodes[before].next
    nodes[before].next = first
    nodes[first].previous = before
    nodes[last].next = after
    nodes[after].previous = last


@kernel
def new_node(entries, nodes, replica, key):
    """A node for the new `key`, not in the list: a fresh one, or the one least recently used."""
    if replica.index_used + 1 < nodes.size:
        replica.index_used += 1
        node = replica.index_used
    else:
        node = np.int64(nodes[0].previous)
        unlink_nodes(nodes, node, node)
        remove(entries, nodes, node)
    nodes[node].key = key
    insert(entries, nodes, node)
    return node


@kernel
def end_of_run(nodes, node, prompt, i, limit):
    """How far the prompt from hash `i`, which `node` bears, runs along the list of use.

    The last node of that run, and the hash that follows it; `limit` is no part of a run.
    """
    while i + 1 < prompt.size:
        following = nodes[node].next
        if following == limit or nodes[following].key != prompt[i + 1]:
            break
        node = following
        i += 1
    return node, i + 1


@kernel
def remember_prompt(s, r, q):
    """Note that replica `r` will hold the prompt of `q`; the tokens the index expected there.

    The prompt goes to the recent end of the list of use, its beginning as what was used last. Of a
    prompt longer than the index the beginning is kept.
    """
    entries, nodes = index_of(s, r)
    prompt = prompt_of(s, q)[: nodes.size - 1]
    matched = 0
    placed = 0  # the node of the prompt that was placed last, at first the sentinel
    i = 0
    while i < prompt.size:
        node = np.int64(find(entries, nodes, prompt[i]))
        if node == ABSENT:
            node = last = new_node(entries, nodes, s.replicas[r], prompt[i])
            i += 1
        elif node == placed:  # the same hash twice: no chain, but no reason to fail
            i += 1
            continue
        else:
            last, following = end_of_run(nodes, node, prompt, i, placed)
            unlink_nodes(nodes, node, last)
            if matched == i:
                matched = following
            i = following
        link_nodes(nodes, node, last, placed)
        placed = last
    return matched * TOKENS_PER_HASH


@kernel
def match_all(s, q):
    """Fill `s.matches` with the matched tokens of every replica."""
    for r in range(s.matches.size):
        s.matches[r] = matched_tokens(s, r, q)
