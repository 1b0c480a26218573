"""Jobs for one machine: what is refused, and what the generator draws."""

import numpy as np
import pytest
from numpy.random import SeedSequence

from makespan.traces.jobshop.single_machine import MachineJobs, exponential_jobs


def test_jobs_from_sizes_and_operations():
    jobs = MachineJobs.of([2, [1, 3]], type=[1, 0])
    assert (jobs.jobs, jobs.types) == (2, 2)
    assert jobs.first_operation.tolist() == [0, 1, 3]
    assert jobs.job_size.tolist() == [2, 4]
    assert jobs.release.tolist() == [0, 0]
    assert jobs.due.tolist() == [np.inf, np.inf]
    with pytest.raises(ValueError, match="read-only"):
        jobs.size[0] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": []}, "needs at least one job"),
        ({"jobs": [1, [1, 0]]}, "job 1, operation 1 must have a positive size, not 0.0"),
        ({"jobs": [1, np.nan]}, "job 1, operation 0 must have a positive size, not nan"),
        ({"jobs": [1, []]}, "job 1 must have an operation"),
        ({"jobs": [1, 1], "type": [0, -1]}, "job 1 must have a type from 0 on"),
        ({"jobs": [1, 1], "type": [0]}, "type has 1 entries for 2 jobs"),
        ({"jobs": [1, 1], "release": [-1, 0]}, "job 0 must be released from 0 on"),
        ({"jobs": [1, 1], "type": [0.9, 1.9]}, "type must be whole numbers, not float64"),
        ({"jobs": [1], "due": [np.nan]}, "job 0 must have a due date that is a number"),
    ],
)
def test_bad_jobs_are_named(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        MachineJobs.of(arguments.pop("jobs"), **arguments)


def test_operations_go_from_the_first_to_the_last():
    with pytest.raises(ValueError, match="first_operation must go from 0 up to 3"):
        MachineJobs(np.array([0, 2]), np.ones(3))
    with pytest.raises(ValueError, match="first_operation must be whole numbers, not float64"):
        MachineJobs(np.array([0.0, 1.5, 3.0]), np.ones(3))


def test_exponential_jobs_have_the_means_and_the_rate():
    jobs = exponential_jobs([0.25, 1.0], 20_000, SeedSequence(0), operations=2, rate=4.0)
    assert np.bincount(jobs.type).tolist() == [20_000, 20_000]
    for t, mean in enumerate([0.25, 1.0]):
        size = jobs.job_size[jobs.type == t]
        assert size.mean() == pytest.approx(mean, abs=5 * mean / np.sqrt(2 * 20_000))
        assert size.std() == pytest.approx(mean / np.sqrt(2), rel=0.05)  # Erlang of two phases
    gaps = np.diff(np.sort(jobs.release))
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() == pytest.approx(0.25, rel=0.05)
    # Types come mixed: the first half has about half of each.
    early = jobs.type[jobs.release < np.median(jobs.release)]
    assert early.mean() == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_jobs_and_releases_do_not_change_sizes():
    one, same = (exponential_jobs([1.0, 2.0], 5, SeedSequence(3), rate=2.0) for _ in range(2))
    together = exponential_jobs([1.0, 2.0], 5, SeedSequence(3))
    assert one.release.tobytes() == same.release.tobytes()
    assert one.size.tobytes() == same.size.tobytes() == together.size.tobytes()
    assert not together.release.any()


@pytest.mark.parametrize(
    "wrong", [{"jobs_per_type": 0}, {"operations": 0}, {"rate": -1.0}, {"means": [1.0, 0.0]}]
)
def test_what_cannot_be_drawn_is_refused(wrong: dict):
    arguments = {"means": [1.0], "jobs_per_type": 2, "seed": SeedSequence(0)} | wrong
    with pytest.raises(ValueError, match="needs jobs, operations, positive means and a rate"):
        exponential_jobs(**arguments)
