"""Rows of the rules for total tardiness: what is compared, and that each can fail."""

import numpy as np
import pytest

from makespan.baselines.jobshop.tardiness import RULES
from makespan.experiments.fidelity import tardiness
from makespan.experiments.fidelity.sources import Sources

SPREADS = {"edd": 28.2, "eddc": 27.9, "mdd": 5.5, "mddc": 5.9, "psk": 5.4}
"""Standard deviations of gaps in %, as measured on 40 instances of each class."""
SPREADS |= {"augmented_mdd": 2.4, "augmented_mddc": 1.7}


def gaps_of_mean(factor: float) -> dict[str, np.ndarray]:
    """As many as are measured, with the spread of those, and a mean of the published one's."""
    sign = np.where(np.arange(678) % 2, 1.0, -1.0)
    return {
        rule: factor * mean + SPREADS[rule] * sign for rule, mean in tardiness.PUBLISHED.items()
    }


@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (0.45, False), (1.55, False)])
def test_gaps_that_are_half_as_much_again_do_not_pass(monkeypatch, factor: float, passed: bool):
    monkeypatch.setattr(tardiness, "gaps", lambda: gaps_of_mean(factor))
    rows = list(tardiness.rows(Sources()))[len(tardiness.IN_EXAMPLE) :]
    assert [row.passed for row in rows] == [passed] * len(tardiness.PUBLISHED)


def test_the_interval_is_that_of_a_difference(monkeypatch):
    """By hand: of as many as the paper has, its square is twice that of one mean."""
    values = np.repeat([0.0, 4.0], tardiness.COUNTED // 2)
    monkeypatch.setattr(tardiness, "gaps", lambda: {"mdd": values})
    row = tardiness._mean_gap("mdd", 2.0)
    assert row.ours == 2
    assert row.aim == pytest.approx(2.576 * 2 * (2 / 680) ** 0.5 / 2, rel=1e-3)


def test_another_rule_fails_in_the_worked_example(monkeypatch):
    monkeypatch.setattr(tardiness, "gaps", lambda: gaps_of_mean(1.0))
    assert [row.passed for row in tardiness.rows(Sources())][:2] == [True, True]
    swapped = {**RULES, "mddc": RULES["mdd"], "mdd": RULES["mddc"]}
    monkeypatch.setattr(tardiness, "RULES", swapped)
    assert [row.passed for row in tardiness.rows(Sources())][:2] == [False, False]


def test_instances_on_which_nobody_need_be_late_are_left_out(monkeypatch):
    """Of wide and loose classes hardly any are left, and every gap is finite."""
    monkeypatch.setattr(tardiness, "JOBS", 8)
    tardiness.gaps.cache_clear()
    found = tardiness.gaps()
    tardiness.gaps.cache_clear()
    assert set(found) == set(tardiness.PUBLISHED)
    for gaps in found.values():
        assert 400 < len(gaps) < 800
        assert (gaps >= 0).all()
        assert np.isfinite(gaps).all()
