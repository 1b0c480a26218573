"""Dispatching rules where operations have a choice of machines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop import RULES, dispatch
from makespan.baselines.jobshop.flexible import FLEXIBLE_RULES, dispatch_flexible
from makespan.traces.jobshop import JobShop

THREE = JobShop.flexible([[[(0, 4), (1, 6)]], [[(0, 5), (1, 2)]], [[(1, 3)]]])


@pytest.mark.parametrize(
    ("rule", "start", "option"),
    [
        # Machine 0 chooses first, between jobs 0 and 1, then machine 1 between what is left.
        ("spt", [0, 0, 2], [0, 3, 4]),
        ("lpt", [0, 0, 6], [1, 2, 4]),
    ],
)
def test_schedules_worked_out_by_hand(rule, start, option):
    schedule = dispatch_flexible(THREE, rule)
    schedule.validate()
    assert schedule.start.tolist() == start
    assert schedule.option.tolist() == option


@st.composite
def shops(draw: st.DrawFn, most_options: int, shortest: int) -> JobShop:
    """Up to five jobs on up to three machines."""
    machines = draw(st.integers(1, 3))
    on = st.tuples(st.integers(0, machines - 1), st.integers(shortest, 6))
    options = st.lists(on, min_size=1, max_size=most_options, unique_by=lambda option: option[0])
    jobs = draw(st.lists(st.lists(options, min_size=1, max_size=4), min_size=1, max_size=5))
    return JobShop.flexible(jobs, machines)


@settings(deadline=None, max_examples=50)  # it may have to be compiled
@given(shops(most_options=3, shortest=0), st.sampled_from(FLEXIBLE_RULES))
def test_schedules_are_valid_and_no_machine_waits_that_could_work(shop, rule):
    schedule = dispatch_flexible(shop, rule)
    schedule.validate()
    first = shop.first_operation[:-1].tolist()
    for operation, start in enumerate(schedule.start.tolist()):
        ready = 0 if operation in first else int(schedule.end[operation - 1])
        options = slice(*shop.first_option[operation : operation + 2].tolist())
        for machine in shop.machine[options].tolist():
            here = schedule.machine == machine
            for moment in range(ready, start):
                assert (here & (schedule.start <= moment) & (moment < schedule.end)).any()


@settings(deadline=None, max_examples=50)  # it may have to be compiled
@given(shops(most_options=1, shortest=1), st.sampled_from(FLEXIBLE_RULES))
def test_without_a_choice_they_are_those_of_the_rule_without_delay(shop, rule):
    expected = dispatch(shop, rule)
    np.testing.assert_array_equal(dispatch_flexible(shop, rule).start, expected.start)


def test_which_rules_there_are():
    assert set(RULES) - set(FLEXIBLE_RULES) == {"mor_spt", "tail_p_wait"}
    with pytest.raises(ValueError, match="Did you mean 'spt'"):
        dispatch_flexible(THREE, "sptt")
