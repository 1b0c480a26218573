"""Rules that choose swaps."""

import numpy as np
import pytest

from makespan.baselines.jobshop.improvement import (
    TABU,
    RandomSwap,
    steepest,
    tabu,
    tabu_scores,
)
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.jobshop.improve.episode import first_schedule
from makespan.envs.jobshop.improve.search import LocalSearch
from makespan.traces.jobshop import benchmark


def search(name: str, steps: int) -> LocalSearch:
    return LocalSearch(first_schedule(benchmark(name)), steps, np.random.default_rng(0))


def test_the_steepest_is_the_shortest_that_is_allowed():
    world = search("ft10", 40)
    tabu = 0
    while (decision := world.next_decision()) is not None:
        chosen = steepest(decision)
        assert decision.action_mask[chosen]
        allowed = decision.makespans[decision.action_mask]
        assert decision.makespans[chosen] == allowed.min()
        tabu += not decision.action_mask[decision.makespans.argmin()]
        world.decide(chosen)
        assert world.selection.makespan == decision.makespans[chosen]
    assert tabu > 0  # what it may not do would have been better


def test_recent_swaps_are_undone_only_for_the_best_schedule():
    world = search("ft10", 300)
    kept = aspired = 0
    while (decision := world.next_decision()) is not None:
        chosen = tabu(decision)
        recent = (decision.since > 0) & (decision.since <= TABU)
        free = decision.action_mask & (~recent | (decision.estimates < decision.best))
        if free.any():
            assert free[chosen]
            assert decision.estimates[chosen] == decision.estimates[free].min()
            kept += decision.estimates[chosen] > decision.estimates[decision.action_mask].min()
        aspired += bool(recent[chosen])
        world.decide(chosen)
    assert kept > 10
    assert aspired > 0


def test_the_longer_ago_a_forbidden_swap_was_the_more_it_scores():
    world = search("ft10", 100)
    seen = 0
    while (decision := world.next_decision()) is not None:
        longest = decision.selection.shop.duration.max()
        change = (decision.estimates - decision.selection.makespan) / longest
        penalty = -change - tabu_scores(decision)
        for since, estimate, less in zip(decision.since, decision.estimates, penalty, strict=True):
            forbidden = 0 < since <= TABU and estimate >= decision.best
            assert less == pytest.approx(2 - (since - 1) / 8 if forbidden else 0)
            seen += forbidden
        world.decide(tabu(decision))
    assert seen > 10


@pytest.mark.slow_in_python
def test_a_memory_is_worth_more_than_the_steepest_way():
    names = ("ta01", "ta02", "ta03", "ta04")
    best = {
        rule: [simulate(search(n, 300), rule).best.makespan for n in names]
        for rule in (steepest, tabu)
    }
    assert np.mean(best[tabu]) < 0.98 * np.mean(best[steepest])


def test_random_swaps_are_uniform_and_follow_the_seed():
    decision = search("ft10", 5).next_decision()
    assert decision is not None
    legal = int(decision.action_mask.sum())
    assert legal > 2
    draw, same, other = RandomSwap(1), RandomSwap(1), RandomSwap(2)
    chosen = [draw(decision) for _ in range(600)]
    assert chosen == [same(decision) for _ in range(600)]
    assert chosen != [other(decision) for _ in range(600)]
    shares = np.bincount(chosen, minlength=legal) / 600
    assert shares.tolist() == pytest.approx([1 / legal] * legal, abs=0.1)


@pytest.mark.slow_in_python
@pytest.mark.parametrize(
    "policy", [steepest, tabu, RandomSwap(0)], ids=["steepest", "tabu", "random"]
)
def test_all_improve(policy: Policy):
    world = simulate(search("ta01", 200), policy)
    world.best.schedule.validate()
    assert world.best.makespan < world.begun
