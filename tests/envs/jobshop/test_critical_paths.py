"""Heads, tails, critical paths and the moves N5, each held against its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from makespan.envs.jobshop.critical import NONE, Selection, estimate, makespans_of
from makespan.envs.jobshop.generation import WAYS, generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop

SEED = st.integers(0, 2**32 - 1)


@st.composite
def schedules(draw: st.DrawFn, shortest: int = 0, latest: int = 9, again: bool = True) -> Schedule:
    """Of a small shop, in any order that is made by priorities.

    Args:
        shortest: duration.
        latest: release.
        again: whether jobs visit a machine more than once.
    """
    machines = draw(st.integers(1, 4))
    visit = st.integers(0, machines - 1)
    visits = st.lists(visit, min_size=1, max_size=5, unique=not again)
    jobs = draw(st.lists(visits, min_size=1, max_size=5))
    plain = JobShop.of(
        [[(m, draw(st.integers(shortest, 9))) for m in job] for job in jobs], machines
    )
    shop = JobShop(
        machines=machines,
        first_operation=plain.first_operation,
        first_option=plain.first_option,
        machine=plain.machine,
        duration=plain.duration,
        release=np.array([draw(st.integers(0, latest)) for _ in jobs]),
    )
    priority = np.random.default_rng(draw(SEED)).random(shop.operations)
    return generate(shop, priority, draw(st.sampled_from(WAYS)))


def arcs(selection: Selection) -> list[tuple[int, int]]:
    """From one operation to the next, as the sequences say."""
    shop = selection.shop
    jobs = [range(*ends) for ends in itertools.pairwise(shop.first_operation.tolist())]
    chains = [*jobs, *selection.sequences]
    return [pair for chain in chains for pair in itertools.pairwise(chain)]


def heads(selection: Selection) -> list[int]:
    """Every start is put off until no arc asks for more."""
    shop = selection.shop
    start = np.zeros(shop.operations, int)
    start[shop.first_operation[:-1]] = shop.release
    while True:
        before = start.copy()
        for one, other in arcs(selection):
            start[other] = max(start[other], start[one] + shop.duration[one])
        if (start == before).all():
            return start.tolist()


def tails(selection: Selection) -> list[int]:
    duration = selection.shop.duration
    tail = np.zeros(selection.shop.operations, int)
    for _ in tail:
        for one, other in arcs(selection):
            tail[one] = max(tail[one], duration[other] + tail[other])
    return tail.tolist()


@settings(deadline=None)
@given(schedules(shortest=1))
def test_what_priorities_make_begins_as_early_as_its_order_permits(schedule: Schedule):
    selection = Selection.of_schedule(schedule)
    assert selection.schedule.start.tolist() == schedule.start.tolist()
    assert selection.makespan == schedule.makespan


@settings(deadline=None)
@given(schedules())
def test_heads_and_tails_are_longest_paths(schedule: Schedule):
    selection = Selection.of_schedule(schedule)
    selection.schedule.validate()
    assert selection.head.tolist() == heads(selection)
    assert selection.tail.tolist() == tails(selection)
    assert selection.makespan == selection.schedule.makespan


@settings(deadline=None)
@given(schedules())
def test_sequences_say_the_same_as_the_schedule(schedule: Schedule):
    selection = Selection.of_schedule(schedule)
    for machine, sequence in enumerate(selection.sequences):
        assert sorted(sequence) == np.flatnonzero(schedule.machine == machine).tolist()
        assert (np.diff(schedule.start[sequence]) >= 0).all()
    again = Selection.of(schedule.shop, selection.sequences)
    assert again.head.tolist() == selection.head.tolist()


@settings(deadline=None)
@given(schedules(), SEED)
def test_a_critical_path_has_no_gap(schedule: Schedule, seed: int):
    selection = Selection.of_schedule(schedule)
    duration, head = schedule.shop.duration, selection.head
    path = selection.critical_path(np.random.default_rng(seed))
    assert head[path[0]] == selection.graph.release[path[0]]
    assert head[path[-1]] + duration[path[-1]] == selection.makespan
    assert set(itertools.pairwise(path.tolist())) <= set(arcs(selection))
    assert (head[path[1:]] == (head + duration)[path[:-1]]).all()
    assert (head + duration + selection.tail)[path].tolist() == [selection.makespan] * len(path)
    blocks = selection.blocks(path)
    assert np.concatenate(blocks).tolist() == path.tolist()
    for block in blocks:
        assert set(itertools.pairwise(block.tolist())) <= {
            pair for sequence in selection.sequences for pair in itertools.pairwise(sequence)
        }
    for one, other in itertools.pairwise(blocks):
        assert selection.graph.machine_after[one[-1]] != other[0]


@settings(deadline=None)
@given(schedules(), SEED)
def test_every_move_makes_a_schedule_that_can_be(schedule: Schedule, seed: int):
    selection = Selection.of_schedule(schedule)
    moves = selection.moves(selection.critical_path(np.random.default_rng(seed)))
    before = [column.copy() for column in selection.graph]
    makespans = np.empty(len(moves), np.int64)
    head, order = np.empty_like(selection.head), np.empty_like(selection.head)
    makespans_of(selection.graph, moves, head, order, makespans)
    for (first, second), makespan in zip(moves.tolist(), makespans, strict=True):
        other = selection.swapped(first, second)
        other.schedule.validate()
        assert other.makespan == makespan
        assert other.head.tolist() == heads(other)
        assert other.graph.machine_after[second] == first
        back = other.swapped(second, first)
        assert back.sequences == selection.sequences
        guess = estimate(selection.graph, selection.head, selection.tail, first, second)
        assert guess <= makespan
        through = max((other.head + schedule.shop.duration + other.tail)[[first, second]])
        assert guess == through
    assert all((old == new).all() for old, new in zip(before, selection.graph, strict=True))


@settings(deadline=None)
@given(schedules(shortest=1), SEED)
def test_no_other_swap_on_the_path_makes_it_shorter(schedule: Schedule, seed: int):
    selection = Selection.of_schedule(schedule)
    path = selection.critical_path(np.random.default_rng(seed))
    moves = [tuple(pair) for pair in selection.moves(path).tolist()]
    job = schedule.shop.job
    for block in selection.blocks(path):
        for first, second in itertools.pairwise(block.tolist()):
            if (first, second) not in moves and job[first] != job[second]:
                assert selection.swapped(first, second).makespan >= selection.makespan


@settings(deadline=None)
@given(schedules(shortest=1, latest=0, again=False), SEED)
def test_where_there_is_no_move_nothing_is_shorter(schedule: Schedule, seed: int):
    selection = Selection.of_schedule(schedule)
    moves = selection.moves(selection.critical_path(np.random.default_rng(seed)))
    assume(len(moves) == 0)
    assert selection.makespan == schedule.shop.lower_bound()


# Machine 0 has operations 0, 3, 6 and then 9, machine 1 has 1, 4, 7, 10, machine 2 the others.
STAIRS = JobShop.of([[(0, 2), (1, 3), (2, 2)] for _ in range(4)])
IN_TURN = [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_a_path_and_its_moves_worked_out_by_hand():
    """Job 0 on machine 0 from 0 to 2, then all on machine 1 from 2 to 14, then job 3 to 16."""
    selection = Selection.of(STAIRS, IN_TURN)
    path = selection.critical_path(np.random.default_rng(0))
    assert selection.makespan == 16
    assert path.tolist() == [0, 1, 4, 7, 10, 11]
    assert [block.tolist() for block in selection.blocks(path)] == [[0], [1, 4, 7, 10], [11]]
    assert selection.moves(path).tolist() == [[1, 4], [7, 10]]


def test_of_the_outer_blocks_only_the_inner_pairs():
    """Machine 0 works from 0 to 9, then machine 1 to 18: the path changes in the middle."""
    shop = JobShop.of([[(0, 3)], [(0, 3)], [(0, 3), (1, 3)], [(1, 3)], [(1, 3)]])
    selection = Selection.of(shop, [[0, 1, 2], [3, 4, 5]])
    path = selection.critical_path(np.random.default_rng(0))
    assert path.tolist() == [0, 1, 2, 3, 4, 5]
    assert selection.moves(path).tolist() == [[1, 2], [3, 4]]


def test_a_block_of_two_has_one_move():
    shop = JobShop.of([[(0, 1), (1, 2)], [(1, 2), (2, 4)]])
    selection = Selection.of(shop, [[0], [1, 2], [3]])
    path = selection.critical_path(np.random.default_rng(0))
    assert path.tolist() == [0, 1, 2, 3]
    assert selection.moves(path).tolist() == [[1, 2]]


def test_a_path_that_begins_with_a_release_may_begin_otherwise():
    plain = JobShop.of([[(0, 2)], [(0, 3)]])
    shop = JobShop(
        machines=1,
        first_operation=plain.first_operation,
        first_option=plain.first_option,
        machine=plain.machine,
        duration=plain.duration,
        release=np.array([4, 0]),
    )
    selection = Selection.of(shop, [[0, 1]])
    path = selection.critical_path(np.random.default_rng(0))
    assert selection.moves(path).tolist() == [[0, 1]]
    assert (selection.makespan, selection.swapped(0, 1).makespan) == (9, 6)


def test_of_several_critical_paths_each_is_taken():
    shop = JobShop.of([[(0, 2), (1, 2)], [(1, 2), (0, 2)]])
    selection = Selection.of(shop, [[0, 3], [2, 1]])
    rng = np.random.default_rng(0)
    paths = {tuple(selection.critical_path(rng).tolist()) for _ in range(100)}
    assert paths == {(0, 1), (0, 3), (2, 1), (2, 3)}


def test_what_takes_no_time_and_lay_within_another_goes_behind_it():
    schedule = Schedule.plain(JobShop.of([[(0, 4)], [(0, 0)]]), np.array([0, 2]))
    selection = Selection.of_schedule(schedule)
    assert selection.head.tolist() == [0, 4]
    assert selection.graph.machine_before.tolist() == [NONE, 0]


CROSSED = JobShop.of([[(0, 1), (1, 1)], [(1, 1), (0, 1)]])


@pytest.mark.parametrize(
    ("sequences", "reason"),
    [
        ([[0, 3]], "needs a sequence for each of 2 machines"),
        ([[0, 2], [1, 3]], "the sequence of machine 0 is not of its operations"),
        ([[0, 3], [1]], "the sequence of machine 1 is not of its operations"),
        ([[3, 0], [1, 2]], "operations wait for each other"),
    ],
)
def test_orders_that_cannot_be_are_refused(sequences: list[list[int]], reason: str):
    with pytest.raises(ValueError, match=reason):
        Selection.of(CROSSED, sequences)


def test_swaps_that_cannot_be_are_refused():
    selection = Selection.of(JobShop.of([[(0, 1), (0, 1)], [(0, 1)]]), [[0, 1, 2]])
    with pytest.raises(ValueError, match="operation 2 does not follow 0 on a machine"):
        selection.swapped(0, 2)
    with pytest.raises(ValueError, match="wait for each other"):
        selection.swapped(0, 1)


def test_a_choice_of_machines_is_refused():
    shop = JobShop.flexible([[[(0, 1), (1, 1)]]])
    with pytest.raises(ValueError, match="without a choice of machines"):
        Selection.of_schedule(Schedule(shop, np.array([0]), np.array([0])))
