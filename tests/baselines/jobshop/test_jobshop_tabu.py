"""Tabu search: known optima, its memory, and that it never loses what it had."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop import dispatch
from makespan.baselines.jobshop.tabu import ELITE, PATIENCE, TABU, _Search, tabu_search
from makespan.envs.jobshop.generation import WAYS, generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop, benchmark


@st.composite
def starts(draw: st.DrawFn) -> Schedule:
    operation = st.tuples(st.integers(0, 3), st.integers(0, 9))
    job = st.lists(operation, min_size=1, max_size=5)
    shop = JobShop.of(draw(st.lists(job, min_size=1, max_size=5)), machines=4)
    priority = np.random.default_rng(draw(st.integers(0, 99))).random(shop.operations)
    return generate(shop, priority, draw(st.sampled_from(WAYS)))


@settings(deadline=None)
@given(starts(), st.integers(0, 30))
def test_it_is_never_worse_than_its_start(start: Schedule, steps: int):
    result = tabu_search(start.shop, steps=steps, start=start)
    result.schedule.validate()
    assert start.shop.lower_bound() <= result.schedule.makespan <= result.trajectory[0].makespan
    assert result.steps <= steps
    found = [improvement.makespan for improvement in result.trajectory]
    assert found == sorted(set(found), reverse=True)
    assert found[-1] == result.schedule.makespan


@pytest.mark.slow_in_python
@pytest.mark.parametrize(("name", "optimum"), [("ft06", 55), ("la01", 666), ("la02", 655)])
def test_known_optima_are_reached_from_a_rule(name: str, optimum: int):
    shop = benchmark(name)
    result = tabu_search(shop, start=dispatch(shop, "fdd_mwkr", "insert"))
    result.schedule.validate()
    assert result.trajectory[0].makespan > result.schedule.makespan == optimum


def test_the_same_seed_finds_the_same():
    shop = benchmark("ft10")
    one, other, third = (tabu_search(shop, seed, steps=150) for seed in (1, 1, 2))
    assert one.schedule.start.tolist() == other.schedule.start.tolist()
    steps = [[(i.step, i.makespan) for i in result.trajectory] for result in (one, other, third)]
    assert steps[0] == steps[1] != steps[2]


def test_a_jump_leads_back_to_where_another_neighbour_was_left():
    """The last good schedule but one swap, with what was tabu there."""
    shop = benchmark("ft10")
    search = _Search(dispatch(shop, "fdd_mwkr", "insert"), np.random.default_rng(0))
    while len(search.elite) < 2:
        assert search.step()
    for _ in range(5):
        assert search.step()
    state = search.elite[-1]
    search.idle = PATIENCE
    kept = len(state.swaps)
    assert search.step()
    assert len(search.elite[-1].swaps if kept > 1 else state.swaps) == kept - (kept > 1)
    assert list(search.tabu)[:-1] == state.tabu[-(TABU - 1) :]
    assert search.tabu[-1] in [tuple(pair) for pair in state.swaps.tolist()]
    assert len(search.elite) <= ELITE


def test_it_ends_when_nothing_is_left_to_jump_to():
    search = _Search(dispatch(benchmark("ft06"), "spt"), np.random.default_rng(0))
    search.idle = PATIENCE
    assert not search.step()


def test_a_swap_is_not_undone_at_once():
    search = _Search(dispatch(benchmark("ft10"), "spt"), np.random.default_rng(0))
    for _ in range(60):
        before = search.best
        assert search.step()
        last = list(search.tabu)
        undone = (last[-1][1], last[-1][0]) in last[:-1]
        assert not undone or search.makespan < before


def test_without_steps_or_time_there_is_the_start():
    shop = benchmark("ft06")
    start = dispatch(shop, "spt")
    for result in (
        tabu_search(shop, steps=0, start=start),
        tabu_search(shop, limit_s=0, start=start),
    ):
        assert result.steps == 0
        assert result.schedule.start.tolist() == start.start.tolist()
        assert [improvement[::2] for improvement in result.trajectory] == [(0, start.makespan)]


def test_progress_is_told_of_each_improvement_when_it_is_found():
    shop, told = benchmark("ft06"), []
    result = tabu_search(shop, steps=200, start=dispatch(shop, "spt"), progress=told.append)
    assert told == result.trajectory
    assert len(told) > 2

    def stop(improvement):
        if improvement.step:
            raise KeyboardInterrupt(improvement)

    with pytest.raises(KeyboardInterrupt) as stopped:
        tabu_search(shop, steps=200, start=dispatch(shop, "spt"), progress=stop)
    assert stopped.value.args[0][::2] == told[1][::2]


def test_bad_input_is_named():
    shop = benchmark("ft06")
    with pytest.raises(ValueError, match="must not be negative: -1 and"):
        tabu_search(shop, steps=-1)
    with pytest.raises(ValueError, match="must not be negative: 5000 and nan"):
        tabu_search(shop, limit_s=float("nan"))
    with pytest.raises(ValueError, match="another job shop"):
        tabu_search(shop, start=dispatch(benchmark("ft10"), "spt"))
    with pytest.raises(ValueError, match="without a choice of machines"):
        tabu_search(JobShop.flexible([[[(0, 1), (1, 1)]]]))
