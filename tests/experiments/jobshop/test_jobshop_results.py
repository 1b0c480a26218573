"""Gaps, intervals and curves of a comparison on job shops, on figures made up."""

import numpy as np
import pytest
from scipy import stats

from makespan.envs.jobshop.schedule import Schedule
from makespan.experiments.jobshop import results, table
from makespan.experiments.jobshop.cell import Cell
from makespan.experiments.jobshop.config import JobShopConfig
from makespan.experiments.jobshop.instances import Instance
from makespan.experiments.jobshop.report import verdict
from makespan.traces.jobshop import JobShop


def one_operation(name, machines=1):
    return Instance(JobShop.of([[(0, 10)]], machines, name))


def cell(policy, instance, makespan, seed=0, curve=(), seconds=1.0):
    schedule = Schedule.plain(instance.shop, np.array([makespan - 10])) if makespan else None
    return Cell(policy, instance, seed, schedule, seconds, np.array(curve).reshape(-1, 2))


def test_the_interval_of_one_group_is_that_of_student():
    values = np.random.default_rng(0).normal(3, 1, 7)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    estimate = results.interval_of_mean([values])
    assert estimate == pytest.approx({"mean": values.mean(), "low": low, "high": high})


def test_the_interval_of_two_groups_is_that_of_welch():
    """The mean of the groups' means is half their difference, were one of them negative."""
    draw = np.random.default_rng(1)
    one, other = draw.normal(3, 1, 5), draw.normal(1, 4, 9)
    welch = stats.ttest_ind(one, -other, equal_var=False).confidence_interval(0.95)
    estimate = results.interval_of_mean([one, other])
    assert (estimate["low"], estimate["high"]) == pytest.approx((welch.low / 2, welch.high / 2))


def test_no_interval_of_single_values_and_none_of_nan():
    assert np.isnan(results.interval_of_mean([np.array([1.0]), np.array([1.0, 2.0])])["low"])
    assert np.isnan(results.interval_of_mean([np.array([1.0, np.nan])])["mean"])
    same = results.interval_of_mean([np.array([2.0, 2.0])])
    assert same == {"mean": 2.0, "low": 2.0, "high": 2.0}


def test_each_size_has_the_same_weight_and_each_seed():
    a, b, c = one_operation("a"), one_operation("b"), one_operation("c", machines=2)
    best = [cell("best", i, 10) for i in (a, b, c)]
    other = [cell("other", a, 11), cell("other", b, 13), cell("other", c, 14, seed=0)]
    drawn = [cell("drawn", i, m, seed) for i in (a, b, c) for seed, m in enumerate((10, 20))]
    outcome = results.collect(JobShopConfig(), [a, b, c], [*best, *other, *drawn])
    assert outcome["sizes"] == ["1x1", "1x2"]
    assert [p["policy"] for p in outcome["policies"]] == ["best", "other", "drawn"]
    gaps = {p["policy"]: p["gap"]["mean"] for p in outcome["policies"]}
    assert gaps == pytest.approx({"best": 0, "other": (0.2 + 0.4) / 2, "drawn": 0.5})
    reached = {p["policy"]: p["at_best_known"] for p in outcome["policies"]}
    assert reached == {"best": 3, "other": 0, "drawn": 1.5}


def test_without_a_schedule_there_is_no_gap_and_the_policy_is_last():
    a, b = one_operation("a"), one_operation("b")
    cells = [cell("none", a, 10), cell("none", b, None), cell("some", a, 90), cell("some", b, 90)]
    outcome = results.collect(JobShopConfig(), [a, b], cells)
    assert [p["policy"] for p in outcome["policies"]] == ["some", "none"]
    assert np.isnan(outcome["policies"][1]["gap"]["mean"])
    assert outcome["policies"][1]["at_best_known"] == 1


def test_the_gap_over_time_begins_when_all_have_a_schedule_and_ends_with_the_time():
    a, b = one_operation("a"), one_operation("b")
    cells = [
        cell("p", a, 10, curve=[(1, 20), (4, 10)], seconds=5.0),
        cell("p", b, 10, curve=[(2, 30)], seconds=8.0),
    ]
    curve = results.gap_over_time(cells, {"a": 10, "b": 10})
    assert (curve["seconds"][0], curve["seconds"][-1]) == (2, 8)
    assert curve["gap"][0] == pytest.approx((1 + 2) / 2)
    assert curve["gap"][-1] == pytest.approx((0 + 2) / 2)
    falls = next(s for s, gap in zip(curve["seconds"], curve["gap"], strict=True) if gap < 1.4)
    assert 4 <= falls < 4.2
    none = [*cells, cell("p", one_operation("c"), None)]
    assert results.gap_over_time(none, {"a": 10, "b": 10, "c": 10})["gap"] == []


def test_the_verdict_names_what_cannot_be_told_apart():
    shops = [one_operation(name) for name in "abcd"]
    makespans = {"best": [11, 12, 13, 14], "close": [12, 11, 14, 14], "far": [21, 22, 23, 24]}
    cells = [
        cell(policy, shop, makespan)
        for policy, row in makespans.items()
        for shop, makespan in zip(shops, row, strict=True)
    ]
    outcome = results.collect(JobShopConfig(), shops, cells)
    assert verdict(outcome).endswith("This run cannot tell it from close.")
    outcome["policies"] = [p for p in outcome["policies"] if p["policy"] != "close"]
    assert "every other one is behind beyond chance" in verdict(outcome)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.50 s"), (0.0123, "12.3 ms"), (5.2e-5, "52.0 us"), (1234.0, "1,234 s")],
)
def test_durations_have_the_unit_that_suits(seconds, text):
    assert table.duration(seconds) == text


@pytest.mark.parametrize(
    ("instances", "line"),
    [
        ([one_operation("a")], "1 job shop: 1 of 1x1"),
        ([one_operation("a"), one_operation("b", 2)], "2 job shops: 1 of 1x1, 1 of 1x2"),
    ],
)
def test_the_heading_counts_the_job_shops(instances, line):
    cells = [cell("p", instance, 10) for instance in instances]
    assert table.headline(results.collect(JobShopConfig(), instances, cells)) == line


def test_percentages():
    assert table.percent({"mean": 0.123, "low": 0.1, "high": 0.146}) == "12.3 \u00b12.3"
    assert table.percent({"mean": 0.123, "low": np.nan, "high": np.nan}) == "12.3"
