"""The checks of job-shop agents and proofs: they pass, and they can fail."""

import dataclasses
import math

import numpy as np
import pytest

from makespan.agents.jobshop.dynamic import DynamicWorld
from makespan.baselines.jobshop import dispatch, dynamic_rules, tardiness
from makespan.baselines.jobshop.improvement import RandomSwap
from makespan.envs.jobshop.projects import ProjectSchedule
from makespan.experiments.fidelity import (
    command,
    improve_agent,
    jobshop,
    proofs,
    shop_agent,
    shop_floor_agents,
)
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.jobshop import BENCHMARKS, benchmark


@pytest.mark.slow_in_python
def test_the_agent_is_below_what_was_published_and_below_every_rule_of_every_size():
    rows = list(shop_agent.rows())
    assert len(rows) == 3
    assert all(isinstance(row, Row) and row.passed for row in rows)


def test_an_agent_that_is_no_better_does_not_pass(monkeypatch):
    same = np.full(8, 13.0), np.full(8, 8.5)
    monkeypatch.setattr(shop_agent, "agent_gaps", lambda *_: same)
    greedy, best, sizes = shop_agent.rows()
    assert isinstance(greedy, Row)
    assert isinstance(best, Row)
    assert isinstance(sizes, Row)
    assert (greedy.passed, best.passed, sizes.passed) == (False, False, False)
    assert sizes.ours == 3  # 50x15, 50x20 and 100x20


@pytest.mark.slow_in_python
def test_the_agent_that_swaps_is_below_what_was_published_and_chance_is_not(monkeypatch):
    of_15x15 = {"15x15": improve_agent.L2S["15x15"]}
    (row,) = improve_agent.rows(of_15x15)
    assert isinstance(row, Row)
    assert row.passed
    assert row.ours > 0
    monkeypatch.setattr(improve_agent.LearnedSwaps, "load", lambda: RandomSwap(0))
    (chance,) = improve_agent.rows(of_15x15)
    assert isinstance(chance, Row)
    assert not chance.passed


def test_the_agents_of_shops_that_run_or_block_are_below_every_rule(monkeypatch):
    # Those of the best rules, and fewer episodes, to save time.
    monkeypatch.setattr(shop_floor_agents, "LIMITS", (0.75, 0.65))
    best = {name: dynamic_rules.POLICIES[name] for name in ("tail_p", "fdd_tail")}
    monkeypatch.setattr(dynamic_rules, "POLICIES", best)
    monkeypatch.setitem(shop_floor_agents.EPISODES, "failing", 1000)
    rows = list(shop_floor_agents.rows())
    assert [row.passed for row in rows] == [True, True]
    assert all(0.9 < row.ours < 1 for row in rows)


def test_an_agent_that_is_a_rule_is_no_worse_than_itself_and_a_worse_one_fails(monkeypatch):
    rules = {name: lambda name=name: dynamic_rules.policy(name) for name in ("spt", "tail_p")}
    draw = DynamicWorld().draw
    row = shop_floor_agents._row("", rules["tail_p"], rules, draw, episodes=5)
    assert row.ours == 1
    assert row.passed is True  # an interval of no width: it is as good as itself
    row = shop_floor_agents._row("", rules["spt"], rules, draw, episodes=5)
    assert row.passed is False


@pytest.mark.parametrize("proof", proofs.QUICK, ids=lambda proof: f"{proof.name}, {proof.kind}")
def test_what_is_not_proved_in_time_does_not_pass(proof):
    row = proofs._row(dataclasses.replace(proof, limit_s=1e-3))
    assert isinstance(row, Row)
    assert math.isnan(row.ours)
    assert row.passed is False


@pytest.mark.parametrize("name", ["ft06", "la01"])
def test_a_job_shop_as_a_project_has_the_same_schedules(name: str):
    shop = benchmark(name)
    project, schedule = proofs.as_project(shop), dispatch(shop, "tail_p", "nondelay")
    same = ProjectSchedule(project, schedule.start)
    same.validate()
    assert same.makespan == schedule.makespan
    for task in np.flatnonzero(schedule.start):
        earlier = schedule.start.copy()
        earlier[task] -= 1  # it waited for its job or its machine
        with pytest.raises(ValueError, match=f"task {task}|resource {shop.machine[task]}"):
            ProjectSchedule(project, earlier).validate()


def test_the_optima_are_those_that_are_known():
    for proof in (*proofs.QUICK, *proofs.LONG):
        known = BENCHMARKS[proof.name]
        bounds = known.blocking if proof.kind == proofs.BLOCKING else known
        assert bounds is not None
        assert (bounds.upper, bounds.is_solved) == (proof.optimum, True)


def test_an_optimum_of_projects_that_is_wrong_does_not_pass():
    project = next(proof for proof in proofs.QUICK if proof.kind == proofs.PROJECT)
    row = proofs._row(dataclasses.replace(project, optimum=project.optimum - 1))
    assert isinstance(row, Row)
    assert row.passed is False


def test_tardiness_that_is_not_proved_or_not_the_least_is_not_counted(monkeypatch):
    monkeypatch.setattr(proofs, "RANGES", (0.4,))
    fair = proofs._least_tardiness()
    assert isinstance(fair, Row)
    assert (fair.reference, fair.ours, fair.passed) == (4, 4, True)
    with monkeypatch.context() as patch:
        patch.setattr(proofs, "optimal", tardiness.edd)
        row = proofs._least_tardiness()
    assert isinstance(row, Row)
    assert row.passed is False
    monkeypatch.setattr(proofs, "LATE_LIMIT_S", 1e-3)
    row = proofs._least_tardiness()
    assert isinstance(row, Row)
    assert (row.ours, row.passed) == (0, False)


def test_the_long_rows_are_made_only_if_asked_for(monkeypatch):
    monkeypatch.setattr(proofs, "LONG", proofs.QUICK[:1])
    monkeypatch.setattr(proofs, "TAILLARD_S", 0.1)
    monkeypatch.setattr(proofs, "RELINKING_STEPS", 10)
    checks = command.open_checks(command.FidelityConfig(worlds=("jobshop",), long=True))
    assert len(checks) == len(jobshop.CHECKS) + 1
    proved, close = checks["jobshop: what takes long"](Sources(None, None))
    assert isinstance(proved, Row)
    assert proved.passed
    assert isinstance(close, Row)
    assert 0 < close.ours < 20
    assert close.passed is False


def test_without_the_libraries_the_rows_say_what_is_missing(monkeypatch):
    for module in (proofs, jobshop):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    missing = [*proofs.rows(Sources(None, None)), proofs._taillard(), *jobshop.trained_rows()]
    assert all(isinstance(row, Missing) for row in missing)
