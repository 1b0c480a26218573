"""The job shop as choices: one by one, and many shops at once."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.jobshop.exact import solve
from makespan.baselines.jobshop.rules import RULES, RulePolicy, dispatch
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.batch import ShopBatch, random_actions
from makespan.envs.jobshop.core import WAYS
from makespan.envs.jobshop.simulation import ShopDecision, ShopSimulation
from makespan.traces.jobshop import JobShop, benchmark
from makespan.traces.jobshop.uniform import uniform_shop


def shop_of(jobs: int, machines: int, seed: int) -> JobShop:
    return uniform_shop(jobs, machines, np.random.default_rng(seed))


SHOPS = st.builds(shop_of, st.integers(2, 6), st.integers(1, 5), st.integers(0, 10**6))


@settings(deadline=None)
@given(SHOPS, st.sampled_from(WAYS), st.integers(0, 10**6))
def test_whatever_is_chosen_the_schedule_can_be(shop, way, seed):
    rng = np.random.default_rng(seed)
    simulation = simulate(ShopSimulation(shop, way), lambda decision: rng.choice(decision.jobs))
    simulation.schedule.validate()
    assert simulation.clock.now == simulation.schedule.makespan == simulation.bound


@settings(deadline=None)
@given(SHOPS, st.sampled_from(WAYS), st.integers(0, 10**6))
def test_the_bound_never_falls_and_the_makespan_is_none_below_it(shop, way, seed):
    rng = np.random.default_rng(seed)
    simulation = ShopSimulation(shop, way)
    bounds = [simulation.bound]
    while (decision := simulation.next_decision()) is not None:
        bounds.append(simulation.bound)
        simulation.decide(int(rng.choice(decision.jobs)))
    assert bounds == sorted(bounds)
    assert bounds[-1] <= simulation.bound


@settings(deadline=None)
@given(SHOPS, st.sampled_from(WAYS), st.integers(0, 10**6))
def test_a_decision_is_between_at_least_two_jobs_and_is_kept_as_it_was(shop, way, seed):
    rng = np.random.default_rng(seed)
    seen: list[tuple[ShopDecision, list]] = []

    def policy(decision: ShopDecision) -> int:
        assert len(decision.jobs) >= 2
        assert decision.action_mask.sum() == len(decision.jobs)
        assert (decision.shop.job[decision.operations] == decision.jobs).all()
        if way in ("nondelay", "active"):
            assert (decision.shop.machine[decision.operations] == decision.machine).all()
        if way == "nondelay":
            assert (decision.begins == decision.time).all()
        seen.append((decision, [decision.jobs.tolist(), decision.rows.tolist()]))
        return int(rng.choice(decision.jobs))

    simulate(ShopSimulation(shop, way), policy)
    for decision, kept in seen:
        assert [decision.jobs.tolist(), decision.rows.tolist()] == kept


@pytest.mark.slow_in_python
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_as_a_policy_makes_the_rules_schedule(rule, way):
    for name in ("ft06", "la21"):
        shop = benchmark(name)
        made = simulate(ShopSimulation(shop, way), RulePolicy(rule)).schedule
        assert made.start.tolist() == dispatch(shop, rule, way).start.tolist()


def test_the_log_tells_what_was_done():
    shop = JobShop.of([[(0, 3), (1, 2)], [(0, 2), (1, 4)]])
    log = simulate(ShopSimulation(shop), RulePolicy("spt")).log
    assert log["job"].tolist() == [0, 0, 1, 1]
    assert log["operation"].tolist() == [0, 1, 0, 1]
    assert log["machine"].tolist() == [0, 1, 0, 1]
    assert log["start"].tolist() == [2, 6, 0, 2]
    assert log["end"].tolist() == [5, 8, 2, 6]


def test_some_active_schedule_is_optimal_and_here_none_without_delay():
    # The second job comes to machine 0 a moment later and has much to do after it: without delay
    # the first is in its way.
    shop = JobShop.of([[(0, 9), (1, 1)], [(1, 1), (0, 1), (1, 20)]])
    best = {way: min(every_makespan(shop, way)) for way in ("nondelay", "active")}
    assert best == {"nondelay": 30, "active": 23}


def every_makespan(shop: JobShop, way) -> list[int]:
    """Of all schedules that choices of this way can make."""
    found = []
    for places in itertools.product(range(shop.jobs), repeat=shop.operations):
        left = iter(places)
        simulation = ShopSimulation(shop, way)
        simulate(simulation, lambda d, left=left: int(d.jobs[next(left) % len(d.jobs)]))
        found.append(simulation.schedule.makespan)
    return found


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(WAYS), st.integers(0, 10**6))
def test_a_batch_does_what_each_of_its_shops_does_alone(way, seed):
    rng = np.random.default_rng(seed)
    batch = ShopBatch([shop_of(5, 4, seed + k) for k in range(4)], way)
    alone = [ShopSimulation(shop, way) for shop in batch.shops]
    while batch.count.any():
        actions, masks = random_actions(batch, rng), batch.action_masks
        for k, simulation in enumerate(alone):
            decision = simulation.next_decision()
            if batch.count[k] == 0:
                assert decision is None
                continue
            assert decision is not None
            assert decision.action_mask.tolist() == masks[k].tolist()
            assert decision.machine == batch.machine[k]
            simulation.decide(int(actions[k]))
        batch.step(actions)
    for k, simulation in enumerate(alone):
        assert simulation.next_decision() is None
        assert batch.schedule(k).start.tolist() == simulation.schedule.start.tolist()
        assert batch.makespan[k] == simulation.schedule.makespan


def test_a_batch_begins_anew():
    batch = ShopBatch([shop_of(4, 3, 1)] * 2)
    first = batch.candidates[:, : batch.count.max()].tolist()
    batch.step(random_actions(batch, np.random.default_rng(0)))
    batch.reset()
    assert batch.candidates[:, : batch.count.max()].tolist() == first


def test_a_batch_refuses_what_is_no_candidate_and_does_nothing():
    batch = ShopBatch([JobShop.of([[(0, 1), (1, 1)], [(0, 2), (1, 1)], [(1, 5)]])] * 2)
    counts = batch.count.tolist()
    with pytest.raises(ValueError, match="episode 1: job 2 is no candidate"):
        batch.step(np.array([0, 2]))
    assert batch.count.tolist() == counts
    assert not (batch.makespan == 1).any()


def test_a_batch_wants_shops_of_one_size():
    with pytest.raises(ValueError, match="of one size, not of 2"):
        ShopBatch([shop_of(3, 3, 0), shop_of(4, 3, 0)])
    with pytest.raises(ValueError, match="of one size, not of 0"):
        ShopBatch([])


def test_what_is_no_candidate_is_refused_and_changes_nothing():
    simulation = ShopSimulation(JobShop.of([[(0, 3)], [(0, 2)], [(1, 1)], [(0, 1)]]))
    with pytest.raises(ValueError, match="no decision is due"):
        simulation.decide(0)
    assert simulation.next_decision() is not None
    for job in (2, -1, 4, 10**9):
        with pytest.raises(ValueError, match=f"job {job} is no candidate"):
            simulation.decide(job)
    simulation.decide(1)
    with pytest.raises(ValueError, match="no decision is due"):
        simulation.decide(0)
    simulation = simulate(simulation, RulePolicy("spt"))
    with pytest.raises(ValueError, match="no decision is due"):
        simulation.decide(0)
    assert simulation.schedule.start.tolist() == [3, 0, 0, 2]


def test_what_cannot_be_dispatched_is_refused():
    with pytest.raises(ValueError, match="without a choice of machines"):
        ShopSimulation(JobShop.flexible([[[(0, 1), (1, 2)]]]))
    with pytest.raises(ValueError, match="not by 'late'"):
        ShopSimulation(shop_of(2, 2, 0), "late")  # type: ignore[arg-type]


@pytest.mark.slow_in_python
@pytest.mark.parametrize("seed", range(3))
def test_the_best_active_schedule_is_as_short_as_any(seed):
    shop = shop_of(3, 2, seed)
    best = solve(shop, limit_s=30).schedule
    assert best is not None
    assert min(every_makespan(shop, "active")) == best.makespan
