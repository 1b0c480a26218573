"""Dispatching rules give the known gaps on Taillard's job shops."""

import pytest

from makespan.envs.jobshop.generation import Way
from makespan.experiments.fidelity.dispatching import CORSINI, GAPS, SIZES, WORDS, gaps, rows
from makespan.experiments.fidelity.sources import Sources


@pytest.mark.parametrize(("way", "rule"), GAPS)
def test_gaps_are_the_known_ones(way: Way, rule: str):
    assert gaps(way, rule) == pytest.approx(GAPS[way, rule], abs=0.051)  # they are rounded


@pytest.mark.parametrize("rule", CORSINI)
def test_gaps_are_the_published_ones_but_for_ties(rule: str):
    difference = gaps("nondelay", rule) - CORSINI[rule]
    assert abs(difference).max() < 1.9
    assert abs(difference).mean() < 0.8


def test_every_way_has_a_row_and_all_pass():
    found = list(rows(Sources()))
    assert len(found) == len(WORDS) + len(CORSINI)
    assert all(row.passed for row in found)
    assert all(len(known) == len(SIZES) for known in GAPS.values())
