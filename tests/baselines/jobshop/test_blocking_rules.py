"""Rules for shops without buffers: what each prefers, and the limit on the jobs in the shop."""

import numpy as np
import pytest

from makespan.baselines.jobshop.blocking_rules import RULES, policy
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.blocking.decision import EntryDecision
from makespan.envs.jobshop.blocking.simulation import BlockingShop
from makespan.traces.jobshop import JobShop, benchmark


def dilemma() -> EntryDecision:
    """At 2, machine 0 is free for job 0, who blocks machine 1 since 1; for job 1, who stands on 2
    since 2, where nobody wants to go; and for jobs 2 and 4, who are new."""
    routes = [
        [(1, 1), (0, 4), (2, 2)],
        [(2, 2), (0, 5)],
        [(0, 3), (1, 9)],
        [(1, 7)],
        [(0, 1), (3, 1), (1, 1), (2, 1)],
    ]
    shop = JobShop.of([*routes, [(0, 2)]])
    shop = JobShop(
        shop.machines,
        shop.first_operation,
        shop.first_option,
        shop.machine,
        shop.duration,
        due=np.array([50, 40, 30, 20, 60, 60]),
    )
    simulation = BlockingShop(shop)
    begins = {0: 5, 1: 0, 2: 1}  # who enters which machine at first
    while (decision := simulation.next_decision()) is not None and decision.time < 2:
        # Whoever ends early waits for machine 0, which is at work until 2.
        simulation.decide(begins[decision.machine])
    assert decision is not None
    assert decision.candidate.tolist() == [True, True, True, False, True, False]
    return decision


@pytest.mark.parametrize(
    ("rule", "job"),
    [
        ("spt", 4),
        ("lpt", 1),
        ("mwkr", 2),
        ("tail", 2),
        ("mor", 4),
        ("lor", 1),
        ("fdd_mwkr", 2),  # 3 of 12, against 1 of 4, of equals the lower number
        ("tail_p", 2),  # 9 of 3, as many as 3 of 1
        ("fifo", 2),  # since 0, as job 4
        ("edd", 2),
        ("blk", 0),
        ("blk_tail_p", 0),
        ("inside_tail_p", 0),
    ],
)
def test_whom_a_rule_prefers(rule: str, job: int):
    assert policy(rule)(dilemma()) == job


def test_no_new_job_enters_a_full_shop():
    decision = dilemma()
    assert policy("tail", limit=0.5)(decision) == 0  # of those in the shop
    assert policy("tail", limit=0.51)(decision) == 2
    assert policy("blk", limit=0.5)(decision) == 0


def test_in_a_full_shop_a_machine_is_left_to_those_in_it():
    shop = JobShop.of([[(0, 3), (1, 2)], [(1, 1), (0, 1)], [(1, 1)]])
    simulation = simulate(BlockingShop(shop), policy("fifo", limit=0.5))
    assert simulation.log["entered"].tolist() == [0, 3, 5, 6, 7]


def test_all_rules_are_tested():
    cases = test_whom_a_rule_prefers.pytestmark[0].args[1]
    assert [rule for rule, _ in cases] == list(RULES)


def test_random_choices_follow_from_the_seed():
    shop = benchmark("ft06")
    runs = [simulate(BlockingShop(shop), policy("random", seed=seed)) for seed in (1, 1, 2)]
    one, same, other = (run.log["start"].tolist() for run in runs)
    assert one == same != other


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="Did you mean 'tail_p'"):
        policy("tail-p")
