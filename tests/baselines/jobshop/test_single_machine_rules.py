"""Rules for one machine: by hand, against the orders of the same name, and against the optimum."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import SeedSequence

from makespan.baselines.jobshop import tardiness
from makespan.baselines.jobshop.single_machine import RULES
from makespan.baselines.jobshop.single_machine.fast import optimal_flow, round_robin_flow
from makespan.envs.jobshop.single.simulator import Reveals, SingleMachine, run
from makespan.envs.jobshop.single.validation import validate
from makespan.traces.jobshop.single_machine import MachineJobs, exponential_jobs

SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def ruled(jobs: MachineJobs, rule: str, reveals: Reveals = "job") -> SingleMachine:
    machine = run(SingleMachine(jobs, reveals), RULES[rule])
    validate(jobs, machine.log, machine.services)
    return machine


@pytest.mark.parametrize("preemptive", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_does_can_be(rule: str, preemptive: bool):
    if rule == "round_robin" and not preemptive:
        return  # it shares
    for seed in range(3):
        jobs = exponential_jobs([1.0, 0.2], 8, SeedSequence(seed), operations=2, rate=1.2)
        machine = run(SingleMachine(jobs, "job", preemptive), RULES[rule])
        validate(jobs, machine.log, machine.services, preemptive)


@given(SIZES)
def test_closed_forms_are_what_the_machine_does(sizes: list[int]):
    jobs, size = MachineJobs.of(sizes), np.array(sizes)
    assert ruled(jobs, "round_robin").flow_time() == pytest.approx(round_robin_flow(size))
    assert ruled(jobs, "srpt").flow_time() == optimal_flow(size)


def test_closed_forms_by_hand():
    # Shared by three up to 3 (1 ends), two up to 5 (2 ends), one up to 7.
    assert round_robin_flow(np.array([4, 1, 2])) == 3 + 5 + 7
    assert optimal_flow(np.array([4, 1, 2])) == 1 + 3 + 7


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(-5, 90)), min_size=1, max_size=8))
def test_rules_for_due_dates_order_jobs_as_the_orders_do(drawn: list[tuple[int, int]]):
    duration, due = np.array(drawn).T
    jobs = MachineJobs.of(duration.tolist(), due=due.tolist())
    for rule in ("edd", "mdd"):
        order = tardiness.RULES[rule](duration, due)
        machine = ruled(jobs, rule)
        assert np.argsort(machine.log["end"]).tolist() == order.tolist()
        assert machine.tardiness() == tardiness.tardiness(duration, due, order)


def test_sizes_that_are_not_revealed_are_not_used():
    jobs = MachineJobs.of([[1, 1], 2])
    for rule in ("srpt", "mdd"):
        with pytest.raises(ValueError, match="not revealed"):
            ruled(jobs, rule, "operation")
    with pytest.raises(ValueError, match="not revealed"):
        ruled(jobs, "operation_srpt", "nothing")


def test_the_shortest_operation_is_first_by_hand():
    # The tests are first (2 and 3); of what they tell, 1 is shorter than 4.
    jobs = MachineJobs.of([[2, 4], [3, 1]])
    assert ruled(jobs, "operation_srpt", "operation").log["end"].tolist() == [10, 6]
    assert ruled(jobs, "srpt").log["end"].tolist() == [10, 4]


@pytest.mark.parametrize(
    ("jobs", "flow"),
    [([[1], [1], [1]], 6), ([[2, 2], [2, 2]], 4 + 8)],
    ids=["one operation", "equal operations"],
)
def test_operations_all_alike_are_done_job_by_job(jobs: list, flow: float):
    assert ruled(MachineJobs.of(jobs), "operation_srpt", "operation").flow_time() == flow


def ratio(jobs: MachineJobs) -> float:
    """Flow time of operation-level SRPT in optimal flow times (SRPT, which knows the jobs)."""
    return ruled(jobs, "operation_srpt", "operation").flow_time() / ruled(jobs, "srpt").flow_time()


TEST = 4
RESULTS = (1, 3, 4, 5, 9)
RELEASES = (0, 1, 5, 9)


@pytest.mark.slow_in_python
def test_no_small_instance_makes_operation_srpt_twice_as_long_as_the_optimum():
    """All instances of three jobs: tests of length 4, some sizes and some releases."""
    worst = 0.0
    for sizes in itertools.product(RESULTS, repeat=3):
        for later in itertools.combinations_with_replacement(RELEASES, 2):
            jobs = MachineJobs.of([[TEST, size] for size in sizes], release=[0, *later])
            worst = max(worst, ratio(jobs))
    assert 1.2 < worst <= 2


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 40)), min_size=1, max_size=9),
)
def test_operation_srpt_is_2_competitive_for_equal_tests(test, drawn):
    jobs = MachineJobs.of([[test, size] for size, _ in drawn], release=[at for _, at in drawn])
    assert ratio(jobs) <= 2


def test_operation_srpt_comes_near_to_twice_the_optimum():
    """So 2 is tight. All 30 are tested first, while the optimum finishes 14 of them; then a stream
    of shorter jobs keeps the others waiting, 30 of them or 16."""
    stream = [[10, 1]] * 400
    release = [0] * 30 + [300 + 11 * at for at in range(len(stream))]
    jobs = MachineJobs.of([[10, 11]] * 30 + stream, release=release)
    assert 1.75 < ratio(jobs) <= 2
