"""Dispatching rules: their priorities on a small shop."""

from dataclasses import replace
from math import log

import numpy as np
import pytest

from makespan.baselines.jobshop import RULES, dispatch
from makespan.traces.jobshop import JobShop

SHOP = replace(JobShop.of([[(0, 3), (1, 2), (2, 4)], [(1, 5), (0, 1)]]), due=np.array([20, 10]))

PRIORITIES = {
    "spt": [3, 2, 4, 5, 1],
    "lpt": [-3, -2, -4, -5, -1],
    "mwkr": [-9, -6, -4, -6, -1],
    "tail": [-6, -4, 0, -1, 0],
    "mor": [-3, -2, -1, -2, -1],
    "mor_spt": [-2.5, -5 / 3, -1 / 3, -7 / 6, -5 / 6],
    "fdd_mwkr": [3 / 9, 5 / 6, 9 / 4, 5 / 6, 6],
    "fdd_tail": [3 / 6, 5 / 4, 9e9, 5, 6e9],
    "tail_p": [-2, -2, 0, -1 / 5, 0],
    "tail_p_wait": [-log(7 / 4), -log(5 / 3), -log(1 / 5), -log(2 / 6), -log(1 / 2)],
    "fifo": [0, 0, 0, 0, 0],
    "edd": [20, 20, 20, 10, 10],
}


@pytest.mark.parametrize("rule", RULES)
def test_priorities_are_as_they_are_defined(rule: str):
    assert RULES[rule](SHOP).tolist() == pytest.approx(PRIORITIES[rule])


def test_an_unknown_rule_gets_the_nearest():
    with pytest.raises(ValueError, match=r"unknown rule 'mwk'. Did you mean 'mwkr'"):
        dispatch(SHOP, "mwk")
