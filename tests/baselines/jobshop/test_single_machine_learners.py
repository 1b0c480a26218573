"""Learners: decisions worked out by hand, the simulator against compiled code, and theory."""

import numpy as np
import pytest
from scipy.stats import chi2

from makespan.baselines.jobshop.single_machine import LEARNERS, RULES, Learner
from makespan.baselines.jobshop.single_machine.fast import ends, optimal_flow, round_robin_flow
from makespan.baselines.jobshop.single_machine.learners import SLICE, nothing_seen
from makespan.envs.jobshop.single.simulator import SingleMachine, run
from makespan.envs.jobshop.single.validation import validate
from makespan.traces.jobshop.single_machine import MachineJobs

MEANS = np.array([0.25, 1.0])


def as_jobs(size: np.ndarray) -> MachineJobs:
    types = np.repeat(np.arange(len(size)), size.shape[1])
    return MachineJobs.of(size.ravel().tolist(), type=types.tolist())


def draw(seed: int, types: int, jobs: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, (types, jobs)) * 0.3 ** np.arange(
        types
    ).reshape(-1, 1)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize(("types", "jobs"), [(1, 3), (2, 6), (2, 30), (3, 12)])
def test_compiled_code_does_what_the_simulator_does(name: str, types: int, jobs: int):
    slice = 0.02 if name == "ucb_rr" else SLICE
    for seed in range(3):
        size = draw(seed, types, jobs)
        means = 0.3 ** np.arange(types)
        machine = run(SingleMachine(as_jobs(size)), Learner(name, means, slice))
        validate(machine.jobs, machine.log, machine.services)
        np.testing.assert_allclose(
            machine.log["end"].reshape(types, jobs), ends(name, size, means, slice), rtol=1e-9
        )


def order(name: str, size: list[list[float]], **more) -> list[int]:
    """Types in the order in which their jobs end."""
    found = ends(name, np.array(size), **more)
    return (np.argsort(found, axis=None, kind="stable") // found.shape[1]).tolist()


def test_ftpp_goes_by_means_and_not_by_sizes():
    size = [[1.0, 1.0], [9.0, 9.0]]
    assert order("ftpp", size, means=np.array([2.0, 1.0])) == [1, 1, 0, 0]
    assert order("ftpp", size, means=np.array([1.0, 1.0])) == [0, 0, 1, 1]


@pytest.mark.parametrize(("second", "third"), [(2.2, 1), (2.8, 0)])
def test_lsept_by_hand(second: float, third: int):
    # One of each, as nothing seen is an estimate of 0. Then 3 / 2 against 2 / 2, and 3 / 2 against
    # 4.2 / 3 or 4.8 / 3.
    assert order("lsept", [[3.0, 9.0, 9.0], [2.0, second, 9.0]])[:4] == [0, 1, 1, third]


def duels_that_tell(jobs: int, lost: int = 0) -> int:
    """Duels, of which a type lost some at first, that tell it to be shorter: r - delta > 0.5."""
    return next(
        duels
        for duels in range(1, 99)
        if (duels - lost) / duels - np.sqrt(np.log(12 * jobs**2) / (2 * duels)) > 0.5
    )


def test_etc_u_explores_in_turn_and_then_commits():
    jobs = 30
    turns = duels_that_tell(jobs)
    assert turns == 19
    size = np.array([[5.0] * jobs, [1.0] * jobs]) + np.linspace(0, 0.1, jobs)
    expected = [0, 1] * turns + [1] * (jobs - turns) + [0] * (jobs - turns)
    assert order("etc_u", size.tolist()) == expected


def test_etc_u_finishes_the_type_it_committed_to():
    """Also when more duels would put it in doubt again.

    Type 0 is told to be shorter than 1 before than 2, and is done to its end. Then type 1 is told
    to be shorter than 2, and loses all duels that are left.
    """
    jobs = 60
    first, second, third = (duels_that_tell(jobs, lost) for lost in (1, 2, 3))
    assert first < second < third < jobs
    size = np.tile([[1.0], [5.0], [9.0]], jobs)
    size[:, 0], size[:, 1:3] = [3, 1, 2], [[2], [3], [1]]
    size[2, second:third] = 3
    explored = [0, 1, 2] * first + [0, 2] * (third - first)
    committed = [0] * (jobs - third) + [1] * (jobs - first) + [2] * (jobs - third)
    assert order("etc_u", size.tolist()) == explored + committed


def test_etc_u_never_commits_where_jobs_are_too_few_to_tell():
    jobs = 10
    assert duels_that_tell(jobs) > jobs
    assert order("etc_u", [[5.0] * jobs, [1.0] * jobs]) == [0, 1] * jobs


def test_etc_rr_shares_until_duels_tell():
    jobs = 30
    turns = duels_that_tell(jobs)
    size = np.array([[1000.0] * jobs, [1.0] * jobs])
    found = ends("etc_rr", size)
    # Shared, a job of type 1 takes 2; alone, 1. Then what is left of type 0's first.
    alone = 2 * turns + np.arange(1, jobs - turns + 1)
    expected = np.concatenate([2.0 * np.arange(1, turns + 1), alone])
    np.testing.assert_allclose(found[1], expected)
    np.testing.assert_allclose(found[0, 0], expected[-1] + 1000 - turns)
    np.testing.assert_allclose(np.diff(found[0]), 1000)


def test_ucb_u_by_hand():
    # One of each. For n = 3, level 1 - 1 / 72: bounds 2 * 1 / q2 and 2 * 9 / q2; then type 0's
    # falls on, since it is less sure and no longer, to its end.
    assert order("ucb_u", [[1.0, 1.0, 1.0], [9.0, 1.0, 1.0]]) == [0, 1, 0, 0, 1, 1]


def test_quantiles_are_those_of_chi_squared():
    found = nothing_seen(2, 5).quantile
    expected = chi2.ppf(1 - 1 / (2 * 4 * 25), 2 * np.arange(1, 6))
    np.testing.assert_allclose(found[1:], expected, rtol=1e-9)


def test_ucb_rr_leaves_a_job_that_does_not_end():
    size = np.array([[50.0] * 20, [0.01] * 20])
    found = ends("ucb_rr", size)
    assert found[1].max() < found[0].min()
    assert found[1].max() < 0.25  # of which the jobs of type 1 take 0.2


@pytest.mark.parametrize("name", LEARNERS)
def test_all_jobs_end_and_none_beats_the_optimum(name: str):
    size = draw(5, 3, 20)
    found = ends(name, size, np.array([1, 0.3, 0.09]))
    assert found.max() == pytest.approx(size.sum())
    assert found.sum() >= optimal_flow(size) - 1e-9


def test_expected_flow_time_of_ftpp_and_of_round_robin():
    """Inside a 99.9 % interval of 2000 runs.

    FTPP: a job delays itself and each job behind it. Round robin, and so any pair of jobs: each is
    delayed by the other as long as the shorter one lasts, twice 1 / (rate + rate) on average.
    """
    jobs, runs = 8, 2000
    rng = np.random.default_rng(1)
    sizes = rng.exponential(1.0, (runs, 2, jobs)) * MEANS.reshape(-1, 1)
    first = MEANS * (jobs * (jobs + 1) / 2)
    ftpp = first.sum() + MEANS[0] * jobs**2
    pairs = jobs * (jobs - 1) / 2
    both = MEANS[0] * MEANS[1] / MEANS.sum()
    round_robin = jobs * MEANS.sum() + 2 * (pairs * MEANS.sum() / 2 + jobs**2 * both)
    for expected, found in (
        (ftpp, [ends("ftpp", size, MEANS).sum() for size in sizes]),
        (round_robin, [round_robin_flow(size) for size in sizes]),
    ):
        error = np.std(found, ddof=1) / np.sqrt(runs)
        assert np.mean(found) == pytest.approx(expected, abs=3.29 * error)
        assert error < 0.02 * expected


def test_a_learner_may_choose_between_jobs_that_come_over_time():
    jobs = MachineJobs.of([1, 1, 3, 3], type=[0, 0, 1, 1], release=[2, 9, 0, 0])
    log = run(SingleMachine(jobs), Learner("ftpp", MEANS)).log
    assert log["end"].tolist() == [3, 10, 4, 7]
    for name in LEARNERS:
        machine = run(SingleMachine(jobs), Learner(name, MEANS, slice=0.05))
        validate(jobs, machine.log, machine.services)
        assert machine.log["end"].max() == pytest.approx(
            run(SingleMachine(jobs), RULES["fifo"]).log["end"].max()
        )


@pytest.mark.parametrize("maker", [Learner, lambda name: ends(name, np.ones((2, 2)))])
def test_a_learner_that_is_not_or_lacks_something_is_named(maker):
    with pytest.raises(ValueError, match="not 'etc'"):
        maker("etc")
    with pytest.raises(ValueError, match="ftpp needs the means"):
        maker("ftpp")


def made_by_simulator(name: str, size: np.ndarray, *more) -> float:
    return run(SingleMachine(as_jobs(size)), Learner(name, *more)).flow_time()


@pytest.mark.parametrize("maker", [made_by_simulator, ends])
def test_means_of_other_types_and_slices_that_are_none_are_named(maker):
    with pytest.raises(ValueError, match=r"one for each of 4 types, not \(1,\)"):
        maker("ftpp", np.ones((4, 3)), np.array([1.0]))
    for slice in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"slice must be positive, not {slice}"):
            maker("ucb_rr", np.ones((2, 2)), None, slice)
