"""Fit a closed-form step time to measured steps, and say how well it predicts others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makespan.envs.llm.step_time import ClosedForm
from makespan.experiments.live.sweep import KINDS, Kind, Measurement

FEWEST: dict[Kind, int] = {"prefill": 8, "decode": 6, "mixed": 12}
"""Fewest measurements of each kind, at least twice the coefficients that only it determines."""

FOLDS = 5
OUTLIER = 0.1
"""Relative error from which a measurement counts as disturbed and loses weight (soft L1)."""


class TooFewPointsError(ValueError):
    """The measurements do not determine a step-time model."""


@dataclass(frozen=True)
class Columns:
    """Measurements as arrays of shape (n,); see `Measurement`."""

    decodes: np.ndarray
    context: np.ndarray
    tokens: np.ndarray
    work: np.ndarray
    seconds: np.ndarray

    @classmethod
    def of(cls, measured: Sequence[Measurement]) -> "Columns":
        rows = [
            (m.decode_sequences, m.decode_context, m.prefill_tokens, m.prefill_work, m.seconds)
            for m in measured
        ]
        return cls(*np.array(rows, np.float64).reshape(-1, 5).T)


def require_enough(measured: Sequence[Measurement]) -> None:
    """Refuse measurements that are too few for a fit.

    Raises:
        TooFewPointsError: the message counts what there is and what it takes.
    """
    have = {kind: sum(m.kind == kind for m in measured) for kind in KINDS}
    if any(have[kind] < FEWEST[kind] for kind in KINDS):
        counts = ", ".join(f"{have[kind]} of {FEWEST[kind]} {kind}" for kind in KINDS)
        raise TooFewPointsError(f"too few points for a fit: {counts}; give it more time")


def fit(measured: Sequence[Measurement]) -> ClosedForm:
    """The closed form with the least relative error, disturbed measurements counted less.

    What every step costs (linear layers of an almost empty batch, head, scheduler) cannot be told
    apart from outside: all of it is in the first line's constant, and the overhead is 0.

    Raises:
        TooFewPointsError: see `require_enough`.
    """
    require_enough(measured)
    return _fit(measured)


def errors(form: ClosedForm, measured: Sequence[Measurement]) -> np.ndarray:
    """Relative errors of a model, float64 (n,): positive where it takes steps for too long."""
    predicted = [
        form.step(
            decode_sequences=m.decode_sequences,
            decode_context=m.decode_context,
            prefill_sequences=int(m.prefill_tokens > 0),
            prefill_tokens=m.prefill_tokens,
            prefill_work=m.prefill_work,
        )
        for m in measured
    ]
    return np.array(predicted) / np.array([m.seconds for m in measured]) - 1.0


def cross_validate(
    measured: Sequence[Measurement], seed: int = 0
) -> dict[Kind, tuple[float, float]]:
    """Mean and largest absolute relative error by kind, on steps that the fit had not seen.

    The measurements are dealt into `FOLDS` hands, each predicted by a fit to the others.

    Raises:
        TooFewPointsError: see `require_enough`.
    """
    require_enough(measured)
    hand = np.random.default_rng(seed).permutation(len(measured)) % FOLDS
    off = np.empty(len(measured))
    for k in range(FOLDS):
        form = _fit([m for m, h in zip(measured, hand, strict=True) if h != k])
        off[hand == k] = errors(form, [m for m, h in zip(measured, hand, strict=True) if h == k])
    kinds = np.array([m.kind for m in measured])
    return {
        kind: (float(np.abs(off[kinds == kind]).mean()), float(np.abs(off[kinds == kind]).max()))
        for kind in KINDS
    }


def _fit(measured: Sequence[Measurement]) -> ClosedForm:
    from scipy.optimize import least_squares

    columns = Columns.of(measured)

    def residuals(x: np.ndarray) -> np.ndarray:
        return _milliseconds(x, columns) / (columns.seconds * 1e3) - 1.0

    fits = [
        least_squares(residuals, start, bounds=(0.0, np.inf), loss="soft_l1", f_scale=OUTLIER)
        for start in _starts(columns)
    ]
    return _closed_form(min(fits, key=lambda found: found.cost).x)


# The coefficients as one vector: a, b, c, d; decode per sequence, per context token; prefill base,
# per unit of work; mixed base, per sequence, per context token, per prompt token, per unit of work.


def _milliseconds(x: np.ndarray, at: Columns) -> np.ndarray:
    a, b, c, d, *attention = x
    tokens = at.decodes + at.tokens
    linear = np.maximum(a + b * tokens, c + d * tokens)
    prefill_base, prefill_work = attention[2:4]
    decode = attention[0] * at.decodes + attention[1] * at.context
    prefill = prefill_base + prefill_work * at.work
    base, per_sequence, per_context, per_token, per_work = attention[4:]
    mixed = base + per_sequence * at.decodes + per_context * at.context
    mixed = mixed + per_token * at.tokens + per_work * at.work
    joint = np.where(at.tokens > 0, prefill, decode)
    return linear + np.where((at.tokens > 0) & (at.decodes > 0), mixed, joint)


def _starts(at: Columns) -> list[np.ndarray]:
    """Where the search begins: the knee of the two lines at several numbers of tokens."""
    milliseconds = at.seconds * 1e3
    floor = milliseconds.min()
    biggest = int(np.argmax(np.where(at.decodes == 0, at.tokens, 0)))
    slope = milliseconds[biggest] / at.tokens[biggest]
    context = (milliseconds / np.maximum(at.context, 1))[at.tokens == 0].min()
    attention = [slope, context / 2, floor / 10, slope / at.tokens[biggest] / 2]
    mixed = [floor / 10, slope, context / 2, slope / 10, slope / at.tokens[biggest] / 2]
    lines = [[floor, slope * (1 - knee), floor * knee, slope] for knee in (0.1, 0.5, 0.9)]
    return [np.array([*line, *attention, *mixed]) for line in lines]


def _closed_form(x: np.ndarray) -> ClosedForm:
    a, b, c, d, per_sequence, per_context, base, work, *mixed = (float(v) for v in x)
    return ClosedForm(
        linear=((a, b), (c, d)),
        decode=(0.0, per_sequence, per_context),
        prefill=(base, 0.0, work),
        mixed=(mixed[0], mixed[1], mixed[2], mixed[3], mixed[4]),
        lm_head=(0.0, 0.0),
    )
