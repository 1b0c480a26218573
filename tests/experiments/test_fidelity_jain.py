"""The check that trains the published router: what it says of figures, without training."""

import numpy as np
import pytest

from makespan.experiments.fidelity import command, jain


def test_the_order_is_counted_by_neighbours():
    kept = [jain.ordering(means).ours for means in ([0, 1, 2, 3], [0, -5, 2, 1], [0, -1, -2, -3])]
    assert kept == [3, 1, 0]
    assert jain.ordering([0.0, 4.35, 7.79, 11.43]).passed
    assert not jain.ordering([0.0, 4.35, 11.43, 7.79]).passed


def test_the_interval_by_hand():
    values = np.array([1.0, 3.0] * 5)
    half = 2.262 * np.sqrt(10 / 9) / np.sqrt(10)
    assert jain.interval(values) == f"95 % interval {2 - half:.1f} to {2 + half:.1f}"


def test_agents_are_told_apart():
    percent = np.stack([np.full(10, 4.0), np.full(10, 8.0)])
    assert jain.describe(percent) == "95 % interval 6.0 to 6.0, agents 4.0 to 8.0"


def test_the_runs_are_not_those_of_training_or_tuning():
    from makespan.agents.llm.guided.train import test_seeds, tuning_seeds

    others = {
        *tuning_seeds(),
        *(seed for agent in range(jain.AGENTS) for seed in test_seeds(agent)),
    }
    assert not others & set(jain.SEEDS)


@pytest.mark.parametrize("trained", [False, True])
def test_agents_are_trained_only_when_asked(trained):
    checks = command.open_checks(command.FidelityConfig(("llm",), trained=trained))
    assert ("llm: trained agents" in checks) == trained


def test_the_rows_of_agents_that_save_what_the_paper_says(monkeypatch):
    monkeypatch.setattr(jain, "SEEDS", jain.SEEDS[:2])
    monkeypatch.setattr(jain, "saved", lambda variant: np.full((3, 2), jain.SAVED[variant]))
    robin, *variants, order = jain.rows()
    assert robin.ours == pytest.approx(robin.reference, rel=0.5)  # overloaded as theirs
    assert [row.difference for row in variants] == pytest.approx([0, 0, 0])
    assert order.passed
