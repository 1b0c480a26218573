"""How long one engine step takes, as kernels.

A step-time model is packed into one float64 array whose first element tells its kind, and three
kernels read that array: `step_seconds` (one step), `decode_run_seconds` (a run of steps in which
the batch only decodes) and `decode_steps_by` (its inverse). The engine's kernels call them with
plain numbers; everything else goes through the models of `makespan.envs.llm.step_time`, which also
pack the array.

What a step consists of is described by eight numbers, always in this order:

    tokens              N, tokens scheduled
    sequences           sequences in the step
    decode_sequences    B, those that compute one token on top of an existing context
    decode_context      S, sum of their contexts, the new token included
    prefill_sequences   prefill chunks
    prefill_tokens      sum of the chunks
    prefill_work        P, sum of chunk * (context + chunk / 2), context = tokens computed before
    prefill_context     sum of the contexts of the chunks
"""

import math

from makespan.envs.core.compiled import kernel

CLOSED_FORM, TABLE = 0.0, 1.0

# Layout of a packed closed form; seconds throughout.
LINEAR, DECODE, PREFILL, MIXED, HEAD = 1, 5, 8, 11, 16

# Layout of the header of a packed table: seconds per step, then where each grid starts.
FIXED, DENSE_AT, HEAD_AT, DECODE_AT, PREFILL_AT, MIXED_AT, HEADER = 1, 2, 3, 4, 5, 6, 7

FALSE_POSITIONS = 6
"""Guesses by false position before `decode_steps_by` falls back to bisection."""


@kernel
def _closed_form_base(model, tokens, sequences):
    """Seconds of everything but attention: linear layers, language-model head, overhead."""
    memory_bound = model[LINEAR] + model[LINEAR + 1] * tokens
    compute_bound = model[LINEAR + 2] + model[LINEAR + 3] * tokens
    return max(memory_bound, compute_bound) + model[HEAD] + model[HEAD + 1] * sequences


@kernel
def _closed_form_step(model, tokens, sequences, decodes, context, prefill_tokens, work):
    base = _closed_form_base(model, tokens, sequences)
    if prefill_tokens > 0 and decodes > 0:
        return base + (
            model[MIXED]
            + model[MIXED + 1] * decodes
            + model[MIXED + 2] * context
            + model[MIXED + 3] * prefill_tokens
            + model[MIXED + 4] * work
        )
    if prefill_tokens > 0:
        return base + (
            model[PREFILL] + model[PREFILL + 1] * prefill_tokens + model[PREFILL + 2] * work
        )
    if decodes > 0:
        return base + model[DECODE] + model[DECODE + 1] * decodes + model[DECODE + 2] * context
    return base


@kernel
def _closed_form_decode_run(model, sequences, context, steps):
    """An arithmetic series: every pure decode step adds `sequences` to the context."""
    per_step = _closed_form_base(model, sequences, sequences)
    per_step += model[DECODE] + model[DECODE + 1] * sequences
    contexts = steps * (context + 0.5 * sequences * (steps - 1))
    return per_step * steps + model[DECODE + 2] * contexts


@kernel
def _bracket(model, axis, x):
    """Where `x` lies on the axis packed at `axis`: index of the knot below, and weight of the next.

    Outside the axis the weight is below 0 or above 1, so that the edge segments extrapolate.
    """
    first = axis + 1
    low, high = 0, int(model[axis]) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if model[first + middle] <= x:
            low = middle
        else:
            high = middle
    below = model[first + low]
    return low, (x - below) / (model[first + low + 1] - below)


@kernel
def _after(model, axis):
    """Where the array behind the axis packed at `axis` starts."""
    return axis + 1 + int(model[axis])


@kernel
def _curve(model, at, x):
    """Linear interpolation on one axis."""
    i, w = _bracket(model, at, x)
    values = _after(model, at) + i
    return model[values] + w * (model[values + 1] - model[values])


@kernel
def _square(model, at, row, w_row, w_column):
    """Bilinear interpolation in the cell whose first value is at `at`; `row` values per row."""
    low = model[at] + w_column * (model[at + 1] - model[at])
    high = model[at + row] + w_column * (model[at + row + 1] - model[at + row])
    return low + w_row * (high - low)


@kernel
def _table_decode_attention(model, sequences, mean_context):
    rows = int(model[DECODE_AT])
    columns = _after(model, rows)
    i, w_i = _bracket(model, rows, sequences)
    j, w_j = _bracket(model, columns, mean_context)
    width = int(model[columns])
    return _square(model, _after(model, columns) + i * width + j, width, w_i, w_j)


@kernel
def _table_prefill_attention(model, tokens, work):
    """Bilinear in (chunk, prior context); see `TableModel` for what is no row of the table."""
    chunks = int(model[PREFILL_AT])
    contexts = _after(model, chunks)
    width = int(model[contexts])
    values = _after(model, contexts)
    repeats = max(1.0, tokens / model[contexts - 1])
    tokens /= repeats
    work /= repeats
    i, w_i = _bracket(model, chunks, max(tokens, model[chunks + 1]))
    prior = work / tokens - 0.5 * tokens
    if prior >= 0.0:
        j, w_j = _bracket(model, contexts, prior)
        return repeats * _square(model, values + i * width + j, width, w_i, w_j)
    whole = _square(model, values + i * width, width, w_i, 0.0)
    share = work / (0.5 * tokens * tokens)
    return repeats * (model[values] + (whole - model[values]) * share)


@kernel
def _table_mixed_kernel(model, decodes, mean_context, tokens, work):
    """Linear in each of (chunk, prior context, decodes, decode context).

    Contexts beyond the table scale the time of the edge: the kernel lasts as long as its longest
    sequence when there are few, and such a maximum has no use for a bilinear extrapolation.
    """
    chunks = int(model[MIXED_AT])
    priors = _after(model, chunks)
    rows = _after(model, priors)
    columns = _after(model, rows)
    width = int(model[columns])
    plane = int(model[rows]) * width
    slab = int(model[priors]) * plane
    prior = work / tokens - 0.5 * tokens
    beyond = max(1.0, mean_context / model[columns + width], prior / model[rows - 1])
    a, w_a = _bracket(model, chunks, max(tokens, model[chunks + 1]))
    i, w_i = _bracket(model, rows, decodes)
    j, w_j = _bracket(model, columns, mean_context / beyond)
    at = _after(model, columns) + i * width + j
    near = at + a * slab
    if prior >= 0.0:
        b, w_b = _bracket(model, priors, prior / beyond)
        near += b * plane
        low = _square(model, near, width, w_i, w_j)
        low += w_b * (_square(model, near + plane, width, w_i, w_j) - low)
        far = near + slab
        high = _square(model, far, width, w_i, w_j)
        high += w_b * (_square(model, far + plane, width, w_i, w_j) - high)
        return beyond * (low + w_a * (high - low))
    least = _square(model, at, width, w_i, w_j)
    whole = _square(model, near, width, w_i, w_j)
    whole += w_a * (_square(model, near + slab, width, w_i, w_j) - whole)
    share = work / (0.5 * tokens * tokens)
    return beyond * (least + (whole - least) * share)


@kernel
def _table_mixed_attention(model, decodes, mean_context, tokens, work):
    """One mixed kernel, and what exceeds the largest chunk as pure prefill."""
    largest = model[_after(model, int(model[MIXED_AT])) - 1]
    repeats = max(1.0, tokens / largest)
    tokens /= repeats
    work /= repeats
    seconds = _table_mixed_kernel(model, decodes, mean_context, tokens, work)
    if repeats > 1.0:
        seconds += (repeats - 1.0) * _table_prefill_attention(model, tokens, work)
    return seconds


@kernel
def _table_base(model, tokens, sequences):
    dense = _curve(model, int(model[DENSE_AT]), tokens)
    return model[FIXED] + dense + _curve(model, int(model[HEAD_AT]), sequences)


@kernel
def _table_step(model, tokens, sequences, decodes, context, prefill_tokens, work):
    base = _table_base(model, tokens, sequences)
    if prefill_tokens > 0 and decodes > 0:
        mean_context = context / decodes
        return base + _table_mixed_attention(model, decodes, mean_context, prefill_tokens, work)
    if prefill_tokens > 0:
        return base + _table_prefill_attention(model, prefill_tokens, work)
    if decodes > 0:
        return base + _table_decode_attention(model, decodes, context / decodes)
    return base


@kernel
def _table_decode_run(model, sequences, context, steps):
    """One arithmetic series per segment of the context axis that the run crosses."""
    columns = _after(model, int(model[DECODE_AT]))
    last = int(model[columns]) - 2
    total = steps * _table_base(model, sequences, sequences)
    mean_context = context / sequences
    left = steps
    while left > 0:
        j, _ = _bracket(model, columns, mean_context)
        here = left
        if j < last:
            reach = math.ceil(model[columns + 2 + j] - mean_context)
            here = min(left, max(1, reach))
        first = _table_decode_attention(model, sequences, mean_context)
        final = _table_decode_attention(model, sequences, mean_context + (here - 1))
        total += 0.5 * here * (first + final)
        mean_context += here
        left -= here
    return total


@kernel
def step_seconds(
    model,
    tokens,
    sequences,
    decode_sequences,
    decode_context,
    prefill_sequences,
    prefill_tokens,
    prefill_work,
    prefill_context,
):
    """Duration of one engine step in seconds; the arguments are explained in the module's head."""
    if model[0] == CLOSED_FORM:
        return _closed_form_step(
            model,
            tokens,
            sequences,
            decode_sequences,
            decode_context,
            prefill_tokens,
            prefill_work,
        )
    return _table_step(
        model, tokens, sequences, decode_sequences, decode_context, prefill_tokens, prefill_work
    )


@kernel
def decode_run_seconds(model, sequences, context, steps):
    """Total seconds of `steps` steps in which `sequences` sequences decode and nothing else runs.

    The decode context S is `context` in the first step and grows by `sequences` in each. Equals
    the sum of `step_seconds` over those steps, up to rounding.
    """
    if model[0] == CLOSED_FORM:
        return _closed_form_decode_run(model, sequences, context, steps)
    return _table_decode_run(model, sequences, context, steps)


@kernel
def _closed_form_steps_guess(model, sequences, context, seconds):
    """The positive root of the quadratic that `_closed_form_decode_run` is in `steps`."""
    square = 0.5 * sequences * model[DECODE + 2]
    linear = _closed_form_base(model, sequences, sequences)
    linear += model[DECODE] + model[DECODE + 1] * sequences + model[DECODE + 2] * context - square
    return 2.0 * seconds / (linear + math.sqrt(linear * linear + 4.0 * square * seconds))


@kernel
def _closed_form_steps_by(model, sequences, context, seconds, limit):
    """`decode_steps_by` from the root of the quadratic, corrected for rounding."""
    guess = math.ceil(_closed_form_steps_guess(model, sequences, context, max(seconds, 0.0)))
    steps = min(max(guess, 1), limit)
    while steps > 1 and decode_run_seconds(model, sequences, context, steps - 1) >= seconds:
        steps -= 1
    while decode_run_seconds(model, sequences, context, steps) < seconds:
        steps += 1
    return steps


@kernel
def _table_steps_by(model, sequences, context, seconds, limit, longest):
    """`decode_steps_by` by false position, since runs are almost linear, and then by bisection."""
    low, high = 0, limit
    shortest = 0.0
    tries = 0
    while high - low > 1:
        share = 0.5
        if tries < FALSE_POSITIONS:
            share = (seconds - shortest) / (longest - shortest)
        tries += 1
        steps = min(max(low + math.ceil(share * (high - low)), low + 1), high - 1)
        run = decode_run_seconds(model, sequences, context, steps)
        if run >= seconds:
            high, longest = steps, run
        else:
            low, shortest = steps, run
    return high


@kernel
def decode_steps_by(model, sequences, context, seconds, limit):
    """The fewest decode steps, 1 to `limit`, that take at least `seconds`; `limit` if none does.

    Consistent with `decode_run_seconds` to the last bit: the answer's run lasts at least
    `seconds`, and the run one step shorter does not.
    """
    longest = decode_run_seconds(model, sequences, context, limit)
    if longest <= seconds:
        return limit
    if model[0] == CLOSED_FORM:
        return _closed_form_steps_by(model, sequences, context, seconds, limit)
    return _table_steps_by(model, sequences, context, seconds, limit, longest)
