"""One machine: timelines worked out by hand, what it refuses, and queues that theory knows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.envs.jobshop.single.decision import Service
from makespan.envs.jobshop.single.simulator import SingleMachine, run
from makespan.envs.jobshop.single.validation import COLUMNS, validate
from makespan.traces.jobshop.single_machine import MachineJobs


def shortest_known(decision):
    return decision.lowest(decision.job_left)


def shared(decision):
    return Service(tuple(np.flatnonzero(decision.action_mask).tolist()))


def first_come(decision):
    return decision.lowest(decision.release)


def validated(machine: SingleMachine) -> SingleMachine:
    validate(machine.jobs, machine.log, machine.services, machine.preemptive)
    return machine


def ends(jobs: MachineJobs, policy: Any, **settings: Any) -> list[float]:
    return validated(run(SingleMachine(jobs, **settings), policy)).log["end"].tolist()


LATE = MachineJobs.of([4, 3, 1], release=[0, 1, 3])


def test_shortest_remaining_time_by_hand():
    # Job 0 is as short as job 1 at 1 (3 left), and as job 2 at 3 (1 left): the first of equals.
    machine = run(SingleMachine(LATE, reveals="job"), shortest_known)
    assert machine.log["end"].tolist() == [4, 8, 5]
    assert machine.flow_time() == 4 + 7 + 2


def test_first_come_first_served_by_hand():
    assert ends(LATE, first_come) == [4, 7, 8]


def test_a_shared_machine_by_hand():
    # Job 0 alone to 1 (3 left); with job 1 to 3 (2 and 2 left); with both to 6, when job 2 ends
    # (1 and 1 left); the two to 8.
    assert ends(LATE, shared) == [8, 8, 6]


def test_without_preemption_what_has_begun_is_finished():
    jobs = MachineJobs.of([4, 1, 3], release=[0, 1, 1])
    assert ends(jobs, shortest_known, reveals="job", preemptive=False) == [4, 5, 8]
    assert ends(jobs, shortest_known, reveals="job") == [5, 2, 8]


def test_operations_are_revealed_one_by_one():
    machine = SingleMachine(MachineJobs.of([[1, 5], [2, 1]]), reveals="operation")
    decision = machine.next_decision()
    assert decision is not None
    assert decision.operation_left.tolist() == [1, 2]
    assert np.isnan(decision.job_left).all()
    machine.decide(0)
    decision = machine.next_decision()
    assert decision is not None
    assert (decision.time, decision.operation_left.tolist()) == (1, [5, 2])
    machine.decide(1)
    decision = machine.next_decision()
    assert decision is not None
    assert (decision.time, decision.operation_left.tolist()) == (3, [5, 1])
    machine.decide(1)
    decision = machine.next_decision()
    assert decision is not None
    assert decision.finished.tolist() == [False, True]
    assert decision.job_left[1] == decision.operation_left[1] == 0
    machine.decide(0)
    assert machine.next_decision() is None
    assert machine.log["end"].tolist() == [9, 4]


def test_all_operations_of_a_job_may_be_known():
    decision = SingleMachine(MachineJobs.of([[1, 5], 2]), reveals="job").next_decision()
    assert decision is not None
    assert decision.job_left.tolist() == [6, 2]
    assert decision.operation_left.tolist() == [1, 2]


def test_nothing_is_known_of_jobs_that_have_not_come():
    jobs = MachineJobs.of([4, 3], release=[0, 1], due=[9, 8], type=[0, 1])
    decision = SingleMachine(jobs, reveals="job").next_decision()
    assert decision is not None
    assert decision.action_mask.tolist() == [True, False]
    assert decision.type.tolist() == [0, -1]
    for column in (decision.release, decision.due, decision.operation_left, decision.job_left):
        assert np.isnan(column).tolist() == [False, True]
    assert decision.jobs_of_type.tolist() == [1, 1]


def test_of_jobs_that_are_never_due_one_that_is_there_is_next():
    machine = SingleMachine(MachineJobs.of([1, 1], release=[3, 0]))
    decision = machine.next_decision()
    assert decision is not None
    assert decision.lowest(decision.due) == 1


def test_a_machine_that_has_nothing_to_do_waits():
    machine = SingleMachine(MachineJobs.of([1, 1], release=[2, 5]))
    times = []
    while (decision := machine.next_decision()) is not None:
        times.append(decision.time)
        machine.decide(int(decision.action_mask.argmax()))
    assert times == [2, 5]
    assert machine.flow_time() == 2


def test_services_say_who_had_the_machine_when():
    services = run(SingleMachine(LATE), shared).services
    rows = zip(*(services[name].tolist() for name in COLUMNS), strict=True)
    assert list(rows) == [
        (0, 0, 1, 1),
        (0, 1, 3, 1),
        (1, 1, 3, 1),
        (0, 3, 6, 1),
        (1, 3, 6, 1),
        (2, 3, 6, 1),
        (0, 6, 8, 1),
        (1, 6, 8, 1),
    ]
    assert {
        name: len(column) for name, column in SingleMachine(LATE).services.items()
    } == dict.fromkeys(COLUMNS, 0)


TWO = MachineJobs.of([[2, 1], 3], release=[1, 0])
"""The services below do job 1 to 1, job 0 to its end at 4, and job 1 again to 6."""

GOOD = {
    "operation": [2, 0, 1, 2],
    "start": [0.0, 1, 3, 4],
    "end": [1.0, 3, 4, 6],
    "amount": [1.0, 2, 1, 2],
}


def test_the_log_that_the_next_test_spoils_is_good():
    check({}, [4.0, 6])


@pytest.mark.parametrize(
    ("spoiled", "end", "rule"),
    [
        ({"start": [0, 0.5, 3, 4]}, [4, 6], "job 0, operation 0 is served before its job comes"),
        ({"end": [1, 3, 4, 3]}, [4, 6], "job 1, operation 0 is served for less than no time"),
        ({"amount": [-1, 2, 1, 4]}, [4, 6], "job 1, operation 0 is served for less than no time"),
        (
            {"amount": [1, 2.1, 1, 2]},
            [4, 6],
            "job 0, operation 0 gets more than the machine can do",
        ),
        ({"amount": [1, 1.9, 1, 2]}, [4, 6], "job 0, operation 0 does not get its size"),
        ({"operation": [2, 0, 0, 2]}, [4, 6], "job 0, operation 0 does not get its size"),
        (
            {
                "operation": [2, 1, 0, 2],
                "start": [0, 1, 2, 4],
                "end": [1, 2, 4, 6],
                "amount": [1, 1, 2, 2],
            },
            [4, 6],
            "job 0, operation 1 is served before the one before it ends",
        ),
        ({}, [3, 6], "job 0, operation 1 is the last, and its job ends elsewhen"),
        ({}, [4, np.nan], "job 1, operation 0 is the last, and its job ends elsewhen"),
        (
            {"start": [0, 1, 3, 3], "end": [1, 3, 4, 6]},
            [4, 6],
            "from 3 to 4 jobs get 1.66667 times what the machine can do",
        ),
        ({"operation": [2, 0, 3, 2]}, [4, 6], "there is no operation 3 to be served"),
        ({"amount": [1, 2, 3]}, [4, 6], "every column must say something of each"),
        ({}, [4], "end must say something of each of 2 jobs"),
    ],
)
def test_the_validator_names_the_rule(spoiled: dict[str, Any], end: list[float], rule: str):
    with pytest.raises(ValueError, match=rule):
        check(spoiled, end)


def test_the_validator_knows_whether_operations_may_be_interrupted():
    with pytest.raises(ValueError, match="job 1, operation 0 is interrupted"):
        check({}, [4, 6], preemptive=False)
    jobs = MachineJobs.of([1, 1])
    machine = run(SingleMachine(jobs), shared)
    with pytest.raises(ValueError, match="job 0, operation 0 is interrupted, or shares"):
        validate(jobs, machine.log, machine.services, preemptive=False)


def check(spoiled: dict[str, Any], end: list[float], preemptive: bool = True) -> None:
    services = {name: np.array(column) for name, column in (GOOD | spoiled).items()}
    validate(TWO, {"end": np.array(end)}, services, preemptive)


def test_a_review_leaves_the_job_when_it_is_time():
    machine = SingleMachine(MachineJobs.of([3, 1]))
    machine.next_decision()
    machine.decide(Service((0,), at_most=2))
    decision = machine.next_decision()
    assert decision is not None
    assert (decision.time, decision.received.tolist()) == (2, [2, 0])
    assert machine.flow_time() == 4


def test_total_tardiness_counts_finished_jobs():
    machine = SingleMachine(MachineJobs.of([3, 2], due=[1, 9]))
    machine.next_decision()
    assert machine.tardiness() == 0
    machine.decide(0)
    machine.next_decision()
    assert machine.tardiness() == 2
    machine.decide(1)
    machine.next_decision()
    assert machine.tardiness() == 2


@pytest.mark.parametrize(
    ("action", "preemptive", "message"),
    [
        (2, True, "job 2 is not there"),
        (-1, True, "job -1 is not there"),
        (1, True, "job 1 is not there"),
        (Service((0, 1)), True, "job 1 is not there"),
        (Service((0,), 0.5), False, "without preemption"),
    ],
)
def test_what_cannot_be_done_is_refused(action: Any, preemptive: bool, message: str):
    machine = SingleMachine(MachineJobs.of([1, 1], release=[0, 3]), preemptive=preemptive)
    machine.next_decision()
    with pytest.raises(ValueError, match=message):
        machine.decide(action)


def test_sharing_needs_preemption():
    machine = SingleMachine(MachineJobs.of([1, 1]), preemptive=False)
    machine.next_decision()
    with pytest.raises(ValueError, match="without preemption"):
        machine.decide(Service((0, 1)))


@pytest.mark.parametrize("service", [((), 1.0), ((0, 0), 1.0), ((0,), 0.0), ((0,), np.nan)])
def test_a_service_that_cannot_be_is_refused(service: tuple):
    with pytest.raises(ValueError, match=r"needs jobs|must have some time"):
        Service(*service)


def test_an_unknown_way_of_revealing_is_named():
    with pytest.raises(ValueError, match="not by 'all'"):
        SingleMachine(MachineJobs.of([1]), reveals="all")  # pyright: ignore[reportArgumentType]


JOBS = st.lists(
    st.tuples(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 12)),
    min_size=1,
    max_size=6,
).map(lambda jobs: MachineJobs.of([ops for ops, _ in jobs], release=[at for _, at in jobs]))


@given(JOBS, st.integers(0, 2**32), st.booleans())
def test_every_policy_gives_jobs_their_size_and_is_busy_as_long(jobs, seed, preemptive):
    """Whatever is done first: no job ends too early, and the last one when it must."""
    rng = np.random.default_rng(seed)

    def anything(decision):
        job = int(rng.choice(np.flatnonzero(decision.action_mask)))
        others = rng.random(jobs.jobs) < 0.3
        if not preemptive or rng.random() < 0.5:
            return job
        share = {job, *np.flatnonzero(decision.action_mask & others).tolist()}
        return Service(tuple(share), float(rng.integers(1, 4)))

    machine = SingleMachine(jobs, preemptive=preemptive)
    times = []

    def recorded(decision):
        times.append(decision.time)
        assert not decision.finished[decision.action_mask].any()
        return anything(decision)

    end = validated(run(machine, recorded)).log["end"]
    assert (end >= jobs.release + jobs.job_size - 1e-9).all()
    assert end.max() == pytest.approx(max(ends(jobs, first_come)))
    assert times == sorted(times)
    assert machine.flow_time() == pytest.approx((end - jobs.release).sum())


@given(JOBS, st.integers(0, 2**32))
def test_nobody_has_less_flow_time_than_the_shortest_remaining_first(jobs, seed):
    rng = np.random.default_rng(seed)
    best = run(SingleMachine(jobs, reveals="job"), shortest_known).flow_time()
    other = run(
        SingleMachine(jobs), lambda decision: rng.choice(np.flatnonzero(decision.action_mask))
    )
    assert best <= other.flow_time() + 1e-9


@pytest.mark.slow_in_python
@pytest.mark.parametrize("policy", [first_come, shared])
def test_mean_flow_time_of_an_m_m_1_queue(policy):
    """1 / (mu - lambda), first come first served or shared; inside a 99.9 % interval of 10 runs."""
    means = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        jobs = MachineJobs.of(
            rng.exponential(1.0, 1500).tolist(),
            release=np.cumsum(rng.exponential(2.0, 1500)).tolist(),  # half busy
        )
        log = run(SingleMachine(jobs), policy).log
        means.append((log["end"] - log["release"]).mean())
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    assert np.mean(means) == pytest.approx(2.0, abs=4.78 * error)
    assert error < 0.1
