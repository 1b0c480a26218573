"""The step rules of the vLLM 0.32 V1 scheduler.

Source: `vllm/v1/core/sched/scheduler.py`, `Scheduler.schedule` and `update_from_output`. One step
schedules running requests first, then admits waiting ones, under a budget of tokens; who cannot
get blocks preempts, and a preempted request starts over with what it generated as part of its
prompt. `schedule` is the first half of a step, `complete` the second.

Beyond vLLM's FCFS and priority there is `sjf`, shortest predicted output first, with the
starvation guard of vllm-ltr (arXiv 2408.15792): its rank replaces the priority, and a request that
waited `starvation_steps` steps goes first and is spared for `starvation_quantum` steps.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.kv_cache import (
    adopt_prefix,
    blocks_for,
    cached_prefix,
    grow,
    list_blocks,
    release,
)
from makespan.envs.llm.state import (
    CONSERVATIVE,
    FCFS,
    FINISHED,
    NONE,
    RECENT_LENGTH,
    RUNNING,
    SJF,
    VLLM,
    WAITING,
)

UNTIL_ADMITTED = 1 << 62
"""A promotion's end while the promoted request still waits."""

PAST_FUTURE_SLACK = 6
"""Tokens added to every remaining length (LightLLM, `req_queue/chunked_prefill/impl.py`)."""

PAST_FUTURE_FLOOR = 1024.0
"""Output assumed where nothing is predicted (LightLLM: max(1.1 * generated, 1024))."""


@kernel
def goes_before(s, a, b):
    """Whether waiting request `a` is served before `b` under a ranked policy."""
    x, y = s.requests[a], s.requests[b]
    x_waits, y_waits = x.promoted_until == 0, y.promoted_until == 0
    if x_waits != y_waits:
        return y_waits
    if x.rank != y.rank:
        return x.rank < y.rank
    if x.sent_s != y.sent_s:
        return x.sent_s < y.sent_s
    return a < b


@kernel
def insert_waiting(s, r, q, before):
    """Link `q` into the waiting queue in front of `before` (NONE: at the end)."""
    replica = s.replicas[r]
    after = s.requests[before].previous if before != NONE else replica.waiting_tail
    s.requests[q].next = before
    s.requests[q].previous = after
    if after == NONE:
        replica.waiting_head = q
    else:
        s.requests[after].next = q
    if before == NONE:
        replica.waiting_tail = q
    else:
        s.requests[before].previous = q
    replica.waiting += 1


@kernel
def remove_waiting(s, r, q):
    """Unlink `q` from the waiting queue."""
    replica = s.replicas[r]
    before, after = s.requests[q].previous, s.requests[q].next
    if before == NONE:
        replica.waiting_head = after
    else:
        s.requests[before].next = after
    if after == NONE:
        replica.waiting_tail = before
    else:
        s.requests[after].previous = before
    replica.waiting -= 1


@kernel
def insert_ranked(s, r, q):
    """Link `q` into the waiting queue where its rank belongs, searching from the end."""
    before = NONE
    at = s.replicas[r].waiting_tail
    while at != NONE and goes_before(s, q, at):
        before = at
        at = s.requests[at].previous
    insert_waiting(s, r, q, before)


@kernel
def enqueue(s, r, q, preempted):
    """Let `q` wait: at the end, or in front if it was preempted, or where its rank belongs."""
    replica = s.replicas[r]
    s.requests[q].status = WAITING
    s.requests[q].waiting_since = replica.steps
    s.requests[q].promoted_until = 0
    if replica.policy != FCFS:
        insert_ranked(s, r, q)
    elif preempted:
        insert_waiting(s, r, q, replica.waiting_head)
    else:
        insert_waiting(s, r, q, NONE)


@kernel
def promote_starving(s, r):
    """Starvation guard: move up who has waited too long."""
    replica = s.replicas[r]
    q = replica.waiting_head
    while q != NONE:
        request = s.requests[q]
        following = request.next
        starving = replica.steps - request.waiting_since >= replica.starvation_steps
        if starving and request.promoted_until == 0:
            request.promoted_until = UNTIL_ADMITTED
            remove_waiting(s, r, q)
            insert_ranked(s, r, q)
        q = following


@kernel
def outranks(s, r, a, b):
    """Whether running request `a` is to be preempted rather than `b` under a ranked policy.

    vLLM stamps requests one by one, so no two are of one time; if they were, it could preempt them
    in turns for ever. Here the workload's order decides between them.
    """
    x, y = s.requests[a], s.requests[b]
    x_safe = x.promoted_until > s.replicas[r].steps
    y_safe = y.promoted_until > s.replicas[r].steps
    if x_safe != y_safe:
        return y_safe
    if x.rank != y.rank:
        return x.rank > y.rank
    if x.sent_s != y.sent_s:
        return x.sent_s > y.sent_s
    return a > b


@kernel
def victim_position(s, r):
    """Position in the running list of the request to preempt."""
    replica = s.replicas[r]
    if replica.policy == FCFS:
        return replica.running - 1
    worst = 0
    for i in range(1, replica.running):
        start = replica.list_start
        if outranks(s, r, s.running[start + i], s.running[start + worst]):
            worst = i
    return worst


@kernel
def remove_running(s, r, position):
    """Close the gap that the request at `position` leaves in the running list."""
    replica = s.replicas[r]
    start = replica.list_start
    for i in range(position, replica.running - 1):
        s.running[start + i] = s.running[start + i + 1]
    replica.running -= 1


@kernel
def preempt(s, r, q):
    """Recompute preemption: `q`, already out of the running list, loses its blocks and waits."""
    list_blocks(s, r, q)
    release(s, r, q)
    s.requests[q].computed = 0
    s.requests[q].scheduled = 0
    s.requests[q].preemptions += 1
    s.replicas[r].preempted += 1
    enqueue(s, r, q, True)


@kernel
def tokens_wanted(s, r, q, computed, threshold):
    """Tokens of `q` not yet computed, capped by the long-prefill threshold."""
    request = s.requests[q]
    wanted = request.prompt + request.generated - computed
    return min(wanted, threshold) if threshold > 0 else wanted


@kernel
def schedule_running(s, r, budget, threshold):
    """First phase of a step; the budget that is left."""
    replica = s.replicas[r]
    i = 0
    while i < replica.running and budget > 0:
        q = s.running[replica.list_start + i]
        request = s.requests[q]
        new = min(tokens_wanted(s, r, q, request.computed, threshold), budget)
        new = min(new, replica.max_model_len - request.computed - 1)
        if new <= 0:
            i += 1
            continue
        while not grow(s, r, q, request.computed + new):
            position = victim_position(s, r)
            victim = s.running[replica.list_start + position]
            budget += s.requests[victim].scheduled
            remove_running(s, r, position)
            preempt(s, r, victim)
            if position < i:
                i -= 1
            if victim == q:
                return budget
        request.scheduled = new
        budget -= new
        i += 1
    return budget


@kernel
def remaining_tokens(s, r, q):
    """Output tokens LightLLM expects `q` still to produce."""
    request = s.requests[q]
    total = request.predicted
    if np.isnan(total):
        total = max(1.1 * request.generated, PAST_FUTURE_FLOOR)
    return max(0.0, total - request.generated - 1.0) + PAST_FUTURE_SLACK


@kernel
def candidate(s, r, q, i):
    """The `i`-th of the running requests, or `q` behind the last of them."""
    replica = s.replicas[r]
    return s.running[replica.list_start + i] if i < replica.running else q


@kernel
def peak_tokens(s, r, q):
    """Predicted peak of the KV cache with `q` admitted: max_i(b_i * i + sum_{j<=i} a_j), b falling.

    Source: Past-Future scheduler, arXiv 2507.10150; a is what a request holds, b what it has left.
    At the moment the i-th ends, the i longest are still there and each has produced b_i more.
    """
    n = s.replicas[r].running + 1
    peak = 0.0
    for i in range(n):
        left = remaining_tokens(s, r, candidate(s, r, q, i))
        total = 0.0
        for j in range(n):
            p = candidate(s, r, q, j)
            longer = remaining_tokens(s, r, p)
            if longer > left or (longer == left and j <= i):
                total += left + s.requests[p].prompt + s.requests[p].generated + 1
        peak = max(peak, total)
    return peak


@kernel
def reserved_tokens(s, r, q):
    """Prompt plus reserved output of everything running and of `q` (TGI's admission)."""
    replica = s.replicas[r]
    total = s.requests[q].prompt + max(s.requests[q].generated, replica.reserved_output)
    for i in range(replica.running):
        request = s.requests[s.running[replica.list_start + i]]
        total += request.prompt + max(request.generated, replica.reserved_output)
    return total


@kernel
def admissible(s, r, q):
    """Whether the admission policy, which vLLM does not have, lets `q` join what runs."""
    replica = s.replicas[r]
    if replica.admission == VLLM or replica.running == 0:
        return True
    capacity = (replica.kv_blocks - 1) * replica.block_size
    if replica.admission == CONSERVATIVE:
        return reserved_tokens(s, r, q) <= capacity
    return peak_tokens(s, r, q) < capacity


@kernel
def admit(s, r, q, budget, threshold):
    """Give the head of the queue what it needs to run; tokens scheduled, 0 if it must wait."""
    replica = s.replicas[r]
    request = s.requests[q]
    if not admissible(s, r, q):
        return 0
    hits, unheld = cached_prefix(s, r, q)
    computed = hits * replica.block_size
    new = tokens_wanted(s, r, q, computed, threshold)
    if replica.chunking == 0 and new > budget:
        return 0
    new = min(new, budget)
    tokens = computed + new
    if replica.reserve_prompt:
        tokens = min(request.prompt + request.generated, replica.max_model_len)
    required = blocks_for(tokens, replica.block_size) - hits + unheld
    if replica.running > 0:
        required += replica.watermark_blocks
    if required > replica.free_blocks:
        return 0
    replica.free_slots -= 1
    request.slot = s.slots[replica.list_start + replica.free_slots]
    adopt_prefix(s, r, q, hits)
    grow(s, r, q, computed + new)
    request.computed = computed
    if request.preemptions == 0:
        request.cached_tokens = computed
    return new


@kernel
def schedule_waiting(s, r, budget, threshold):
    """Second phase of a step: admit from the head of the queue until one must wait."""
    replica = s.replicas[r]
    while budget > 0 and replica.waiting > 0 and replica.running < replica.max_num_seqs:
        q = replica.waiting_head
        new = admit(s, r, q, budget, threshold)
        if new == 0:
            return
        remove_waiting(s, r, q)
        s.running[replica.list_start + replica.running] = q
        replica.running += 1
        s.requests[q].status = RUNNING
        if s.requests[q].promoted_until != 0:
            s.requests[q].promoted_until = replica.steps + replica.starvation_quantum
        s.requests[q].scheduled = new
        budget -= new


@kernel
def measure(s, r):
    """Sum up what the step computes, and advance the requests' computed tokens."""
    replica = s.replicas[r]
    replica.tokens = 0
    replica.sequences = 0
    replica.decode_sequences = 0
    replica.decode_context = 0
    replica.prefill_sequences = 0
    replica.prefill_tokens = 0
    replica.prefill_work = 0.0
    replica.prefill_context = 0
    for i in range(replica.running):
        request = s.requests[s.running[replica.list_start + i]]
        new = request.scheduled
        if new == 0:
            continue
        replica.tokens += new
        replica.sequences += 1
        if new == 1 and request.computed > 0:
            replica.decode_sequences += 1
            replica.decode_context += request.computed + 1
        else:
            replica.prefill_sequences += 1
            replica.prefill_tokens += new
            replica.prefill_work += new * (request.computed + 0.5 * new)
            replica.prefill_context += request.computed
        request.computed += new


@kernel
def schedule(s, r):
    """First half of a step: who computes how many tokens. The sums are left in the replica."""
    replica = s.replicas[r]
    replica.steps += 1
    replica.preempted = 0
    threshold = replica.long_prefill if replica.running + replica.waiting > 1 else 0
    if replica.policy == SJF and replica.starvation_steps > 0:
        promote_starving(s, r)
    for i in range(replica.running):
        s.requests[s.running[replica.list_start + i]].scheduled = 0
    budget = schedule_running(s, r, replica.token_budget, threshold)
    if replica.preempted == 0:
        schedule_waiting(s, r, budget, threshold)
    measure(s, r)


@kernel
def remember(s, r, q):
    """Add the finished request to the replica's ring of recent ones."""
    replica = s.replicas[r]
    request = s.requests[q]
    row = s.recent[r * RECENT_LENGTH + replica.recent % RECENT_LENGTH]
    row.uncached_tokens = request.uncached
    row.queued_tokens = request.queued
    row.prompt_tokens = request.prompt
    row.ttft_s = request.first_token_s - request.sent_s
    row.output_tokens = request.generated
    row.tpot_s = np.nan
    if request.generated > 1:
        row.tpot_s = (request.finish_s - request.first_token_s) / (request.generated - 1)
    replica.recent += 1


@kernel
def start_streaming(s, r, q, now):
    """The first token of `q` reaches the router."""
    request = s.requests[q]
    request.first_token_s = now
    s.prefill_tokens[r] -= request.uncached
    s.decoding[r] += 1
    s.replicas[r].streaming_tokens += request.prompt


@kernel
def finish(s, r, q, now):
    """The last token of `q` reaches the router."""
    replica = s.replicas[r]
    request = s.requests[q]
    release(s, r, q)
    request.status = FINISHED
    request.finish_s = now
    s.in_flight[r] -= 1
    s.decoding[r] -= 1
    replica.streaming_tokens -= request.prompt + request.generated
    s.fleet[0].finished += 1
    s.fleet[0].finishes_s += now - s.fleet[0].origin_s
    remember(s, r, q)


@kernel
def complete(s, r, now):
    """Second half of a step, at its end `now`: tokens come out, finished requests leave."""
    replica = s.replicas[r]
    start = replica.list_start
    kept = 0
    for i in range(replica.running):
        q = s.running[start + i]
        request = s.requests[q]
        tokens = request.prompt + request.generated
        if request.scheduled > 0 and request.computed == tokens:
            request.generated += 1
            tokens += 1
            if np.isnan(request.first_token_s):
                start_streaming(s, r, q, now)
            replica.streaming_tokens += 1
            if request.generated >= request.output or tokens >= replica.max_model_len:
                finish(s, r, q, now)
                continue
        s.running[start + kept] = q
        kept += 1
    replica.running = kept
