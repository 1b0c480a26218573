"""How long one engine step takes.

A step-time model is packed into one float64 array whose first element tells its kind, and three
kernels read that array: `step_seconds` (one step), `decode_run_seconds` (a run of steps in which
the batch only decodes) and `decode_steps_by` (its inverse). The engine's kernels call them with
plain numbers; everything else goes through the methods of `StepTimeModel`.

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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np

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


class StepTimeModel(Protocol):
    """What the fleet and the policies need of a step-time model.

    Attributes:
        source: where the numbers come from.
        error: how far they are from what they were fitted to or checked against.
    """

    @property
    def source(self) -> str: ...

    @property
    def error(self) -> str: ...

    def pack(self) -> np.ndarray:
        """The model as the float64 array, shape (size,), that the kernels read."""
        ...

    def step(
        self,
        decode_sequences: int = 0,
        decode_context: int = 0,
        prefill_sequences: int = 0,
        prefill_tokens: int = 0,
        prefill_work: float = 0.0,
        prefill_context: int = 0,
    ) -> float:
        """Seconds of one step; the arguments are explained in the module's head."""
        ...

    def decode_run(self, sequences: int, context: int, steps: int) -> float:
        """Seconds of `steps` pure decode steps; see `decode_run_seconds`."""
        ...


class _Packed:
    """The methods that both kinds of model share; they only need `pack`."""

    def pack(self) -> np.ndarray:
        raise NotImplementedError

    def step(
        self,
        decode_sequences: int = 0,
        decode_context: int = 0,
        prefill_sequences: int = 0,
        prefill_tokens: int = 0,
        prefill_work: float = 0.0,
        prefill_context: int = 0,
    ) -> float:
        """Seconds of one step; the arguments are explained in the module's head."""
        return step_seconds(
            self.pack(),
            decode_sequences + prefill_tokens,
            decode_sequences + prefill_sequences,
            decode_sequences,
            decode_context,
            prefill_sequences,
            prefill_tokens,
            float(prefill_work),
            prefill_context,
        )

    def decode_run(self, sequences: int, context: int, steps: int) -> float:
        """Seconds of `steps` pure decode steps; see `decode_run_seconds`."""
        return decode_run_seconds(self.pack(), sequences, context, steps)


@dataclass(frozen=True)
class ClosedForm(_Packed):
    """T = max(a + bN, c + dN) + attention + language-model head + overhead.

    All coefficients in milliseconds, as published. The linear layers are a maximum of a line bound
    by memory and a line bound by compute. Attention has its own coefficients in pure decode, pure
    prefill and mixed steps, since a kernel that serves both at once is slower than the sum of its
    parts (1.6 times on an RTX 4090).

    Attributes:
        linear: (a, b), (c, d).
        decode: base, per decode sequence, per token of decode context.
        prefill: base, per token, per unit of prefill work.
        mixed: base, per decode sequence, per token of decode context, per prefill token, per unit
            of prefill work. None where unknown: the decode and the prefill terms add up, with the
            larger of the two bases once, since one set of kernels is launched.
        lm_head: base, per sequence (sampler included).
        overhead_ms: what the engine adds to every step (scheduler, input preparation).
        speed: factor on the step rate; 2 halves every step, overhead included.
        source: where the coefficients come from.
        error: how well they fit.
    """

    linear: tuple[tuple[float, float], tuple[float, float]]
    decode: tuple[float, float, float]
    prefill: tuple[float, float, float]
    mixed: tuple[float, float, float, float, float] | None
    lm_head: tuple[float, float]
    overhead_ms: float = 0.0
    speed: float = 1.0
    source: str = "given by the user"
    error: str = "unknown"

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError(f"speed must be positive, not {self.speed}")
        (a, b), (c, d) = self.linear
        mixed = self.mixed or ()
        if min(b, d, *self.decode, *self.prefill, *mixed, *self.lm_head, self.overhead_ms) < 0:
            raise ValueError("the coefficients of a step-time model must not be negative")
        if max(a + b, c + d) <= 0:
            raise ValueError("the linear layers must take time")

    def _milliseconds(self) -> list[float]:
        (a, b), (c, d) = self.linear
        base, per_sequence = self.lm_head
        mixed = self.mixed
        if mixed is None:
            mixed = (max(self.decode[0], self.prefill[0]), *self.decode[1:], *self.prefill[1:])
        head = (base + self.overhead_ms, per_sequence)
        return [CLOSED_FORM, a, b, c, d, *self.decode, *self.prefill, *mixed, *head]

    @cached_property
    def _array(self) -> np.ndarray:
        packed = np.array(self._milliseconds()) * (1e-3 / self.speed)
        packed[0] = CLOSED_FORM
        return packed

    def pack(self) -> np.ndarray:
        """float64 array, shape (18,): the kind, then the coefficients in seconds."""
        return self._array

    def with_overhead(self, milliseconds: float) -> Self:
        """The same model with this overhead per step."""
        return replace(self, overhead_ms=milliseconds)

    def with_speed(self, factor: float) -> Self:
        """The same model, `factor` times as fast as it is now."""
        return replace(self, speed=self.speed * factor)


@dataclass(frozen=True, eq=False)
class Grid:
    """Values on a rectangular grid.

    Attributes:
        axes: float64 arrays, each strictly increasing, at least two long.
        values: float64, shape (len(axes[0]), len(axes[1]), ...).
    """

    axes: tuple[np.ndarray, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(len(axis) for axis in self.axes)
        if self.values.shape != shape:
            raise ValueError(f"grid values have shape {self.values.shape}, its axes {shape}")
        if min(shape) < 2 or any((np.diff(axis) <= 0).any() for axis in self.axes):
            raise ValueError("each axis of a grid needs at least two strictly increasing knots")
        if not np.isfinite(self.values).all():
            raise ValueError("grid values must be finite")

    def flat(self, scale: float) -> np.ndarray:
        """Each axis as its length and its knots, then the values times `scale`, row by row."""
        parts: list[Sequence[float] | np.ndarray] = []
        for axis in self.axes:
            parts += [[float(len(axis))], axis]
        return np.concatenate([*parts, self.values.ravel() * scale])


@dataclass(frozen=True, eq=False)
class TableModel(_Packed):
    """Linear interpolation in measured kernel times, linear extrapolation beyond them.

    Interpolation is linear and not in logarithms because decode attention is affine in its total
    context: bilinear interpolation in (sequences, mean context) is exact for such a function.
    So is the fleet's jump over decode steps: along a run the mean context moves on one axis.

    A step with several prefill chunks is looked up as one chunk with all their tokens and the prior
    context that gives the same work, P / N - N / 2. Several short chunks do less work than one
    chunk of that length without any prior context; then the time is interpolated, linearly in
    work, between the smallest kernel of the table and that chunk. A chunk below the smallest one
    takes as long as that: kernels work on tiles of queries, and one chunk is enough to switch from
    the decode kernel to the mixed one. A chunk beyond the largest one is cut into chunks of that
    size with the same work in all, so that the time stays quadratic in the length of a prompt.

    Attributes:
        dense: linear layers of the whole model against tokens; milliseconds, as all values.
        head: language-model head and sampler against sequences.
        decode: attention against (sequences, mean context).
        prefill: attention against (chunk, prior context).
        mixed: attention against (chunk, prior context, decode sequences, mean decode context).
        overhead_ms: what the engine adds to every step.
        speed: factor on the step rate.
        source: where the tables come from.
        error: how good they are.
    """

    dense: Grid
    head: Grid
    decode: Grid
    prefill: Grid
    mixed: Grid
    overhead_ms: float = 0.0
    speed: float = 1.0
    source: str = "given by the user"
    error: str = "unknown"

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError(f"speed must be positive, not {self.speed}")
        for name, dimensions in (("dense", 1), ("head", 1), ("decode", 2), ("prefill", 2)):
            if len(getattr(self, name).axes) != dimensions:
                raise ValueError(f"the {name} grid needs {dimensions} axes")
        if len(self.mixed.axes) != 4:
            raise ValueError("the mixed grid needs 4 axes")
        self._require_positive()

    def _require_positive(self) -> None:
        """Refuse tables that extrapolate to no time at all, far below or beyond their edges."""
        for batch, context, chunk in ((1, 1, 1), (1, 1 << 17, 1), (1024, 1, 1 << 14)):
            decode = {"decode_sequences": batch, "decode_context": batch * context}
            work = chunk * (context + chunk / 2)
            prefill = {"prefill_sequences": 1, "prefill_tokens": chunk, "prefill_work": work}
            for parts in (decode, prefill, decode | prefill):
                if not self.step(**parts) > 0:
                    raise ValueError(f"the tables extrapolate to a step without duration: {parts}")

    @cached_property
    def _array(self) -> np.ndarray:
        scale = 1e-3 / self.speed
        grids = (self.dense, self.head, self.decode, self.prefill, self.mixed)
        parts = [grid.flat(scale) for grid in grids]
        starts = HEADER + np.cumsum([0, *(len(part) for part in parts[:-1])])
        return np.concatenate([[TABLE, self.overhead_ms * scale], starts, *parts])

    def pack(self) -> np.ndarray:
        """float64 array: the header, then the five grids as `Grid.flat` lays them out."""
        return self._array

    def with_overhead(self, milliseconds: float) -> Self:
        """The same model with this overhead per step."""
        return replace(self, overhead_ms=milliseconds)

    def with_speed(self, factor: float) -> Self:
        """The same model, `factor` times as fast as it is now."""
        return replace(self, speed=self.speed * factor)
