"""Rules that choose swaps."""

import numpy as np
import pytest

from makespan.baselines.jobshop.improvement import RandomSwap, steepest
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
@pytest.mark.parametrize("policy", [steepest, RandomSwap(0)], ids=["steepest", "random"])
def test_both_improve(policy: Policy):
    world = simulate(search("ta01", 200), policy)
    world.best.schedule.validate()
    assert world.best.makespan < world.begun
