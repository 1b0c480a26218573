"""Tabu search over N7: its moves, their estimates, what is tabu, and known optima."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop import n7
from makespan.baselines.jobshop.relinking import order_of
from makespan.envs.jobshop.critical import Selection, estimate, find_heads
from makespan.envs.jobshop.generation import WAYS, generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop, benchmark
from makespan.traces.jobshop.uniform import uniform_shop


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Of shops in which jobs may visit a machine twice and operations take no time."""
    operation = st.tuples(st.integers(0, 3), st.integers(0, 9))
    job = st.lists(operation, min_size=1, max_size=5)
    shop = JobShop.of(draw(st.lists(job, min_size=1, max_size=5)), machines=4)
    priority = np.random.default_rng(draw(st.integers(0, 99))).random(shop.operations)
    return generate(shop, priority, draw(st.sampled_from(WAYS)))


def moves_of(selection: Selection, path: np.ndarray) -> list[list[int]]:
    moves = np.empty((4 * len(path), 3), np.int64)
    count = n7.n7(selection.graph, selection.head, selection.tail, path, moves)
    return moves[:count].tolist()


def sequences(graph, shop: JobShop) -> list[list[int]]:
    """Of every machine, its operations in their order."""
    orders = []
    for machine in range(shop.machines):
        on = np.flatnonzero(shop.machine == machine)
        order = [int(o) for o in on if graph.machine_before[o] < 0]
        while order and graph.machine_after[order[-1]] >= 0:
            order.append(int(graph.machine_after[order[-1]]))
        orders.append(order)
    return orders


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 8), st.integers(2, 5), st.integers(0, 999))
def test_moves_put_an_operation_where_they_say_and_nothing_waits_for_itself(
    jobs: int, machines: int, seed: int
):
    rng = np.random.default_rng(seed)
    shop = uniform_shop(jobs, machines, rng)
    schedule = generate(shop, rng.random(shop.operations), "nondelay")
    selection = Selection.of_schedule(schedule)
    path = selection.critical_path(rng)
    line, starts = np.empty((2, shop.operations), np.int64)
    head, order = np.empty((2, shop.operations), np.int64)
    found = moves_of(selection, path)
    assert len({tuple(move) for move in found}) == len(found)
    for moved, target, behind in found:
        graph, move = order_of(schedule), np.array([moved, target, behind])
        size = n7._line(graph, move, line)
        part = line[:size]
        made = n7._estimate(graph, selection.head, selection.tail, part, behind, starts)
        before, after = n7._around(graph, part, behind)
        wanted = sequences(graph, shop)
        own = wanted[shop.machine[moved]]
        own.remove(moved)
        own.insert(own.index(target) + behind, moved)
        n7._put(graph, part, before, after)
        assert sequences(graph, shop) == wanted
        assert find_heads(graph, head, order) > 0
        if size == 2:
            swapped = (target, moved) if not behind else (moved, target)
            of = selection.graph, selection.head, selection.tail
            assert made == estimate(*of, *swapped)
        n7._turn_back(part, behind)
        n7._put(graph, part, before, after)
        assert sequences(graph, shop) == selection.sequences


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(2, 5), st.integers(0, 999))
def test_the_swaps_of_n5_are_among_its_moves(jobs: int, machines: int, seed: int):
    rng = np.random.default_rng(seed)
    shop = uniform_shop(jobs, machines, rng)
    selection = Selection.of_schedule(generate(shop, rng.random(shop.operations), "nondelay"))
    path = selection.critical_path(rng)
    found = moves_of(selection, path)
    for first, second in selection.moves(path).tolist():
        assert [first, second, 1] in found or [second, first, 0] in found


@settings(deadline=None, max_examples=50)
@given(schedules(), st.integers(0, 40))
def test_it_is_never_worse_than_its_start(start: Schedule, steps: int):
    best = np.empty(start.shop.operations, np.int64)
    makespan, made = n7.search(order_of(start), steps, np.random.default_rng(0), best)
    found = Schedule.plain(start.shop, best)
    found.validate()
    assert start.shop.lower_bound() <= found.makespan == makespan
    assert makespan <= Selection.of_schedule(start).makespan
    assert made <= steps


def test_an_order_that_was_turned_round_is_tabu_until_it_is_not():
    until = np.zeros((5, 5), np.int32)
    behind, in_front = np.array([0, 2, 1]), np.array([0, 1, 0])
    n7._forbid(until, behind, np.array([1, 2, 0]), 7)  # 0 went behind 1 and 2
    assert until[0].tolist() == [0, 7, 7, 0, 0]
    assert n7._tabu(until, in_front, np.array([0, 1]), 6)
    assert not n7._tabu(until, in_front, np.array([0, 1]), 7)
    assert not n7._tabu(until, behind, np.array([1, 2, 0]), 6)
    n7._forbid(until, np.array([4, 3, 0]), np.array([4, 3]), 9)  # 4 went in front of 3
    assert until[3].tolist() == [0, 0, 0, 0, 9]
    assert n7._tabu(until, np.array([3, 4, 0]), np.array([3, 4]), 8)
    assert n7._tabu(until, np.array([4, 3, 1]), np.array([3, 4]), 8)


@pytest.mark.slow_in_python
@pytest.mark.parametrize(("name", "optimum"), [("ft06", 55), ("la01", 666), ("la21", 1046)])
def test_it_comes_close_to_known_optima(name: str, optimum: int):
    shop, makespans = benchmark(name), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        start = generate(shop, rng.random(shop.operations), "nondelay")
        best = np.empty(shop.operations, np.int64)
        makespans.append(n7.search(order_of(start), 20_000, rng, best)[0])
    assert optimum <= min(makespans) <= 1.02 * optimum
