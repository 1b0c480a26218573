"""The arithmetic over regimes, on hand-made latencies."""

import numpy as np
import pytest

from makespan.experiments.regimes import summary
from makespan.experiments.regimes.summary import summarise

REGIMES = ("calm", "busy")


def seeds(*means):
    """Two seeds around each mean: (R, 2)."""
    return [[0.5 * mean, 1.5 * mean] for mean in means]


def rows(outcome):
    return {row["policy"]: row for row in outcome["policies"]}


LATENCY = {
    "lmetric": seeds(2, 8),
    "random": seeds(4, 4),
    "round_robin": seeds(8, 8),
    "agent": seeds(1, 4),
}
OUTCOME = summarise(list(LATENCY), REGIMES, np.array(list(LATENCY.values())))


def test_rules_are_baselines_and_not_agents_or_policies_of_ones_own(monkeypatch):
    monkeypatch.setitem(summary.POLICIES, "agent_shipped", "somewhere:else")
    names = ("lmetric", "agent", "agent_shipped", "mine")
    assert [summary.is_rule(name) for name in names] == [True, False, False, False]


def test_the_best_rules():
    assert OUTCOME["best_rules"] == {"calm": "lmetric", "busy": "random"}
    # Geometric means 4, 4 and 8: of two that are equal the first, however good the agent is.
    assert OUTCOME["best_single_rule"] == "lmetric"


def test_policies_come_lowest_first():
    names = [row["policy"] for row in OUTCOME["policies"]]
    assert names == ["agent", "lmetric", "random", "round_robin"]


@pytest.mark.parametrize(
    ("policy", "geometric", "arithmetic"),
    [
        ("agent", 0.5**0.5, 0.75),  # 1/2 and 4/4
        ("lmetric", 2**0.5, 1.5),  # 2/2 and 8/4
        ("round_robin", 8**0.5, 3.0),  # 8/2 and 8/4
    ],
)
def test_ratios_to_the_best_rule_of_each_regime(policy, geometric, arithmetic):
    averages = rows(OUTCOME)[policy]["to_best_rule"]
    # Every seed says the same, so no resample says anything else.
    for name, value in (("geometric", geometric), ("arithmetic", arithmetic)):
        assert averages[name] == pytest.approx(dict.fromkeys(("mean", "low", "high"), value))


def test_ratios_to_the_best_single_rule():
    averages = rows(OUTCOME)["random"]["to_best_single_rule"]  # 4/2 and 4/8
    assert averages["geometric"]["mean"] == pytest.approx(1.0)
    assert averages["arithmetic"]["mean"] == pytest.approx(1.25)


def test_the_worst_regime_against_lmetric():
    worst = {policy: row["worst_to_lmetric"] for policy, row in rows(OUTCOME).items()}
    assert (worst["random"]["regime"], worst["random"]["ratio"]["mean"]) == ("calm", 2.0)
    assert worst["round_robin"]["ratio"]["mean"] == 4.0
    assert worst["agent"]["ratio"]["mean"] == 0.5
    assert worst["lmetric"]["ratio"]["mean"] == 1.0


def test_every_regime_has_its_ratio():
    by_regime = rows(OUTCOME)["agent"]["by_regime"]
    assert {regime: ratio["mean"] for regime, ratio in by_regime.items()} == {
        "calm": 0.5,
        "busy": 1.0,
    }


def test_intervals_are_paired_over_policies_and_regimes():
    """The hard seeds are hard for all, and a policy that is worse there is so in both regimes."""
    generator = np.random.default_rng(0)
    hard = np.exp(generator.normal(0, 1, size=10))
    excess = np.linspace(1.0, 1.2, 10)
    latency_s = np.array([[hard, 3 * hard], [hard * excess, 3 * hard * excess]])
    row = rows(summarise(["lmetric", "random"], REGIMES, latency_s))["random"]
    one, all_ = row["by_regime"]["calm"], row["to_best_rule"]["geometric"]
    assert one == pytest.approx(all_)
    assert one["mean"] == pytest.approx((hard * excess).sum() / hard.sum())
    assert 1.0 <= one["low"] < one["mean"] < one["high"] <= 1.2
    assert one["high"] - one["low"] < 0.15


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        own = generator.normal(1.1, 0.1, size=(1, 20))
        row = rows(summarise(["lmetric", "random"], ["calm"], np.array([own * 0 + 1, own])))
        interval = row["random"]["to_best_rule"]["geometric"]
        covered += interval["low"] <= 1.1 <= interval["high"]
    assert 85 <= covered <= 99


def test_one_seed_has_no_intervals():
    outcome = summarise(["lmetric", "random"], ["calm"], np.array([[[1.0]], [[2.0]]]))
    ratio = rows(outcome)["random"]["to_best_rule"]["geometric"]
    assert ratio["mean"] == 2.0
    assert np.isnan([ratio["low"], ratio["high"]]).all()


def test_without_rules_there_is_nothing_to_be_held_against():
    outcome = summarise(["agent", "mine"], REGIMES, np.array([seeds(2, 2), seeds(1, 1)]))
    assert (outcome["best_rules"], outcome["best_single_rule"]) == ({}, None)
    assert [row["policy"] for row in outcome["policies"]] == ["mine", "agent"]
    row = outcome["policies"][0]
    assert np.isnan(row["to_best_rule"]["geometric"]["mean"])
    assert row["worst_to_lmetric"]["regime"] is None


def test_a_policy_that_finishes_nothing_is_no_best_rule_and_comes_last():
    latency_s = np.array([seeds(np.nan, 1), seeds(2, 2)])
    outcome = summarise(["random", "lmetric"], REGIMES, latency_s)
    assert outcome["best_rules"] == {"calm": "lmetric", "busy": "random"}
    assert outcome["best_single_rule"] == "lmetric"
    assert outcome["policies"][1]["policy"] == "random"
    assert rows(outcome)["random"]["worst_to_lmetric"]["regime"] == "busy"
