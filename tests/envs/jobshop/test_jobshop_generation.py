"""The ways of making a schedule from priorities, each held against its definition."""

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.envs.jobshop.generation import WAYS, generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop
from makespan.traces.jobshop.instance import LATEST

DURATION = st.integers(1, 9)


@st.composite
def shops(draw: st.DrawFn, duration=DURATION) -> tuple[JobShop, np.ndarray]:
    """A small shop, whose jobs visit machines as often as they like, and random priorities."""
    machines = draw(st.integers(1, 4))
    operation = st.tuples(st.integers(0, machines - 1), duration)
    jobs = draw(st.lists(st.lists(operation, min_size=1, max_size=5), min_size=1, max_size=5))
    shop = JobShop.of(jobs, machines)
    numbers = st.lists(
        st.integers(0, 3), min_size=shop.operations, max_size=shop.operations
    )  # with many equals
    return shop, np.array(draw(numbers), np.float64)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)  # it may have to be compiled
@given(drawn=shops(st.integers(0, 9)))
def test_every_way_makes_schedules_that_can_be(way, drawn):
    schedule = generate(drawn[0], drawn[1], way)
    schedule.validate()
    assert schedule.makespan >= drawn[0].lower_bound()


@given(shops())
def test_nondelay_is_what_a_shop_does_where_no_machine_waits(drawn):
    shop, priority = drawn
    assert generate(shop, priority, "nondelay").start.tolist() == simulated(shop, priority)


def simulated(shop: JobShop, priority: np.ndarray) -> list[int]:
    """Starts in a SimPy model: each machine takes, whenever it is free, the best that waits."""
    clock, start = simpy.Environment(), [-1] * shop.operations
    queues: list[list[tuple[float, int, int, simpy.Event]]] = [[] for _ in range(shop.machines)]
    busy = [False] * shop.machines

    def job(number: int, first: int, last: int):
        for operation in range(first, last):
            machine, turn = shop.machine[operation], clock.event()
            queues[machine].append((priority[operation], number, operation, turn))
            clock.process(wake(machine))
            yield turn
            start[operation] = int(clock.now)
            yield clock.timeout(int(shop.duration[operation]))
            busy[machine] = False
            clock.process(wake(machine))

    def wake(machine: int):
        yield clock.timeout(0)  # after all that ends at this moment
        yield clock.timeout(0)
        yield clock.timeout(0)
        if not busy[machine] and queues[machine]:
            busy[machine] = True
            best = min(queues[machine], key=lambda waiting: waiting[:2])
            queues[machine].remove(best)
            best[3].succeed()

    ends = shop.first_operation.tolist()
    for number in range(shop.jobs):
        clock.process(job(number, ends[number], ends[number + 1]))
    clock.run()
    return start


@given(shops())
def test_in_an_active_schedule_nothing_can_be_earlier_alone(drawn):
    schedule = generate(drawn[0], drawn[1], "active")
    assert not can_be_earlier(schedule, anywhere=True)


@given(shops())
def test_in_a_semi_active_schedule_nothing_can_be_earlier_in_its_order(drawn):
    for way in ("append", "nondelay", "active"):
        assert not can_be_earlier(generate(drawn[0], drawn[1], way), anywhere=False)


@given(shops())
def test_what_is_inserted_is_in_the_first_gap(drawn):
    """So in the end nothing can be earlier alone, as in an active schedule."""
    assert not can_be_earlier(generate(drawn[0], drawn[1], "insert"), anywhere=True)


def can_be_earlier(schedule: Schedule, anywhere: bool) -> bool:
    """Whether an operation could begin earlier while all others stay.

    Args:
        anywhere: also in front of others on its machine; else only behind those before it.
    """
    shop = schedule.shop
    for operation in range(shop.operations):
        first = operation in shop.first_operation
        ready = shop.release[shop.job[operation]] if first else schedule.end[operation - 1]
        same = np.flatnonzero(schedule.machine == schedule.machine[operation])
        others = [o for o in same.tolist() if o != operation]
        if not anywhere:
            others = [o for o in others if schedule.start[o] < schedule.start[operation]]
            ready = max([ready, *(schedule.end[o] for o in others)])
            if ready < schedule.start[operation]:
                return True
            continue
        for begin in {int(ready), *(int(schedule.end[o]) for o in others)}:
            end = begin + shop.duration[operation]
            free = all(schedule.end[o] <= begin or schedule.start[o] >= end for o in others)
            if ready <= begin < schedule.start[operation] and free:
                return True
    return False


@given(shops())
def test_by_arrival_who_is_ready_first_is_first(drawn):
    shop, priority = drawn
    one = generate(shop, priority, "nondelay", by_arrival=True)
    other = generate(shop, -priority, "nondelay", by_arrival=True)
    assert one.start.tolist() == other.start.tolist()


def test_equals_go_by_the_number_of_the_job():
    shop = JobShop.of([[(0, 2)], [(0, 1)], [(0, 3)]])
    assert generate(shop, np.zeros(3), "nondelay").start.tolist() == [0, 2, 3]


def test_the_ways_differ():
    """One job could begin at once, but the rule would rather have the other there."""
    shop = JobShop.of([[(0, 1), (1, 1)], [(1, 5)]])
    prefers_first = np.array([0.0, 0.0, 1.0])
    starts = {way: generate(shop, prefers_first, way).start.tolist() for way in WAYS}
    assert starts == {
        "nondelay": [0, 5, 0],  # machine 1 is free and takes what there is
        "active": [0, 1, 2],  # it waits for what would end before
        "append": [0, 1, 2],
        "insert": [0, 1, 2],
    }


def test_a_gap_is_used_only_by_insertion():
    shop = JobShop.of([[(0, 4), (1, 1)], [(1, 3)]])
    first_job_first = np.array([0.0, 0.0, 1.0])
    assert generate(shop, first_job_first, "append").start.tolist() == [0, 4, 5]
    assert generate(shop, first_job_first, "insert").start.tolist() == [0, 4, 0]


@pytest.mark.parametrize(
    ("shop", "priority", "way", "reason"),
    [
        (JobShop.flexible([[[(0, 1), (1, 1)]]]), [0.0], "nondelay", "without a choice of machines"),
        (JobShop.of([[(0, 1)]]), [0.0, 1.0], "nondelay", "needs 1 priorities"),
        (JobShop.of([[(0, 1)]]), [float("nan")], "nondelay", "that are finite"),
        (JobShop.of([[(0, 1)]]), [0.0], "eager", "not by 'eager'"),
    ],
)
def test_what_cannot_be_made_is_said(shop, priority, way, reason):
    with pytest.raises(ValueError, match=reason):
        generate(shop, np.array(priority), way)


@pytest.mark.parametrize("way", WAYS)
def test_the_longest_shop_there_can_be_does_not_overflow(way):
    half = LATEST // 2
    shop = JobShop.of([[(0, half), (0, half - 1)], [(0, 1)]])
    schedule = generate(shop, np.array([0.0, 2.0, 1.0]), way)
    schedule.validate()
    assert schedule.makespan == LATEST
    assert schedule.start.tolist() == [0, half + 1, half]
