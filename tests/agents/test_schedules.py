"""Learning rates: every schedule by name, its ends, and a point worked out by hand."""

import pickle
from itertools import pairwise

import pytest

from makespan.agents.schedules import SCHEDULES, WARM_UP, schedule

WARMED_UP = {"wsd", "power"}
"""Begin at 0 and rise."""


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_begins_at_its_peak_and_ends_at_zero(name: str) -> None:
    rate = schedule(name, 2e-3)
    top = 1 - WARM_UP if name in WARMED_UP else 1.0
    assert rate(top) == pytest.approx(2e-3)
    assert rate(1.0) == (0.0 if name in WARMED_UP else pytest.approx(2e-3))
    assert rate(0.0) == pytest.approx(2e-3 if name == "constant" else 0.0, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_never_leaves_its_range_and_never_rises_again(name: str) -> None:
    shares = [SCHEDULES[name](left / 1000) for left in range(1000, -1, -1)]
    assert all(0 <= share <= 1 + 1e-12 for share in shares)
    falling = shares[round(1000 * WARM_UP) :] if name in WARMED_UP else shares
    assert all(later <= sooner + 1e-12 for sooner, later in pairwise(falling))


@pytest.mark.parametrize(
    ("name", "left", "share"),
    [
        ("constant", 0.3, 1.0),
        ("linear", 0.3, 0.3),
        ("cosine", 0.5, 0.5),
        ("cosine", 0.25, 0.14644661),
        ("rex", 0.5, 2 / 3),
        ("wsd", 0.975, 0.5),
        ("wsd", 0.5, 1.0),
        ("wsd", 0.1, 0.5),
        ("power", 0.8, 4**-0.51),
        ("power", 0.05, 0.5 * 19**-0.51),
        ("uba", 0.5, 2 / 3),
    ],
)
def test_points_worked_out_by_hand(name: str, left: float, share: float) -> None:
    assert SCHEDULES[name](left) == pytest.approx(share)


def test_uba_is_the_cosine_at_phi_2() -> None:
    for left in (0.9, 0.5, 0.2):
        assert SCHEDULES["uba"](left, phi=2.0) == pytest.approx(SCHEDULES["cosine"](left))  # type: ignore[call-arg]


def test_progress_beyond_the_ends_is_cut() -> None:
    """The last rollout may go past the steps that were asked for."""
    assert schedule("linear", 1e-3)(-0.01) == 0.0
    assert schedule("linear", 1e-3)(1.01) == 1e-3


def test_schedules_cross_processes() -> None:
    rate = schedule("rex", 1e-3)
    assert pickle.loads(pickle.dumps(rate)) == rate


def test_an_unknown_schedule_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown schedule 'cosin'\. Did you mean 'cosine'"):
        schedule("cosin", 1e-3)
