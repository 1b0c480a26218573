"""One replica: a vLLM engine that jumps from one change to the next.

While a batch only decodes, its steps differ in nothing but the length of the context, so a run of
them is one jump: its end is known in closed form (`decode_run_seconds`), and the blocks it fills
are taken when it ends. A run stops where stepping one by one would do something else: when a
request finishes, when the blocks run out, when a request arrives (the run is cut at the end of the
step under way), when a waiting request would be promoted or would find its prefix cached. With
`jumping` off the same code takes single steps; a test compares the two.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.kv_cache import (
    UNLISTED,
    block_hash,
    blocks_for,
    cache_full_blocks,
    cached_prefix,
    reset_pool,
    take_blocks,
)
from makespan.envs.llm.prefix_index import remember_prompt, reset_index
from makespan.envs.llm.scheduler import complete, enqueue, schedule
from makespan.envs.llm.state import NONE, PAST_FUTURE, SJF
from makespan.envs.llm.step_kernels import decode_run_seconds, decode_steps_by, step_seconds


@kernel
def reset_engine(s, r):
    """An empty engine: nothing running, waiting or cached, and nothing known to the router."""
    replica = s.replicas[r]
    reset_pool(s, r)
    reset_index(s, r)
    replica.running = 0
    replica.waiting = 0
    replica.waiting_head = NONE
    replica.waiting_tail = NONE
    replica.busy = 0
    replica.jump_steps = 0
    s.end_s[r] = np.inf
    replica.streaming_tokens = 0
    s.in_flight[r] = 0
    s.prefill_tokens[r] = 0
    s.decoding[r] = 0


@kernel
def model_of(s, r):
    """The packed step-time model of replica `r`."""
    return s.models[s.replicas[r].model_start : s.replicas[r].model_stop]


@kernel
def steps_to_next_finish(s, r):
    """Decode steps until a running request finishes; 1 if the batch does more than decode."""
    replica = s.replicas[r]
    if replica.prefill_sequences > 0 or replica.sequences < replica.running:
        return 1
    steps = replica.max_model_len
    for i in range(replica.running):
        request = s.requests[s.running[replica.list_start + i]]
        tokens = request.prompt + request.generated
        if request.computed != tokens or np.isnan(request.first_token_s):
            return 1
        steps = min(steps, request.output - request.generated, replica.max_model_len - tokens)
    return steps


@kernel
def blocks_needed(s, r, steps):
    """New blocks that steps 2 to `steps` of the run take."""
    replica = s.replicas[r]
    needed = 0
    for i in range(replica.running):
        request = s.requests[s.running[replica.list_start + i]]
        needed += blocks_for(request.computed + steps - 1, replica.block_size) - request.blocks
    return needed


@kernel
def steps_that_fit(s, r, steps):
    """The longest run of at most `steps` steps for which the free blocks suffice."""
    free = s.replicas[r].free_blocks
    if blocks_needed(s, r, steps) <= free:
        return steps
    low = 1
    high = steps
    while high - low > 1:
        middle = (low + high) // 2
        if blocks_needed(s, r, middle) <= free:
            low = middle
        else:
            high = middle
    return low


@kernel
def steps_until_shared(s, r, steps):
    """End the run before the step that caches the next block the waiting head looks for."""
    replica = s.replicas[r]
    head = replica.waiting_head
    position, _ = cached_prefix(s, r, head)
    key = block_hash(s, r, head, position)
    if key == UNLISTED:
        return steps
    for i in range(replica.running):
        q = s.running[replica.list_start + i]
        missing = (position + 1) * replica.block_size - s.requests[q].computed
        if 1 <= missing < steps and block_hash(s, r, q, position) == key:
            steps = missing
    return steps


@kernel
def steps_until_promotion(s, r, steps):
    """End the run before the step in which the starvation guard promotes a waiting request."""
    replica = s.replicas[r]
    q = replica.waiting_head
    while q != NONE:
        request = s.requests[q]
        if request.promoted_until == 0:
            due = request.waiting_since + replica.starvation_steps - replica.steps
            steps = max(1, min(steps, due))
        q = request.next
    return steps


@kernel
def run_length(s, r):
    """How many steps from the one just scheduled on are alike, that one included."""
    replica = s.replicas[r]
    if replica.jumping == 0 or replica.preempted > 0:
        return 1
    steps = steps_to_next_finish(s, r)
    if steps > 1 and replica.waiting > 0:
        if replica.admission == PAST_FUTURE or (replica.caching and not replica.reserve_prompt):
            return 1  # the head of the queue may become admissible while others decode
        if replica.caching:
            steps = steps_until_shared(s, r, steps)
        if replica.policy == SJF and replica.starvation_steps > 0:
            steps = steps_until_promotion(s, r, steps)
    return steps_that_fit(s, r, steps) if steps > 1 else steps


@kernel
def extend_run(s, r, steps):
    """Carry out steps 2 to `steps` of a run: fill blocks in the order in which steps would."""
    replica = s.replicas[r]
    start = replica.list_start
    size = replica.block_size
    caching = replica.caching
    for _ in range(steps - 1):
        for i in range(replica.running):
            q = s.running[start + i]
            request = s.requests[q]
            if request.computed == request.blocks * size:
                take_blocks(s, r, q, 1)
            request.computed += 1
            if caching and request.computed == request.blocks * size:
                cache_full_blocks(s, r, q, request.computed)
    for i in range(replica.running):
        s.requests[s.running[start + i]].generated += steps - 1
    replica.streaming_tokens += (steps - 1) * replica.running
    replica.steps += steps - 1


@kernel
def end_run(s, r):
    """Bring the step or run under way to its end."""
    replica = s.replicas[r]
    if replica.jump_steps > 1:
        extend_run(s, r, replica.jump_steps)
    complete(s, r, s.end_s[r])
    replica.busy = 0


@kernel
def begin_run(s, r, now):
    """Schedule a step at `now` and find how far it can be carried on; idle if there is none."""
    replica = s.replicas[r]
    s.end_s[r] = np.inf
    if replica.running + replica.waiting == 0:
        return
    schedule(s, r)
    while replica.tokens == 0 and replica.preempted > 0:
        schedule(s, r)  # the first in line preempted itself; an empty step takes no time
    if replica.tokens == 0:
        return
    replica.busy = 1
    replica.jumps += 1
    replica.start_s = now
    replica.jump_steps = run_length(s, r)
    model = model_of(s, r)
    if replica.jump_steps == 1:
        seconds = step_seconds(
            model,
            replica.tokens,
            replica.sequences,
            replica.decode_sequences,
            replica.decode_context,
            replica.prefill_sequences,
            replica.prefill_tokens,
            replica.prefill_work,
            replica.prefill_context,
        )
    else:
        seconds = decode_run_seconds(
            model, replica.sequences, replica.decode_context, replica.jump_steps
        )
    s.end_s[r] = now + seconds


@kernel
def advance(s, r):
    """At the end of what replica `r` has under way: end it, and begin what follows."""
    now = s.end_s[r]
    if s.replicas[r].busy:
        end_run(s, r)
    begin_run(s, r, now)


@kernel
def step_at(s, r, now):
    """Which step of the run under way is being computed at `now`, from 1."""
    replica = s.replicas[r]
    if replica.jump_steps == 1:
        return 1
    return decode_steps_by(
        model_of(s, r),
        replica.sequences,
        replica.decode_context,
        now - replica.start_s,
        replica.jump_steps,
    )


@kernel
def cut_run(s, r, now):
    """Let the run under way end with the step that is being computed at `now`."""
    replica = s.replicas[r]
    steps = step_at(s, r, now)
    if steps < replica.jump_steps:
        replica.jump_steps = steps
        s.end_s[r] = replica.start_s + decode_run_seconds(
            model_of(s, r), replica.sequences, replica.decode_context, steps
        )


@kernel
def join_queue(s, r, q, now):
    """Queue `q`; a run under way is cut unless `q` waits behind a head that cannot move."""
    replica = s.replicas[r]
    behind = replica.waiting > 0
    enqueue(s, r, q, False)
    if not replica.busy or replica.jump_steps == 1:
        return
    if behind and replica.policy != SJF and replica.waiting_head != q:
        return
    cut_run(s, r, now)
    # The step that is being computed is not the one the run began with.
    s.requests[q].waiting_since = replica.steps + replica.jump_steps - 1


@kernel
def acceptable(s, r, q):
    """Whether the engine takes `q`: its prompt is short enough and the queue not full."""
    replica = s.replicas[r]
    full = replica.max_queue > 0 and replica.waiting >= replica.max_queue
    return s.requests[q].prompt < replica.max_model_len and not full


@kernel
def send(s, r, q, now):
    """The router sends `q` to replica `r`; False if the engine does not take it.

    The router counts the prompt tokens that its prefix index does not find on the replica as to be
    computed.
    """
    replica = s.replicas[r]
    request = s.requests[q]
    request.sent_s = now
    request.replica = r
    request.attempts += 1
    request.rank = request.predicted if replica.policy == SJF else request.priority
    request.generated = 0
    request.computed = 0
    request.first_token_s = np.nan
    if not acceptable(s, r, q):
        return False
    matched = 0
    if replica.caching and request.hash_count > 0:
        matched = remember_prompt(s, r, q)
    request.uncached = max(1, request.prompt - matched)
    request.queued = s.prefill_tokens[r]
    s.in_flight[r] += 1
    s.prefill_tokens[r] += request.uncached
    join_queue(s, r, q, now)
    if not replica.busy:
        s.end_s[r] = now  # it begins once all that arrive at this moment have joined
    return True


@kernel
def count_streaming(s, now):
    """Fill `s.streaming` with the tokens held by requests past their first token, at `now`."""
    for r in range(s.streaming.size):
        replica = s.replicas[r]
        s.streaming[r] = replica.streaming_tokens
        if replica.busy and replica.jump_steps > 1:
            s.streaming[r] += (step_at(s, r, now) - 1) * replica.running


@kernel
def write_row(s, q, streamed, row):
    """One row of `IN_FLIGHT`."""
    request = s.requests[q]
    row["request"] = q
    row["sent_s"] = request.sent_s
    row["prompt_tokens"] = request.prompt
    row["uncached_tokens"] = request.uncached
    row["streamed_tokens"] = streamed
    row["predicted_tokens"] = request.predicted


@kernel
def insert_by_time(s, order, streamed, n, q, tokens):
    """Put request `q` into the first `n` of `order`, which are sorted by when they were sent."""
    i = n
    while i > 0 and s.requests[order[i - 1]].sent_s > s.requests[q].sent_s:
        order[i] = order[i - 1]
        streamed[i] = streamed[i - 1]
        i -= 1
    order[i] = q
    streamed[i] = tokens


@kernel
def list_in_flight(s, r, now, rows):
    """Fill `rows` with what replica `r` holds, in the order in which it was sent.

    Of requests sent at the same moment those in the batch come first, then those that wait.
    """
    replica = s.replicas[r]
    order = np.empty(len(rows), np.int64)
    streamed = np.empty(len(rows), np.int64)
    done = step_at(s, r, now) - 1 if replica.busy else 0
    n = 0
    for i in range(replica.running):
        q = s.running[replica.list_start + i]
        insert_by_time(s, order, streamed, n, q, s.requests[q].generated + done)
        n += 1
    q = replica.waiting_head
    while q != NONE:
        insert_by_time(s, order, streamed, n, q, s.requests[q].generated)
        n += 1
        q = s.requests[q].next
    for i in range(n):
        write_row(s, order[i], streamed[i], rows[i])
