"""The environment of one machine: observations by hand, returns, settings and options."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from makespan.baselines.jobshop.single_machine import RULES
from makespan.baselines.jobshop.tardiness import RULES as ORDERS
from makespan.baselines.jobshop.tardiness import tardiness
from makespan.envs.jobshop.single.env import SingleMachineEnv
from makespan.envs.jobshop.single.episode import EpisodeConfig
from makespan.envs.jobshop.single.observation import JOB_COLUMNS, TYPE_COLUMNS
from makespan.envs.jobshop.single.simulator import SingleMachine, run
from makespan.traces.jobshop.single_machine import MachineJobs


def make(**arguments: Any) -> SingleMachineEnv:
    env = gymnasium.make("makespan/SingleMachine-v0", **arguments).unwrapped
    assert isinstance(env, SingleMachineEnv)
    return env


def play(env: SingleMachineEnv, policy: Callable[[Any], Any], **reset: Any) -> float:
    """The undiscounted return."""
    env.reset(**reset)
    total = 0.0
    while env.decision is not None:
        total += env.step(policy(env.decision))[1]
    return total


def columns(names: tuple[str, ...], row: np.ndarray) -> dict[str, float]:
    """Raw values of a row."""
    return dict(zip(names, (np.sign(row) * np.expm1(np.abs(row))).round(4).tolist(), strict=True))


def test_an_observation_by_hand():
    jobs = MachineJobs.of(
        [[3, 2], [1, 1], 2], type=[0, 1, 1], release=[0, 1, 99], due=[np.inf, 9, 9]
    )
    env = make(types=2, jobs=2, preemptive=True, reveals="operation")
    seen, _ = env.reset(options={"jobs": jobs})
    for action in (0, 1):  # job 1 comes at 1, and its first operation ends at 2
        seen, *_ = env.step(action)
    assert env.decision is not None
    assert env.decision.time == 2
    assert seen["action_mask"].tolist() == [1, 1, 0, 0]
    assert columns(JOB_COLUMNS, seen["job"][1]) == {
        "waited": 1,
        "received": 1,
        "operation_left": 1,
        "operation_known": 1,
        "job_left": 0,
        "job_known": 0,
        "slack": 7,
        "has_due": 1,
    }
    first = columns(JOB_COLUMNS, seen["job"][0])
    assert (first["received"], first["operation_left"], first["has_due"]) == (1, 2, 0)
    assert not seen["job"][2:].any()
    assert seen["job_type"].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert columns(TYPE_COLUMNS, seen["type"][1]) == dict(
        there=1, to_come=1, finished=0, work=0, mean=0
    )
    seen, *_ = env.step(1)  # its last
    assert columns(TYPE_COLUMNS, seen["type"][1]) == dict(
        there=0, to_come=1, finished=1, work=2, mean=2
    )
    assert not seen["job_type"][1].any()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"preemptive": True, "rate": 3.0, "reveals": "operation", "operations": 2},
        {"preemptive": True, "review": 0.05},
    ],
)
def test_the_return_is_minus_the_total_flow_time(arguments: dict[str, Any]):
    env = make(jobs=4, **arguments)
    found = play(env, RULES["fifo"], seed=3)
    log = env.simulation.log
    assert found == pytest.approx(-(log["end"] - log["release"]).sum())
    again = run(SingleMachine(env.simulation.jobs), RULES["fifo"])
    assert found == pytest.approx(-again.flow_time())


@pytest.mark.parametrize("rule", ["edd", "mdd"])
def test_the_return_is_minus_the_total_tardiness_of_the_order(rule: str):
    env = make(types=1, jobs=12, objective="tardiness", reveals="job")
    found = []
    for seed in range(5):
        found.append(play(env, RULES[rule], seed=seed))
        jobs = env.simulation.jobs
        order = ORDERS[rule](jobs.size, jobs.due)
        assert found[-1] == -tardiness(jobs.size, jobs.due, order)
    assert min(found) < 0


def test_a_review_comes_when_nothing_else_does():
    env = make(types=1, jobs=2, preemptive=True, review=0.5)
    env.reset(options={"jobs": MachineJobs.of([1.2, 0.3])})
    times = []
    while env.decision is not None:
        times.append(env.decision.time)
        env.step(int(env.decision.action_mask.argmax()))
    np.testing.assert_allclose(times, [0, 0.5, 1.0, 1.2])


def test_a_masked_action_is_reviewed_as_well():
    env = make(types=1, jobs=3, preemptive=True, review=0.01)
    env.reset(options={"jobs": MachineJobs.of([1.2, 0.3])})
    _, _, _, _, info = env.step(2)
    assert info["illegal"]
    assert info["time"] == 0.01


def test_means_are_drawn_for_every_episode_and_type():
    config = EpisodeConfig(types=2, jobs=3000, means=(0.1, 10.0))
    means = np.array(
        [
            config.draw(np.random.SeedSequence(seed)).size.reshape(2, -1).mean(axis=1)
            for seed in range(50)
        ]
    )
    assert means.min() < 0.2 < 5 < means.max()
    assert np.median(means) == pytest.approx(1.0, rel=0.5)
    assert abs(np.corrcoef(means.T)[0, 1]) < 0.4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"types": 0}, "types must be at least 1, not 0"),
        ({"jobs": 0}, "jobs must be at least 1, not 0"),
        ({"operations": 0}, "operations must be at least 1"),
        ({"rate": -1.0}, "rate must be finite and at least 0"),
        ({"review": np.inf}, "review must be finite"),
        ({"review": 1.0}, "review needs preemptive"),
        ({"means": (1.0, 0.5)}, "means must be a range"),
        ({"means": (0.0, 0.5)}, "means must be a range"),
        ({"reveals": "all"}, "reveals must be nothing or operation or job, not all"),
        ({"objective": "makespan"}, "objective must be flow or tardiness"),
        ({"objective": "tardiness"}, "objective tardiness needs types=1"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job": MachineJobs.of([1])}, "Did you mean"),
        ({"jobs": [1]}, "must be a MachineJobs"),
        ({"jobs": MachineJobs.of([1, 1, 1])}, "at most 2 jobs of 1 types"),
        ({"jobs": MachineJobs.of([1], type=[1])}, "at most 2 jobs of 1 types"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        make(types=1, jobs=2).reset(options=options)


def test_a_table_shows_the_jobs_that_are_there():
    env = make(types=1, jobs=2, render_mode="ansi")
    env.reset(options={"jobs": MachineJobs.of([2, 1])})
    env.step(0)
    text = env.render()
    assert text is not None
    assert text.splitlines()[0].startswith("2.000: ")
    assert len(text.splitlines()) == 2
    env.step(1)
    assert env.render() == "3.000: all jobs are finished"
    assert make().render() is None
