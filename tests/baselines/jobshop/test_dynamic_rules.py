"""Dispatching rules in a shop that runs."""

from dataclasses import replace

import numpy as np
import pytest

from makespan.baselines.jobshop import RULES, dispatch
from makespan.baselines.jobshop.dynamic_rules import POLICIES, PRIORITIES, policy
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.dynamic import DynamicJobShop
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.traces.jobshop import benchmark
from makespan.traces.jobshop.arrivals import with_due_dates

DECISION = DispatchDecision(
    time=10.0,
    machine=0,
    job=np.array([2, 5]),
    operation=np.array([1, 0]),
    duration=np.array([4.0, 2.0]),
    tail=np.array([6.0, 3.0]),
    through=np.array([9.0, 2.0]),
    operations_left=np.array([3, 2]),
    ready=np.array([8.0, 9.0]),
    release=np.array([1.0, 9.0]),
    due=np.array([31.0, 14.0]),
    weight=np.array([1.0, 2.0]),
    next_machine=np.array([1, -1]),
    next_duration=np.array([5.0, 0.0]),
    up=np.array([True, True]),
    down_for=np.zeros(2),
    left=np.array([0.0, 3.0]),
    queue_work=np.array([6.0, 7.0]),
    queue_length=np.array([2, 1]),
    free_in=np.array([0.0, 3.0]),
    load=np.array([6.0, 12.0]),
    comes_in=np.array([3.0, np.inf]),
    comes_tail=np.array([1.0, 0.0]),
    longest=10.0,
    jobs_in_system=4,
    work_in_system=40.0,
    mean_duration=3.0,
)

BY_HAND = {
    "spt": [4, 2],
    "lpt": [-4, -2],
    "mwkr": [-10, -5],
    "tail": [-6, -3],
    "mor": [-3, -2],
    "fdd_mwkr": [9 / 10, 2 / 5],
    "fdd_tail": [9 / 6, 2 / 3],
    "tail_p": [-6 / 4, -3 / 2],
    "fifo": [8, 9],
    "edd": [31, 14],
    "mdd": [31, 15],  # job 5 cannot be done before 15
    "mod": [1 + 30 * 9 / 15, 12],  # 19; job 5: 9 + 5 * 2 / 5 = 11, but it takes until 12
    "cr": [21 / 10, 4 / 5],
    # Slack 31 - 10 - 10 = 11, less 2 * 6 < 0; job 5 is late. Both count in full.
    "atc": [-1 / 4, -2 / 2],
    "winq": [10, 0],
}


@pytest.mark.parametrize("rule", PRIORITIES)
def test_priorities_are_as_they_are_defined(rule: str):
    assert PRIORITIES[rule](DECISION).tolist() == pytest.approx(BY_HAND[rule])


def test_atc_discounts_by_slack():
    decision = replace(DECISION, due=np.array([44.0, 14.0]))
    slack, scale = 44 - 10 - 10 - 2 * 6, 3 * 3
    expected = -np.exp(-slack / scale) / 4
    assert PRIORITIES["atc"](decision)[0] == pytest.approx(expected)


@pytest.mark.parametrize("rule", sorted(set(RULES) & set(POLICIES)))
def test_a_shop_in_which_nothing_happens_is_scheduled_without_delay(rule: str):
    for name in ("ft06", "la16", "ta01", "ta11", "swv06"):
        shop = with_due_dates(benchmark(name), 1.5)
        run = simulate(DynamicJobShop(shop), policy(rule))
        schedule = run.schedule()
        start = np.empty(shop.operations)
        start[schedule.operation] = schedule.start
        static = dispatch(shop, rule, "nondelay")
        np.testing.assert_array_equal(start, static.start)
        assert schedule.makespan == static.makespan


def test_every_rule_schedules_jobs_without_due_dates():
    for rule in POLICIES:
        simulate(DynamicJobShop(benchmark("ft06")), policy(rule)).schedule().validate()


def test_chance_is_seeded():
    decisions = [DECISION] * 20
    one, same, other = (list(map(policy("random", seed), decisions)) for seed in (1, 1, 2))
    assert one == same != other
    assert set(one) == {0, 1}


def test_an_unknown_rule_gets_the_nearest():
    with pytest.raises(ValueError, match=r"unknown rule 'atcc'. Did you mean 'atc'"):
        policy("atcc")
