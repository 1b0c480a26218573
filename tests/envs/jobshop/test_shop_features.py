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
