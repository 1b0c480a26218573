"""Priority rules for projects, on one whose numbers can be checked by hand."""

import pytest

from makespan.baselines.jobshop.project_rules import RULES, dispatch_project
from makespan.traces.jobshop.project import Project

PROJECT = Project.of(
    [2],
    [
        (0, [0], [1, 2]),
        (3, [1], [3]),
        (4, [1], [3, 4]),
        (2, [1], [5]),
        (5, [2], [5]),
        (0, [0], []),
    ],
)
"""Its critical path is 0, 2, 4, 5, of 9."""

PRIORITIES = {
    "lft": [0, 7, 4, 9, 9, 9],
    "lst": [0, 4, 0, 7, 4, 9],
    "mts": [-5, -2, -3, -1, -1, 0],
    "slk": [0, 4, 0, 3, 0, 0],
    "grpw": [-7, -5, -11, -2, -5, 0],
    "spt": [0, 3, 4, 2, 5, 0],
}


@pytest.mark.parametrize("rule", RULES)
def test_priorities_are_as_they_are_defined(rule: str):
    assert RULES[rule](PROJECT).tolist() == PRIORITIES[rule]


@pytest.mark.parametrize("way", ["serial", "parallel"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_makes_a_schedule(rule: str, way):
    schedule = dispatch_project(PROJECT, rule, way)
    schedule.validate()
    # After the first two (4), the last two (2 and 5) do not fit beside each other.
    assert schedule.makespan >= 11


def test_an_unknown_rule_gets_the_nearest():
    with pytest.raises(ValueError, match="unknown project rule 'lpt'"):
        dispatch_project(PROJECT, "lpt", "serial")
