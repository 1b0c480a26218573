"""The shifting bottleneck, and the branch and bound for one machine against all orders."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop.shifting import (
    _best_order,
    _delays,
    carlier,
    preemptive,
    schrage,
    shifting_bottleneck,
)
from makespan.envs.jobshop.critical import evaluate, link, unordered
from makespan.traces.jobshop import JobShop, benchmark

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def problems(draw: st.DrawFn, dependent: bool, delayed: bool = False) -> Problem:
    """Heads, durations, tails and delays of up to six operations.

    Args:
        dependent: some come behind others.
        delayed: and more than the duration may pass in between.
    """
    n = draw(st.integers(1, 6))
    numbers = st.lists(st.integers(0, 15), min_size=n, max_size=n)
    head, duration, tail = (np.array(draw(numbers)) for _ in range(3))
    delay = np.full((n, n), -1)
    for i, j in itertools.combinations(range(n), 2):
        if dependent and draw(st.booleans()):
            delay[i, j] = duration[i] + (draw(st.integers(0, 9)) if delayed else 0)
    for k, i, j in itertools.product(range(n), repeat=3):
        if delay[i, k] >= 0 and delay[k, j] >= 0:
            delay[i, j] = max(delay[i, j], delay[i, k] + delay[k, j])
    for i, j in itertools.combinations(range(n), 2):
        if delay[i, j] >= 0:
            head[j] = max(head[j], head[i] + delay[i, j])
    for i, j in reversed(list(itertools.combinations(range(n), 2))):
        if delay[i, j] >= 0:
            tail[i] = max(tail[i], delay[i, j] + duration[j] + tail[j] - duration[i])
    return head, duration, tail, delay


def value(problem: Problem, order: tuple[int, ...], with_delays: bool) -> float:
    """The greatest sum of end and tail; infinite if one is in front of what it depends on."""
    head, duration, tail, delay = problem
    now, greatest, start = 0, 0, {}
    for at, j in enumerate(order):
        if any(delay[j, i] >= 0 for i in order[:at]):
            return float("inf")
        waits = [start[i] + delay[i, j] for i in order[:at] if delay[i, j] >= 0 and with_delays]
        start[j] = max([now, head[j], *waits])
        now = start[j] + duration[j]
        greatest = max(greatest, now + tail[j])
    return greatest


def least(problem: Problem, with_delays: bool = False) -> float:
    orders = itertools.permutations(range(len(problem[0])))
    return min(value(problem, order, with_delays) for order in orders)


@settings(deadline=None, max_examples=80)
@given(st.booleans().flatmap(lambda dependent: problems(dependent)))
def test_no_order_of_one_machine_is_better(problem: Problem):
    order, found = carlier(*problem)
    assert found == value(problem, tuple(order.tolist()), False) == least(problem)
    assert preemptive(*problem[:3]) <= found


@settings(deadline=None, max_examples=80)
@given(problems(dependent=True, delayed=True))
def test_with_delays_nothing_better_is_lost(problem: Problem):
    order, found = carlier(*problem)
    assert value(problem, tuple(order.tolist()), False) <= found <= least(problem, with_delays=True)


def test_carliers_own_example():
    """Seven operations: Schrage's order takes 53, the best 50."""
    head = np.array([10, 13, 11, 20, 30, 0, 30])
    duration = np.array([5, 6, 7, 4, 3, 6, 2])
    tail = np.array([7, 26, 24, 21, 8, 17, 0])
    assert schrage(head, duration, tail)[1] == 53
    order, found = carlier(head, duration, tail, np.full((7, 7), -1))
    assert found == 50
    assert sorted(order.tolist()) == list(range(7))


def test_operations_depend_on_each_other_through_other_machines():
    """Job 1 comes to machine 0 after it was on machine 1, behind job 0."""
    graph = unordered(JobShop.of([[(0, 2), (1, 3)], [(1, 4), (0, 5)]]))
    link(graph, np.array([1, 2]))
    head, tail, order = (np.empty(4, np.int64) for _ in range(3))
    assert evaluate(graph, head, tail, order) == 14
    found = _delays(graph, order, np.argsort(order), np.array([0, 3]))
    assert found.tolist() == [[-1, 2 + 3 + 4], [-1, -1]]
    sequence, value = _best_order(graph, np.array([0, 3]))
    assert (sequence.tolist(), value) == ([0, 3], 14)


@st.composite
def shops(draw: st.DrawFn) -> JobShop:
    operation = st.tuples(st.integers(0, 2), st.integers(0, 9))
    job = st.lists(operation, min_size=1, max_size=5)
    jobs = draw(st.lists(job, min_size=1, max_size=4))
    plain = JobShop.of(jobs, machines=4)  # one of which has nothing to do
    return JobShop(
        machines=4,
        first_operation=plain.first_operation,
        first_option=plain.first_option,
        machine=plain.machine,
        duration=plain.duration,
        release=np.array([draw(st.integers(0, 9)) for _ in jobs]),
    )


@settings(deadline=None, max_examples=50)
@given(shops())
def test_every_shop_gets_a_schedule_that_can_be(shop: JobShop):
    schedule = shifting_bottleneck(shop)
    schedule.validate()
    assert schedule.makespan >= shop.lower_bound()


@pytest.mark.slow_in_python
@pytest.mark.parametrize(
    ("name", "optimum", "longest"),
    [("ft06", 55, 55), ("la01", 666, 666), ("ft10", 930, 1015)],
)
def test_it_is_as_good_as_published(name: str, optimum: int, longest: int):
    """Adams, Balas and Zawack report 1015 for ft10 without enumeration."""
    schedule = shifting_bottleneck(benchmark(name))
    schedule.validate()
    assert optimum <= schedule.makespan <= longest
    assert schedule.start.tolist() == shifting_bottleneck(benchmark(name)).start.tolist()


def test_a_choice_of_machines_is_refused():
    with pytest.raises(ValueError, match="without a choice of machines"):
        shifting_bottleneck(JobShop.flexible([[[(0, 1), (1, 1)]]]))
