"""What describes a choice, worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest

from makespan.envs.jobshop.core import Way
from makespan.envs.jobshop.features import (
    FEATURES,
    MACHINE_FEATURES,
    OPERATION_FEATURES,
    describe_shop,
)
from makespan.envs.jobshop.simulation import ShopSimulation
from makespan.traces.jobshop import JobShop
from makespan.traces.jobshop.uniform import uniform_shop

# Mean duration 4; job 0 has the work 9, job 1 has 8, job 2 has 3; machine 0 has 5, machine 1 15.
SHOP = JobShop.of([[(0, 3), (1, 6)], [(0, 2), (1, 6)], [(1, 3)]])


def squashed(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)


def described(shop: JobShop, way: Way = "nondelay") -> dict[str, np.ndarray]:
    """The columns of the first choice."""
    decision = ShopSimulation(shop, way).next_decision()
    assert decision is not None
    return dict(zip(FEATURES, decision.rows.T, strict=True))


def test_the_columns_of_a_choice():
    # On machine 0 jobs 0 and 1 are waiting; job 2 waits for machine 1, which is asked about later.
    seen = described(SHOP)
    bound = 15
    wanted = {
        "duration": [3 / 4, 2 / 4],
        "log_duration": [math.log(4 / 5), math.log(3 / 5)],
        "tail": [6 / 15, 6 / 15],
        "tail_per_duration": [math.log(7 / 4), math.log(7 / 3)],
        "slack": [squashed((bound - 9) / 4), squashed((bound - 8) / 4)],
        "operations_after": [1 / 2, 1 / 2],
        "next_wait": [squashed((0 - 3) / 4), squashed((0 - 2) / 4)],
        "next_queue": [squashed(3 / 4)] * 2,
        "next_load": [15 / 15] * 2,
        "next_duration": [6 / 4] * 2,
        "has_next": [1, 1],
        "waited": [0, 0],
        "delay": [0, 0],
        "regret": [squashed((3 + 8 - bound) / 4), squashed((2 + 9 - bound) / 4)],
        "tail_lead": [0, 0],
        "duration_lead": [squashed(1 / 4), squashed(-1 / 4)],
        "choices": [math.log(2)] * 2,
        "load": [5 / 15] * 2,
        "queue": [squashed(5 / 4)] * 2,
        "arrival": [0, 0],
        "arrival_tail": [0, 0],
        "mean_load": [10 / 15] * 2,
        "jobs_per_machine": [math.log(3 / 2)] * 2,
        "horizon": [1, 1],
    }
    assert list(wanted) == list(FEATURES)
    for name, values in wanted.items():
        np.testing.assert_allclose(seen[name], values, rtol=1e-6, err_msg=name)


def test_the_columns_of_a_later_choice():
    # Job 0 was placed on machine 0 until 3, job 2 on 2 until 1 and job 3 on 1 until 7; now is 3.
    # Jobs 1 and 2 wait for machine 0, since 0 and since 1. Mean duration 3, bounds 13 and 14.
    shop = JobShop.of(
        [[(0, 3), (1, 5), (2, 2)], [(0, 4), (2, 3)], [(2, 1), (0, 2), (1, 1)], [(1, 7), (0, 2)]]
    )
    simulation = ShopSimulation(shop)
    assert simulation.next_decision() is not None
    simulation.decide(0)
    decision = simulation.next_decision()
    assert decision is not None
    assert (decision.time, decision.jobs.tolist(), simulation.bound) == (3, [1, 2], 14)
    wanted = {
        "duration": [4 / 3, 2 / 3],
        "log_duration": [math.log(5 / 4), math.log(3 / 4)],
        "tail": [3 / 11, 1 / 11],
        "tail_per_duration": [math.log(4 / 5), math.log(2 / 3)],
        "slack": [squashed((14 - 10) / 3), squashed((14 - 6) / 3)],
        "operations_after": [1 / 3, 1 / 3],
        "next_wait": [squashed((1 - 7) / 3), squashed((7 - 5) / 3)],
        "next_queue": [0, squashed(5 / 3)],
        "next_load": [5 / 11, 6 / 11],
        "next_duration": [3 / 3, 1 / 3],
        "has_next": [1, 1],
        "waited": [squashed(3 / 3), squashed(2 / 3)],
        "delay": [0, 0],
        "regret": [squashed((7 + 3 - 14) / 3), squashed((5 + 7 - 14) / 3)],
        "tail_lead": [squashed(2 / 3), squashed(-2 / 3)],
        "duration_lead": [squashed(2 / 3), squashed(-2 / 3)],
        "choices": [math.log(2)] * 2,
        "load": [8 / 11] * 2,
        "queue": [squashed(6 / 3)] * 2,
        "arrival": [squashed(4 / 3)] * 2,
        "arrival_tail": [squashed(-3 / 3), squashed(-1 / 3)],
        "mean_load": [19 / 3 / 11] * 2,
        "jobs_per_machine": [math.log(4 / 3)] * 2,
        "horizon": [11 / 13] * 2,
    }
    assert list(wanted) == list(FEATURES)
    for row, name in zip(decision.rows.T, FEATURES, strict=True):
        np.testing.assert_allclose(row, wanted[name], rtol=1e-6, err_msg=name)


def test_a_job_that_would_have_a_machine_wait():
    # Job 1 comes to machine 0 at 2, before job 0 would have left it at 9.
    seen = described(JobShop.of([[(0, 9), (1, 1)], [(1, 2), (0, 3)]]), "active")
    mean = 15 / 4
    np.testing.assert_allclose(seen["delay"], [0, 2 / mean], rtol=1e-6)
    np.testing.assert_allclose(seen["arrival"], [squashed(2 / mean)] * 2, rtol=1e-6)
    np.testing.assert_allclose(seen["arrival_tail"], [squashed(-1 / mean), 0], rtol=1e-6)
    assert seen["has_next"].tolist() == [1, 0]


def test_the_unit_of_time_does_not_matter():
    shop = uniform_shop(6, 5, np.random.default_rng(3), (50, 99))
    slow = dataclasses.replace(shop, duration=shop.duration * 1000)
    for name, values in described(shop).items():
        np.testing.assert_allclose(described(slow)[name], values, atol=0.02, err_msg=name)
    for one, other in zip(describe_shop(shop), describe_shop(slow), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_operations_and_machines():
    operation, machine = describe_shop(SHOP)
    assert (operation.shape[1], machine.shape[1]) == (
        len(OPERATION_FEATURES),
        len(MACHINE_FEATURES),
    )
    bound = 15
    np.testing.assert_allclose(operation[0], [3 / 4, 0, 6 / bound, 5 / bound, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(operation[3], [6 / 4, 2 / bound, 0, 1, 1 / 2, 2 / 8], rtol=1e-6)
    np.testing.assert_allclose(machine[1], [1, 15 / 10, math.log(3 / 2)], rtol=1e-6)


def test_what_takes_no_time_is_described_too():
    shop = JobShop.of([[(0, 0), (1, 0)], [(0, 0), (1, 0)]])
    assert all(np.isfinite(part).all() for part in describe_shop(shop))
    assert all(np.isfinite(values).all() for values in described(shop).values())
    seen = described(JobShop.of([[(0, 5)], [(0, 0)], [(0, 7)]]))
    leads = [squashed(x / 4) for x in (5 - 0, 0 - 5, 7 - 0)]
    np.testing.assert_allclose(seen["duration_lead"], leads, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), "needs jobs and machines, not 0 and 3"),
        ((3, 0), "needs jobs and machines, not 3 and 0"),
        ((3, 3, (5, 4)), "not falling, not 5 to 4"),
        ((3, 3, (-1, 4)), "from 0"),
    ],
)
def test_a_random_shop_needs_a_size_and_durations(arguments, message):
    jobs, machines, *durations = arguments
    with pytest.raises(ValueError, match=message):
        uniform_shop(jobs, machines, np.random.default_rng(0), *durations)


def test_a_random_shop_visits_every_machine_once():
    shop = uniform_shop(50, 6, np.random.default_rng(0))
    orders = shop.machine.reshape(50, 6)
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert len(np.unique(orders, axis=0)) > 40
    assert shop.duration.min() >= 1
    assert shop.duration.max() <= 99
    assert abs(shop.duration.mean() - 50) < 5
    again = uniform_shop(50, 6, np.random.default_rng(0))
    assert (again.duration == shop.duration).all()


def test_a_seed_means_the_shop_that_published_figures_were_measured_on():
    shop = uniform_shop(2, 4, np.random.default_rng(0))
    assert shop.machine.tolist() == [2, 0, 1, 3, 3, 2, 1, 0]
    assert shop.duration.tolist() == [2, 18, 81, 65, 91, 50, 61, 97]
