"""Arrival processes against their theory."""

import numpy as np
import pytest

from makespan.traces.arrivals import Gamma, MarkovModulated, Poisson

PROCESSES = [Poisson(4.0), Gamma(4.0, 0.5), Gamma(4.0, 3.0), MarkovModulated(4.0, 6.0, 20.0, 4.0)]


def times(process, count, seed=0):
    return process.times(np.random.default_rng(seed), count)


@pytest.mark.parametrize("process", PROCESSES)
def test_starts_at_0_and_never_goes_back(process):
    found = times(process, 5000)
    assert found.shape == (5000,)
    assert found[0] == 0
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("count", [0, 1])
def test_few_requests(process, count):
    assert times(process, count).tolist() == [0.0] * count


@pytest.mark.parametrize("process", PROCESSES)
def test_mean_rate(process):
    count = 400_000
    assert count / times(process, count)[-1] == pytest.approx(4, rel=0.03)
    faster = process.at_rate(8.0)
    assert faster.rate == 8
    assert count / times(faster, count)[-1] == pytest.approx(8, rel=0.03)


@pytest.mark.parametrize(("process", "cv"), list(zip(PROCESSES, [1, 0.5, 3], strict=False)))
def test_coefficient_of_variation(process, cv):
    gaps = np.diff(times(process, 400_000))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02)


def test_variance_of_counts_of_the_markov_modulated_process():
    # Fischer and Meier-Hellstern 1993: the index of dispersion of counts tends to
    # 1 + 2 p q (a - b)^2 / (rate (1/A + 1/B)), with a, b the two rates, A, B the mean stays,
    # and p, q the shares of time.
    process = MarkovModulated(rate=4.0, burst=6.0, calm_s=20.0, busy_s=4.0)
    calm, busy = process.calm_rate, 6 * process.calm_rate
    assert calm * 20 / 24 + busy * 4 / 24 == pytest.approx(4)
    limit = 1 + 2 * (20 / 24) * (4 / 24) * (busy - calm) ** 2 / (4 * (1 / 20 + 1 / 4))
    found = times(process, 2_000_000)
    counts, _ = np.histogram(found, np.arange(0, found[-1], 200.0))
    assert counts.var() / counts.mean() == pytest.approx(limit, rel=0.12)


def test_a_burst_of_1_is_poisson():
    gaps = np.diff(times(MarkovModulated(4.0, 1.0), 200_000))
    assert gaps.std() / gaps.mean() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poisson(0), "rate must be positive, not 0"),
        (lambda: Gamma(-1), "rate must be positive"),
        (lambda: Gamma(1, 0), "cv must be positive"),
        (lambda: MarkovModulated(busy_s=0), "busy_s must be positive"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
