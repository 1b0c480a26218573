"""`makespan/RCPSP-v0` and its simulation: worked episodes, the parallel way, what is observed."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import SeedSequence

from makespan.baselines.jobshop.project_rules import RULES, RulePolicy, dispatch_project
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.project.env import ProjectEnv
from makespan.envs.jobshop.project.observation import RESOURCE_FIELDS, TASK_FIELDS, Encoder, Rows
from makespan.envs.jobshop.project.simulation import ProjectRun, TaskDecision
from makespan.envs.jobshop.projects import generate_project
from makespan.traces.jobshop.layered import layered
from makespan.traces.jobshop.project import Project

PROJECT = Project.of([2], [(3, [1], [2]), (4, [1], [3]), (1, [2], []), (5, [2], [])])
"""Its critical path is 1, 3, of 9. In parallel: 0 and 1, at 4 either of the others; 10."""


@st.composite
def projects(draw: st.DrawFn) -> tuple[Project, np.ndarray]:
    """Up to six tasks, some of which take no time, with everything; and priorities with ties."""
    count = draw(st.integers(1, 6))
    capacity = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    tasks = []
    for task in range(count):
        demand = [draw(st.integers(0, most)) for most in capacity]
        later = range(task + 1, count)
        after = draw(st.lists(st.sampled_from(later))) if later else []
        tasks.append((draw(st.integers(0, 5)), demand, after))
    down = st.tuples(st.integers(0, len(capacity) - 1), st.integers(0, 12), st.integers(1, 4))
    pair = st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True)
    project = replace(
        Project.of(capacity, tasks),
        downtime=np.array([(r, at, at + long) for r, at, long in draw(st.lists(down, max_size=3))]),
        release=np.array([draw(st.integers(0, 9)) for _ in range(count)]),
        pairs=np.array(draw(st.lists(pair, max_size=3)) if count > 1 else []),
    )
    return project, np.array([draw(st.integers(0, 3)) for _ in range(count)], np.float64)


@settings(deadline=None, max_examples=200)
@given(projects())
def test_who_never_waits_makes_the_schedule_of_the_parallel_way(drawn):
    project, priority = drawn
    run = simulate(ProjectRun(project), lambda decision: decision.lowest(priority))
    expected = generate_project(project, priority, "parallel")
    assert run.schedule.start.tolist() == expected.start.tolist()
    assert run.log["end"].tolist() == expected.end.tolist()


@pytest.mark.parametrize("rule", RULES)
def test_rules_decide_as_they_dispatch(rule: str):
    policy = RulePolicy(rule)
    for number in range(5):
        project, _ = layered(20, SeedSequence([number]), downtime=0.75, windows=0.75, pairs=0.75)
        run = simulate(ProjectRun(project), policy)
        expected = dispatch_project(project, rule, "parallel")
        assert run.schedule.start.tolist() == expected.start.tolist()
        assert (run.log["late"] == expected.late).all()


def test_an_unknown_rule_gets_the_nearest():
    with pytest.raises(ValueError, match="unknown project rule 'lftt'"):
        RulePolicy("lftt")


@settings(deadline=None)
@given(projects(), st.randoms(use_true_random=False))
def test_whatever_is_legal_makes_a_schedule_that_can_be(drawn, random):
    project, _ = drawn

    def anything(decision: TaskDecision) -> int:
        return random.choice(np.flatnonzero(decision.action_mask).tolist())

    simulate(ProjectRun(project), anything).schedule.validate()


def test_an_episode_by_hand():
    env = gymnasium.make("makespan/RCPSP-v0")
    observation, info = env.reset(options={"project": PROJECT})
    steps = []
    for action in (1, 30, 3, 0, 2):  # task 1, wait for its end at 4, tasks 3, 0 and 2
        assert info["action_mask"][action]
        *_, info = step = env.step(action)
        steps.append((float(step[1]) * 9, info["time"], step[2]))
    rewards, times, over = zip(*steps, strict=True)
    assert rewards == pytest.approx([-4, 0, -5, -3, -1])
    assert times == (0, 4, 9, 12, 13)
    assert over == (False, False, False, False, True)
    assert env.unwrapped.simulation.schedule.start.tolist() == [9, 0, 12, 4]  # type: ignore[attr-defined]
    assert observation["arcs"][:, :2].tolist() == [[0, 1], [2, 3]]


def decision_of(project: Project, *actions: int) -> TaskDecision:
    run = ProjectRun(project)
    for action in actions:
        assert run.next_decision() is not None
        run.decide(action)
    decision = run.next_decision()
    assert decision is not None
    return decision


def test_what_is_observed():
    project = replace(
        PROJECT,
        downtime=np.array([[0, 9, 12]]),
        deadline=np.array([20, 20, 20, 18]),
        pairs=np.array([[0, 2]]),
    )
    decision = decision_of(project, 1, 0)  # both at 0; at 3 nothing fits
    assert decision.time == 4
    seen = Encoder(Rows(5, 2, 3, 2)).encode(decision)
    column = {name: seen["task"][:, k].tolist() for k, name in enumerate(TASK_FIELDS)}
    assert np.multiply(column["duration"], 9) == pytest.approx([3, 4, 1, 5, 0])
    assert np.multiply(column["slack"], 9) == pytest.approx([5, 0, 5, 0, 0])
    assert np.multiply(column["latest_start"], 9) == pytest.approx([1, -4, 4, 0, 0])
    assert np.multiply(column["deadline_in"], 9) == pytest.approx([16, 16, 16, 14, 0])
    assert column["has_deadline"] == [1, 1, 1, 1, 0]
    assert column["successors"] == [0.25, 0.25, 0, 0, 0]
    assert column["startable"] == [0, 0, 1, 1, 0]
    assert column["ended"] == [1, 1, 0, 0, 0]
    assert seen["task_mask"].tolist() == [1, 1, 1, 1, 0]
    assert seen["demand"][:, 0].tolist() == [0.5, 0.5, 1, 1, 0]
    resource = dict(zip(RESOURCE_FIELDS, seen["resource"][0].tolist(), strict=True))
    assert resource["free"] == 1
    assert resource["load"] == pytest.approx(6 / 9)
    assert (resource["down"], resource["changes"]) == (0, 1)
    assert resource["changes_in"] == pytest.approx(5 / 9)
    assert seen["resource_mask"].tolist() == [1, 0]
    assert seen["arcs_mask"].tolist() == [1, 1, 0]
    assert seen["pairs"][:, 0].tolist() == [0, 2]
    assert seen["action_mask"].tolist() == [0, 0, 1, 1, 0, 1]  # the resource will be up again


def test_what_is_under_way_is_observed():
    seen = Encoder(Rows(4, 1, 2, 1)).encode(decision_of(PROJECT, 1))
    column = {name: seen["task"][:, k].tolist() for k, name in enumerate(TASK_FIELDS)}
    assert column["running"] == [0, 1, 0, 0]
    assert np.multiply(column["ends_in"], 9) == pytest.approx([0, 4, 0, 0])
    assert column["waits_for"] == pytest.approx([0, 0, 0.1, 0.1])
    assert seen["resource"][0, 0] == 0.5
    assert seen["action_mask"].tolist() == [1, 0, 0, 0, 1]


def test_work_that_is_done_and_changes_that_are_past_are_not_observed():
    """At 3 task 1 is half done, and resource 1 has been down; the critical path is 0, 2, of 7."""
    project = replace(
        Project.of([2, 1], [(3, [1, 0], [2]), (6, [1, 0], []), (4, [1, 1], [])]),
        downtime=np.array([[1, 1, 2], [1, 8, 9]]),
    )
    decision = decision_of(project, 1, 0)
    assert (decision.time, decision.startable.tolist()) == (3, [False, False, True])
    shown = Encoder(Rows(3, 2, 1, 1)).encode(decision)["resource"].T.tolist()
    resource = dict(zip(RESOURCE_FIELDS, shown, strict=True))
    assert resource["load"] == pytest.approx([(3 / 2 + 4 / 2) / 7, 4 / 7])
    assert resource["changes_in"] == pytest.approx([0, 5 / 7])
    assert resource["changes"] == [0, 1]


def test_who_waits_for_nothing_cannot_wait():
    decision = decision_of(PROJECT)
    assert not decision.can_wait
    assert decision_of(replace(PROJECT, release=np.array([0, 2, 0, 0]))).can_wait


def test_what_is_not_legal_is_refused_and_changes_nothing():
    run = ProjectRun(PROJECT)
    with pytest.raises(ValueError, match="no decision is due"):
        run.decide(0)
    assert run.next_decision() is not None
    for action in (-1, 2, 4, 5):  # task 2 waits for task 0, and nothing would happen
        with pytest.raises(ValueError, match=f"action {action} is not legal at 0"):
            run.decide(action)
    run.decide(0)
    with pytest.raises(ValueError, match="no decision is due"):
        run.decide(0)
    decision = run.next_decision()
    assert decision is not None
    assert decision.free.tolist() == [1]
    simulate(run, lambda decision: decision.lowest(np.arange(4.0))).schedule.validate()


def test_a_resource_that_is_down_has_nothing():
    project = replace(PROJECT, downtime=np.array([[0, 0, 2]]))
    decision = decision_of(Project.of([2, 1], [(3, [0, 1], []), (1, [1, 0], [])]))
    assert decision.free.tolist() == [2, 1]
    assert decision_of(project).time == 2
    both = replace(
        Project.of([2, 1], [(3, [0, 1], []), (1, [1, 0], [])]), downtime=np.array([[0, 0, 2]])
    )
    assert decision_of(both).free.tolist() == [0, 1]
    assert decision_of(both).startable.tolist() == [True, False]


def test_another_project_is_drawn_where_precedences_do_not_fit():
    """Of 30 tasks, 121 precedences fit in a third of the draws."""
    env = ProjectEnv(tasks=30, level=121)
    for seed in range(6):
        env.reset(seed=seed)
        assert len(env.simulation.project.successor) == 121


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"tasks": 0}, "tasks must be at least 1 and not falling, not 0"),
        ({"tasks": [9, 5]}, r"tasks must be at least 1 and not falling, not \[9, 5\]"),
        ({"level": [1, 2, 3]}, "level must be a whole number or a range of two"),
        ({"max_tasks": 20}, "max_tasks must be at least 30, not 20"),
        ({"max_arcs": 39}, "max_arcs must be at least 40, not 39"),
        ({"tasks": [5, 40]}, "precedences fit among 5 tasks, not 40"),
        ({"pairs": 2.0}, "pairs is a probability, not 2.0"),
        ({"render_mode": "human"}, "render_mode must be None or one of"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        ProjectEnv(**arguments)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"project": 3}, "must be a Project, not 3"),
        ({"projekt": PROJECT}, "unknown option 'projekt'"),
        ({"project": PROJECT}, "the project has 4 tasks, the encoder room for 3"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        ProjectEnv(tasks=3, level=2, layers=3).reset(options=options)
