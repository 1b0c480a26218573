"""Learners on one machine have the flow times of the paper."""

import numpy as np
import pytest

from makespan.baselines.jobshop.single_machine.fast import ends
from makespan.experiments.fidelity.single_machine import MEANS, POLICIES, RATIOS, draw, ratios, rows
from makespan.experiments.fidelity.sources import Sources

FIGURE = {10: [2.10, 1.72, 1.75, 1.64, 1.79, 1.55], 100: [2.31, 1.84, 1.75, 1.74, 1.98, 1.70]}
"""As read from the printed figure."""

pytestmark = pytest.mark.slow_in_python


@pytest.mark.parametrize(("jobs", "draws"), RATIOS)
def test_every_policy_has_the_ratio_of_the_paper(jobs: int, draws: int):
    assert len(RATIOS[jobs, draws]) == len(POLICIES)
    assert ratios(jobs, draws) == pytest.approx(RATIOS[jobs, draws], abs=6e-5)  # it is rounded


@pytest.mark.parametrize("jobs", FIGURE)
def test_the_data_is_that_of_the_figure(jobs: int):
    assert RATIOS[jobs, 400] == pytest.approx(FIGURE[jobs], abs=0.0051)


def test_every_number_of_jobs_has_a_row_and_all_pass():
    found = list(rows(Sources()))
    assert [row.passed for row in found] == [True] * len(RATIOS)


def test_the_first_draw():
    """Flow times of seed 0 with 10 jobs of each type, in the released data."""
    published = [134.61309542, 114.91943208, 114.14987862, 107.91309354]
    found = [ends(policy, draw(0, 10), MEANS).sum() for policy in POLICIES[:4]]
    np.testing.assert_allclose(found, published, rtol=1e-9)
