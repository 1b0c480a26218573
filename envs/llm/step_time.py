"""Step-time models: the coefficients or tables that tell how long one engine step takes.

The fleet and the policies call the methods of a model. The engine's kernels read the array that it
packs; `makespan.envs.llm.step_kernels` does the arithmetic for both, and its head explains the
numbers that describe a step.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np

from makespan.envs.llm.step_kernels import (
    CLOSED_FORM,
    HEADER,
    TABLE,
    decode_run_seconds,
    step_seconds,
)


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
        """Seconds of one step; the arguments are explained in the head of `step_kernels`."""
        ...

    def decode_run(self, sequences: int, context: int, steps: int) -> float:
        """Seconds of `steps` pure decode steps; see `decode_run_seconds`."""
        ...

    def with_overhead(self, milliseconds: float) -> Self:
        """The same model with this overhead per step."""
        ...

    def with_speed(self, factor: float) -> Self:
        """The same model, `factor` times as fast as it is now."""
        ...


# No `__eq__` here: `TableModel` would inherit it, and tables differ in more than these fields.
@dataclass(frozen=True, kw_only=True, eq=False)
class PackedModel(ABC):
    """A model that the kernels compute from one array.

    The fields are keyword-only, so that those of a subclass come first.

    Attributes:
        overhead_ms: what the engine adds to every step (scheduler, input preparation).
        speed: factor on the step rate; 2 halves every step, overhead included.
        source: where the numbers come from.
        error: how far they are from what they were fitted to or checked against.
    """

    overhead_ms: float = 0.0
    speed: float = 1.0
    source: str = "given by the user"
    error: str = "unknown"

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError(f"speed must be positive, not {self.speed}")

    @abstractmethod
    def _packed(self) -> np.ndarray:
        """A new array for `pack`: kind and layout as in `step_kernels`, speed and overhead in."""

    @cached_property
    def _array(self) -> np.ndarray:
        return self._packed()

    def pack(self) -> np.ndarray:
        """The model as the float64 array, shape (size,), that the kernels read; made once."""
        return self._array

    def with_overhead(self, milliseconds: float) -> Self:
        """The same model with this overhead per step."""
        return replace(self, overhead_ms=milliseconds)

    def with_speed(self, factor: float) -> Self:
        """The same model, `factor` times as fast as it is now."""
        return replace(self, speed=self.speed * factor)

    def step(
        self,
        decode_sequences: int = 0,
        decode_context: int = 0,
        prefill_sequences: int = 0,
        prefill_tokens: int = 0,
        prefill_work: float = 0.0,
        prefill_context: int = 0,
    ) -> float:
        """Seconds of one step; the arguments are explained in the head of `step_kernels`."""
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
class ClosedForm(PackedModel):
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
        overhead_ms, speed, source, error: see `PackedModel`.
    """

    linear: tuple[tuple[float, float], tuple[float, float]]
    decode: tuple[float, float, float]
    prefill: tuple[float, float, float]
    mixed: tuple[float, float, float, float, float] | None
    lm_head: tuple[float, float]

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def _packed(self) -> np.ndarray:
        """Shape (18,): the kind, then the coefficients in seconds."""
        packed = np.array(self._milliseconds()) * (1e-3 / self.speed)
        packed[0] = CLOSED_FORM
        return packed


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
class TableModel(PackedModel):
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
        overhead_ms, speed, source, error: see `PackedModel`.
    """

    dense: Grid
    head: Grid
    decode: Grid
    prefill: Grid
    mixed: Grid

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def _packed(self) -> np.ndarray:
        """The header, then the five grids as `Grid.flat` lays them out."""
        scale = 1e-3 / self.speed
        grids = (self.dense, self.head, self.decode, self.prefill, self.mixed)
        parts = [grid.flat(scale) for grid in grids]
        starts = HEADER + np.cumsum([0, *(len(part) for part in parts[:-1])])
        return np.concatenate([[TABLE, self.overhead_ms * scale], starts, *parts])
