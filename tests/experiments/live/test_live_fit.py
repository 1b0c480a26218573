"""Fitting a closed form to measured steps."""

import numpy as np
import pytest

from makespan.envs.llm.step_time import ClosedForm
from makespan.experiments.live.fit import (
    FEWEST,
    TooFewPointsError,
    cross_validate,
    errors,
    fit,
)
from makespan.experiments.live.sweep import KINDS, Measurement

TRUTH = ClosedForm(
    linear=((15.0, 0.03), (5.0, 0.09)),
    decode=(0.0, 0.02, 1.4e-4),
    prefill=(0.5, 0.0, 4.5e-6),
    mixed=(1.0, 0.04, 3.0e-4, 4e-4, 4.7e-6),
    lm_head=(0.0, 0.0),
)
"""About that of an RTX 4090 with an 8B model."""


def steps(count, noise=0.0, disturbed=0.0, seed=0):
    """Measured steps of all kinds, with relative noise, and a share that took thrice as long."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        kind = KINDS[i % 3]
        batch = 0 if kind == "prefill" else int(np.exp(rng.uniform(0, np.log(200))))
        context = batch * int(rng.integers(16, 2000))
        tokens = 0 if kind == "decode" else int(np.exp(rng.uniform(0, np.log(2048))))
        work = tokens * (rng.integers(2) * int(rng.integers(1000)) + tokens / 2)
        seconds = TRUTH.step(batch, context, int(tokens > 0), tokens, work)
        seconds *= np.exp(noise * rng.standard_normal()) * (3.0 if rng.random() < disturbed else 1)
        found.append(Measurement(kind, batch, context, tokens, work, seconds))
    return found


def test_exact_steps_are_fitted_exactly():
    assert np.abs(errors(fit(steps(150)), steps(90, seed=1))).max() < 0.01


def test_noise_averages_out_and_disturbed_steps_hardly_count():
    measured = steps(300, noise=0.05, disturbed=0.05)
    off = np.abs(errors(fit(measured), steps(90, seed=1)))
    assert off.mean() < 0.02


def test_cross_validation_finds_the_noise():
    off = cross_validate(steps(300, noise=0.05))
    for kind in KINDS:
        mean, largest = off[kind]
        assert 0.03 < mean < 0.06
        assert mean < largest < 0.3


def test_cross_validation_sees_what_a_fit_to_all_does_not():
    few = steps(42, noise=0.2)
    inside = np.abs(errors(fit(few), few)).mean()
    assert np.mean([mean for mean, _ in cross_validate(few).values()]) > inside


def test_too_few_points_are_refused():
    measured = [m for m in steps(150) if m.kind != "decode"]
    measured += steps(150)[1 : 3 * (FEWEST["decode"] - 1) : 3]
    for use in (fit, cross_validate):
        with pytest.raises(TooFewPointsError, match="5 of 6 decode"):
            use(measured)
