"""`makespan/BlockingJobShop-v0`: what its rewards, observations and settings mean."""

from typing import Any

import numpy as np
import pytest
from numpy.random import SeedSequence

from makespan.envs.jobshop.blocking.env import BlockingJobShopEnv
from makespan.envs.jobshop.blocking.observation import (
    JOB_FIELDS,
    MACHINE_FIELDS,
    SHOP_FIELDS,
    Encoder,
)
from makespan.envs.jobshop.blocking.shutdowns import draw_shutdowns, no_shutdowns
from makespan.traces.jobshop import JobShop, benchmark


def play(env: BlockingJobShopEnv, seed: int = 0, **options: Any) -> float:
    """The return of an episode in which the shortest operation begins, and no machine is empty."""
    env.reset(seed=seed, options=options)
    total = 0.0
    while env.decision is not None:
        total += env.step(env.decision.lowest(env.decision.duration))[1]
    return total


def test_the_return_is_minus_the_makespan_in_units_of_the_bound():
    env, shop = BlockingJobShopEnv(jobs=6, machines=6), benchmark("ft06")
    total = play(env, shop=shop, shutdowns=no_shutdowns(shop))
    assert env.simulation.makespan >= 63
    assert total == pytest.approx(-env.simulation.makespan / shop.lower_bound())


def test_sizes_and_probabilities_are_drawn_from_their_ranges():
    env = BlockingJobShopEnv(jobs=[3, 5], machines=[2, 3], shutdown=[0.1, 0.2])
    shops = []
    for seed in range(60):
        env.reset(seed=seed)
        shops.append((env.simulation.shop, env.simulation.shutdowns.probability))
    assert {shop.jobs for shop, _ in shops} == {3, 4, 5}
    assert {shop.machines for shop, _ in shops} == {2, 3}
    assert all(0.1 <= q <= 0.2 for _, q in shops)
    durations = np.concatenate([shop.duration for shop, _ in shops])
    assert (durations.min(), durations.max()) == (1, 99)
    for shop, _ in shops:
        routes = np.split(shop.machine, shop.first_operation[1:-1])
        assert all(sorted(route) == list(range(shop.machines)) for route in routes)


def raw(observation: dict[str, np.ndarray], name: str, fields: dict[str, float]) -> dict[str, list]:
    """The values that are shown, by field."""
    shown = observation[name]
    values = np.sign(shown) * np.expm1(np.abs(shown) * np.log1p(list(fields.values())))
    return {f: np.atleast_2d(values)[:, k].round(4).tolist() for k, f in enumerate(fields)}


def test_an_observation_shows_the_decision():
    """Job 0 is at work on machine 1 until 6, job 1 on 0 until 2; job 2 could enter 2, or wait."""
    shop = JobShop.of([[(1, 6), (2, 2)], [(0, 2), (1, 2), (2, 1)], [(2, 2), (0, 3)]])  # mean: 18/7
    env = BlockingJobShopEnv(jobs=3, machines=3, max_jobs=4, max_machines=4)
    observation, _ = env.reset(options={"shop": shop, "shutdowns": no_shutdowns(shop)})
    for job in (1, 0):
        assert env.decision is not None
        assert env.decision.candidate.tolist() == [j == job for j in range(3)]
        observation, *_ = env.step(job)
    assert env.decision is not None
    assert (env.decision.time, env.decision.machine) == (0, 2)
    job = raw(observation, "job", JOB_FIELDS)
    unit = 18 / 7
    assert job["candidate"] == [0, 0, 1, 0]
    assert job["in_shop"] == job["worked_on"] == job["end_known"] == [1, 1, 0, 0]
    assert job["duration"] == pytest.approx([6 / unit, 2 / unit, 2 / unit, 0], abs=1e-3)
    assert job["tail"] == pytest.approx([2 / unit, 3 / unit, 3 / unit, 0], abs=1e-3)
    assert job["ends_in"] == pytest.approx([6 / unit, 2 / unit, 0, 0], abs=1e-3)
    assert job["next_free"] == [1, 0, 0, 0]
    assert job["next_busy"] == [0, 1, 1, 0]
    assert job["next_wanted_by"] == [1, 0, 0, 0]
    assert job["next_free_in"] == pytest.approx([0, 6 / unit, 2 / unit, 0], abs=1e-3)
    assert job["would_swap"] == [0, 0, 0, 0]
    machine = raw(observation, "machine", MACHINE_FIELDS)
    assert machine["asked"] == machine["free"] == machine["wanted_by"] == [0, 0, 1, 0]
    assert machine["busy"] == [1, 1, 0, 0]
    assert machine["load"] == pytest.approx([5 / unit, 8 / unit, 5 / unit, 0], abs=1e-3)
    whole = raw(observation, "shop", SHOP_FIELDS)
    assert whole["in_shop"] == pytest.approx([2 / 3], abs=1e-3)
    assert whole["outside"] == pytest.approx([1 / 3], abs=1e-3)
    assert whole["can_wait"] == [1]
    edges = {name: observation[name][1] for name in ("stands_on", "goes_to", "goes_then_to")}
    there = {name: observation[f"{name}_mask"].tolist() for name in edges}
    assert there["stands_on"] == [1, 1, 0, 0]
    assert there["goes_to"] == [1, 1, 1, 0]
    assert there["goes_then_to"] == [0, 1, 1, 0]
    assert edges["stands_on"].tolist() == [1, 0, 0, 0]
    assert edges["goes_to"].tolist() == [2, 1, 2, 0]
    assert edges["goes_then_to"].tolist() == [0, 2, 0, 0]


def test_the_last_operation_leads_to_no_further_machine():
    """Job 0 is in its only operation; the operations behind that in the shop are another job's."""
    shop = JobShop.of([[(0, 9)], [(1, 2), (2, 1)], [(1, 3)]])
    env = BlockingJobShopEnv(jobs=3, machines=3)
    env.reset(options={"shop": shop, "shutdowns": no_shutdowns(shop)})
    observation, *_ = env.step(0)
    assert observation["stands_on_mask"].tolist() == [1, 0, 0]
    assert observation["goes_to_mask"].tolist() == [0, 1, 1]
    assert observation["goes_then_to_mask"].tolist() == [0, 1, 0]


def test_jobs_that_would_swap_are_marked():
    """Job 1 is on machine 1 and goes to 0, where job 0 would go on to 1."""
    shop = JobShop.of([[(0, 2), (1, 2)], [(1, 6), (0, 2)], [(0, 1)]])
    env = BlockingJobShopEnv(jobs=3, machines=2)
    env.reset(options={"shop": shop, "shutdowns": no_shutdowns(shop)})
    observation, *_ = env.step(3)  # machine 0 is left empty, so job 1 enters machine 1
    assert env.decision is not None
    while env.decision.machine != 0:
        observation, *_ = env.step(1)
    assert raw(observation, "job", JOB_FIELDS)["would_swap"] == [1, 0, 0]


def test_a_shop_looks_the_same_in_any_unit_of_time():
    env, shop = BlockingJobShopEnv(jobs=6, machines=6), benchmark("ft06")
    longer = JobShop(
        shop.machines,
        shop.first_operation,
        shop.first_option,
        shop.machine,
        shop.duration * 60,
    )
    seen = []
    for one in (shop, longer):
        env.reset(options={"shop": one, "shutdowns": no_shutdowns(one)})
        episode = []
        while env.decision is not None:
            episode.append(env.step(env.decision.lowest(env.decision.tail))[:2])
        seen.append(episode)
    for (observation, reward), (same, of_same) in zip(*seen, strict=True):
        assert reward == pytest.approx(of_same)
        for name in observation:
            np.testing.assert_allclose(observation[name], same[name], atol=1e-5)


def test_the_length_of_shutdowns_is_not_shown():
    """Until one is over, two runs that differ in nothing else look the same."""
    env, shop = BlockingJobShopEnv(jobs=3, machines=3), JobShop.of([[(0, 2), (1, 2)]] * 3)
    shutdowns = draw_shutdowns(shop, 1.0, SeedSequence(0))
    seen = []
    for factor in (1, 5):
        lengths = shutdowns.length * factor
        downs = type(shutdowns)(shutdowns.probability, shutdowns.mean, lengths)
        first, _ = env.reset(options={"shop": shop, "shutdowns": downs})
        seen.append(first)
    for name in seen[0]:
        np.testing.assert_array_equal(seen[0][name], seen[1][name])


def test_a_masked_action_lets_in_who_waits_longest():
    env, shop = BlockingJobShopEnv(jobs=3, machines=2), JobShop.of([[(0, 2)], [(0, 2)], [(1, 9)]])
    env.reset(options={"shop": shop, "shutdowns": no_shutdowns(shop)})
    _, _, _, _, info = env.step(2)
    assert info["illegal"]
    assert env.simulation.log["entered"][0] == 0


def test_larger_shops_than_there_is_room_for_are_refused():
    env = BlockingJobShopEnv(jobs=3, machines=3)
    with pytest.raises(ValueError, match=r"the shop has 6 jobs and 6 machines.* for 3 and 3"):
        env.reset(options={"shop": benchmark("ft06")})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"jobs": [5, 3]}, "jobs must be at least 1 and not falling"),
        ({"machines": 9, "max_machines": 8}, r"machines must lie in 1..max_machines \(8\)"),
        ({"jobs": [1, 2, 3]}, "jobs must be a whole number or a range of two"),
        ({"shutdown": 1.5}, r"shutdown must lie in \[0, 1\]"),
        ({"shutdown": [0.2, 0.1]}, "shutdown must be at least 0 and not falling"),
        ({"shutdown": "often"}, "shutdown must be a number or a range of two"),
        ({"shutdown_mean": 0.0}, "shutdown_mean must be positive"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        BlockingJobShopEnv(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shops": 3}, "Did you mean 'shop"),
        ({"shop": 3}, r"options\['shop'\] must be a JobShop"),
        (
            {"shop": benchmark("ft06"), "shutdowns": no_shutdowns(benchmark("la01"))},
            "a shutdown for each of 36",
        ),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        BlockingJobShopEnv().reset(options=options)


def test_the_documentation_has_every_column():
    text = BlockingJobShopEnv.__doc__ or ""
    for fields in (JOB_FIELDS, MACHINE_FIELDS, SHOP_FIELDS):
        for k, (name, reference) in enumerate(fields.items()):
            row = next(line for line in text.splitlines() if f"| {k} `{name}`" in line)
            assert row.split("|")[-2].strip() == f"{reference:g}"


def test_the_encoder_has_room_for_larger_shops():
    env = BlockingJobShopEnv(jobs=3, machines=2)
    env.reset(seed=1)
    assert env.decision is not None
    small, large = Encoder(3, 2).encode(env.decision), Encoder(7, 5).encode(env.decision)
    np.testing.assert_array_equal(small["job"], large["job"][:3])
    assert not large["job"][3:].any()
