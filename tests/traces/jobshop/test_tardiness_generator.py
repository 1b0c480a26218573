"""Random jobs with due dates lie where their class says."""

import numpy as np
import pytest

from makespan.traces.jobshop.tardiness import LONGEST, RANGES, TIGHTNESS, jobs_with_due_dates


@pytest.mark.parametrize("tightness", TIGHTNESS)
@pytest.mark.parametrize("due_range", RANGES)
def test_due_dates_lie_in_their_interval(tightness: float, due_range: float):
    duration, due = jobs_with_due_dates(4000, tightness, due_range, np.random.default_rng(1))
    work = duration.sum()
    assert 1 <= duration.min() <= duration.max() == LONGEST - 1
    assert abs(duration.mean() - 50) < 2
    low, high = (1 - tightness + side * due_range / 2 for side in (-1, 1))
    assert low - 1e-3 <= due.min() / work <= due.max() / work <= high
    assert abs(due.mean() / work - (1 - tightness)) < 0.02


def test_the_same_seed_gives_the_same_jobs():
    one, other = (jobs_with_due_dates(9, 0.4, 0.6, np.random.default_rng(7)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
