"""The rule that tries every swap before it makes one."""

from itertools import pairwise

import numpy as np
import pytest

from makespan.baselines.jobshop import look_ahead
from makespan.baselines.jobshop.improvement import forbidden, tabu
from makespan.baselines.jobshop.look_ahead import DEPTH, LONG_AGO, LookAhead
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.critical import Selection
from makespan.envs.jobshop.improve.episode import first_schedule
from makespan.envs.jobshop.improve.search import LocalSearch
from makespan.traces.jobshop import benchmark


def search(name: str, steps: int) -> LocalSearch:
    return LocalSearch(first_schedule(benchmark(name)), steps, np.random.default_rng(0))


def test_a_way_is_what_its_swaps_lead_to():
    """The swaps of a way, made again one by one, have the makespans that it noted."""
    selection = Selection.of_schedule(first_schedule(benchmark("ft10")))
    rng = np.random.default_rng(0)
    first = selection.moves(selection.critical_path(rng))[0]
    graph = selection.swapped(*first.tolist()).swapped(*first[::-1].tolist()).graph  # a copy
    last = np.full((100, 100), LONG_AGO)
    swaps, makespans = np.tile(first, (DEPTH, 1)), np.empty(DEPTH, np.int64)
    chances = rng.random((DEPTH, 101))
    steps = look_ahead._go(graph, last, 1, selection.makespan, chances, swaps, makespans)
    assert steps == DEPTH
    for swap, makespan in zip(swaps.tolist(), makespans.tolist(), strict=True):
        selection = selection.swapped(*swap)
        assert selection.makespan == makespan
    assert all(one != other[::-1] for one, other in pairwise(swaps.tolist()))
    assert (last == LONG_AGO).all()


def test_it_keeps_to_what_tabu_may_do_and_changes_nothing_but_its_memory():
    world, rule = search("ft10", 60), LookAhead()
    others = 0
    while (decision := world.next_decision()) is not None:
        orders = decision.selection.graph.machine_after.copy()
        chosen = rule(decision)
        assert (decision.selection.graph.machine_after == orders).all()
        free = decision.action_mask & ~forbidden(decision)
        assert (free if free.any() else decision.action_mask)[chosen]
        others += chosen != tabu(decision)
        world.decide(chosen)
    assert others > 10
    log = world.log
    known = {}
    for step, pair in enumerate(zip(log["first"].tolist(), log["second"].tolist(), strict=True)):
        known[frozenset(pair)] = step + 1
    for (first, second), step in np.ndenumerate(rule._last):
        assert step == known.get(frozenset((first, second)), LONG_AGO)


@pytest.mark.slow_in_python
def test_it_gets_further_than_tabu_with_as_many_swaps():
    names = ("ta01", "ta02", "ta03", "ta04")
    best = [
        np.mean([simulate(search(name, 200), rule()).best.makespan for name in names])
        for rule in (LookAhead, lambda: tabu)
    ]
    assert best[0] < best[1]


def test_the_same_seed_makes_the_same_swaps():
    logs = [simulate(search("ft10", 40), LookAhead(seed)).log["second"] for seed in (1, 1, 2)]
    assert (logs[0] == logs[1]).all()
    assert (logs[0] != logs[2]).any()
