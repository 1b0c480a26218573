"""Planning anew at every decision."""

from dataclasses import replace

import numpy as np
import pytest

from makespan.baselines.jobshop.dynamic_rules import policy
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.dynamic import Conditions, DynamicJobShop
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop, benchmark
from makespan.traces.jobshop.uniform import uniform_shop

pytest.importorskip("ortools")

from makespan.baselines.jobshop.exact import solve
from makespan.baselines.jobshop.reoptimise import Reoptimise, remaining


def test_what_is_left_is_what_a_dispatcher_knows():
    shop = JobShop.of(
        [[(0, 4), (1, 3)], [(1, 9), (0, 2)], [(0, 5)], [(0, 6), (1, 1)], [(2, 2)]], machines=4
    )
    shop = replace(shop, release=np.array([0, 0, 1, 2, 50]))
    downtimes = [[], [(1, 9)], [], [(3, 90)]]
    run = DynamicJobShop(shop, Conditions(mean_repair=7.5), downtimes=downtimes)
    decision = run.next_decision()
    assert decision is not None
    assert (decision.time, decision.job.tolist()) == (4.0, [2, 3])
    left = remaining(run, decision)
    # Job 0 waits for machine 1, job 1 has 8 left there, with 7.5 for the repair; job 4 is unknown.
    assert left.shop.machine.tolist() == [1, 1, 0, 0, 0, 1, 3]
    assert left.shop.duration.tolist() == [3, 16, 2, 5, 6, 1, 8]
    assert left.shop.first_operation.tolist() == [0, 1, 3, 4, 6, 7]
    assert left.frozen == {1: 0, 6: 0}
    assert left.place == {0: 0, 1: 1, 2: 3, 3: 4}


def test_what_is_frozen_stays():
    shop = JobShop.of([[(0, 9)], [(0, 1), (1, 20)]])
    free = solve(shop, workers=1).schedule
    frozen = solve(shop, workers=1, frozen={0: 0}).schedule
    assert free is not None
    assert frozen is not None
    assert free.makespan == 21
    assert frozen.start.tolist() == [0, 9, 10]
    assert solve(shop, workers=1, frozen={0: 0, 1: 3}).status == "infeasible"
    with pytest.raises(ValueError, match="frozen operations must be 0 to 2"):
        solve(shop, frozen={3: 0})


def test_what_is_frozen_may_be_later_than_everything_else():
    shop = JobShop.of([[(0, 1), (1, 1)]])
    assert solve(shop, workers=1, frozen={0: 5}).objective == 7
    hint = Schedule.plain(shop, np.array([5, 6]))
    assert solve(shop, workers=1, frozen={0: 5}, hint=hint).status == "optimal"


def test_a_hint_that_moves_what_is_frozen_is_no_answer():
    shop = JobShop.of([[(0, 1), (1, 1)]])
    early = Schedule.plain(shop, np.array([0, 1]))
    assert solve(shop, workers=1, frozen={0: 1}, hint=early).objective == 3


def test_the_plan_is_followed():
    run = DynamicJobShop(benchmark("ft06"))
    simulate(run, Reoptimise(run, limit_s=20.0))
    schedule = run.schedule()
    schedule.validate()
    # 55 is optimal; begun without delay it may be longer, but not as long as by the rules.
    assert 55 <= schedule.makespan < 60
    assert simulate(DynamicJobShop(benchmark("ft06")), policy("tail_p")).schedule().makespan > 60


def test_a_choice_of_machines_is_planned():
    shop = JobShop.flexible([[[(0, 9), (1, 2)]], [[(0, 3), (1, 9)]]])
    run = DynamicJobShop(shop)
    simulate(run, Reoptimise(run))
    assert run.schedule().makespan == 3.0  # each where it is quick


def test_where_no_plan_is_found_a_rule_decides():
    shop = uniform_shop(30, 10, np.random.default_rng(0))
    run, ruled = DynamicJobShop(shop), DynamicJobShop(shop)
    decision, same = run.next_decision(), ruled.next_decision()
    assert decision is not None
    assert same is not None
    assert Reoptimise(run, limit_s=1e-6)(decision) == policy("tail_p")(same)
