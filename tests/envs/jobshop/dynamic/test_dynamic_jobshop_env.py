"""The environment of the dynamic job shop: rewards, what is shown, options."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

import makespan  # noqa: F401  (registers the environments)
from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes, shapes_of
from makespan.baselines.jobshop.dynamic_rules import policy
from makespan.envs.jobshop.dynamic import DynamicJobShop
from makespan.envs.jobshop.dynamic.env import DynamicJobShopEnv
from makespan.envs.jobshop.dynamic.observation import (
    CANDIDATE_FIELDS,
    MACHINE_FIELDS,
    SHOP_FIELDS,
    Encoder,
)
from makespan.traces.jobshop import JobShop, benchmark
from makespan.traces.jobshop.arrivals import with_due_dates


def make(**settings: Any) -> DynamicJobShopEnv:
    world = gymnasium.make("makespan/DynamicJobShop-v0", **settings).unwrapped
    assert isinstance(world, DynamicJobShopEnv)
    return world


def episode(env: DynamicJobShopEnv, rule: str, options: dict | None = None) -> float:
    """The return of a rule."""
    chosen, total, over = policy(rule), 0.0, False
    env.reset(seed=4, options=options)
    while not over:
        assert env.decision is not None
        _, reward, over, _, _ = env.step(chosen(env.decision))
        total += reward
    return total


@pytest.mark.parametrize("objective", ["makespan", "flow", "tardiness"])
@pytest.mark.parametrize("utilisation", [0.0, 0.9])
def test_the_return_is_minus_the_objective(objective: str, utilisation: float):
    env = make(jobs=15, machines=3, utilisation=utilisation, objective=objective, tightness=1.2)
    total = episode(env, "edd")
    schedule = env.simulation.schedule()
    schedule.validate()
    cost = {
        "makespan": schedule.makespan,
        "flow": 15 * schedule.mean_flow_time,
        "tardiness": schedule.weighted_tardiness,
    }[objective]
    env.reset(seed=4)
    before = env.score()  # what there was before the first decision cannot be earned or lost
    assert total == pytest.approx(-cost / env.simulation.mean_duration - before)
    assert total < 0


def test_a_given_shop_is_played():
    env = make(availability=1.0, spread=0.0, max_machines=15)
    episode(env, "mwkr", {"shop": benchmark("ta01")})
    assert env.simulation.schedule().makespan == 1491  # that of the rule without delay
    flexible = JobShop.flexible([[[(0, 4), (1, 6)]], [[(0, 5), (1, 2)]], [[(1, 3)]]])
    episode(env, "spt", {"shop": flexible})
    env.simulation.schedule().validate()


def test_a_shop_without_a_choice_is_not_drawn():
    env = make(jobs=2, machines=10, max_candidates=2)
    for seed in range(10):
        _, info = env.reset(seed=seed)
        assert info["action_mask"].sum() == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shops": 1}, "unknown option 'shops'. Did you mean 'shop'"),
        ({"shop": 1}, r"options\['shop'\] must be a JobShop, not 1"),
        ({"shop": benchmark("ta01")}, "the shop has 15 machines, the encoder room for 10"),
        ({"shop": JobShop.of([[(0, 1)]])}, "nothing to decide"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        make().reset(options=options)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"jobs": 1}, "jobs must be at least 2"),
        ({"machines": 11}, r"machines must lie in 1\.\.max_machines \(10\), not 11"),
        ({"max_candidates": 1}, "max_candidates must be at least 2"),
        ({"utilisation": -1.0}, "utilisation must be finite, at least 0"),
        ({"tightness": np.inf}, "tightness must be finite"),
        ({"objective": "tardy"}, "unknown objective"),
        ({"availability": 0.0}, "availability must be above 0"),
        ({"spread": -0.1}, "spread must be from 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, says: str):
    with pytest.raises(ValueError, match=says):
        make(**settings)


def test_a_decision_is_shown_in_mean_durations():
    shop = JobShop.of([[(0, 4), (1, 3)], [(0, 2), (1, 5), (2, 1)], [(1, 6), (0, 7)]], machines=3)
    shop = replace(shop, due=np.array([30, 20, 40]))  # the mean duration is 4
    decision = DynamicJobShop(shop, weight=np.array([1.0, 0.5, 1.0])).next_decision()
    assert decision is not None
    encoder = Encoder(4, 3)
    shown = encoder.encode(decision, encoder.mask(decision))

    def raw(entry: str, fields: tuple) -> np.ndarray:
        scale = np.log1p([field.reference for field in fields])
        values = shown[entry] * scale
        return np.sign(values) * np.expm1(np.abs(values))

    np.testing.assert_allclose(
        raw("candidate", CANDIDATE_FIELDS)[:2, :12],
        [
            [1, 3 / 4, 1, 2, 0, 0, 23 / 4, 1, 1, 1, 6 / 4, 1],
            [1 / 2, 6 / 4, 1 / 2, 3, 0, 0, 12 / 4, 1, 0.5, 1, 6 / 4, 1],
        ],
        rtol=1e-5,
    )
    # Machine 1 is busiest, for 14. If job 0 is first, job 1 is done at 12.
    np.testing.assert_allclose(
        raw("candidate", CANDIDATE_FIELDS)[:2, 12:],
        [
            [3 / 4, 7 / 4, -2 / 4, -3 / 4, 2 / 4, 3 / 4, -1, 1, 0, 0],
            [3, 6 / 4, -5 / 4, 3 / 4, -2 / 4, 5 / 4, -2 / 4, 1, 0, 0],
        ],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        raw("shop", SHOP_FIELDS),
        [2, 3, 7 / 3, 1, 14 / 4, 2 / 3, 13 / 4, 13 / 14, 0, 0],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        raw("machine", MACHINE_FIELDS),
        [
            [1, 0, 0, 6 / 4, 2, 1, 13 / 4, 13 / 14, 0, 0],
            [1, 0, 0, 6 / 4, 1, 0, 14 / 4, 1, 0, 0],
            [1, 0, 0, 0, 0, 0, 1 / 4, 1 / 14, 0, 0],
        ],
        rtol=1e-5,
    )
    assert shown["candidate_mask"].tolist() == shown["action_mask"].tolist() == [1, 1, 0, 0]
    assert shown["next_edge"].tolist() == [[0, 1, 0, 0], [1, 1, 0, 0]]
    assert shown["next_edge_mask"].tolist() == [1, 1, 0, 0]
    assert not shown["candidate"][2:].any()


def test_a_job_that_comes_is_set_against_the_candidates():
    shop = JobShop.of([[(0, 10), (1, 3), (2, 2)], [(1, 5)], [(1, 4), (2, 6)]])  # mean duration 5
    decision = DynamicJobShop(shop, downtimes=[[(3, 5)], [], []]).next_decision()
    assert decision is not None
    encoder = Encoder(2, 3)
    shown = encoder.encode(decision, encoder.mask(decision))
    names = [field.name for field in CANDIDATE_FIELDS]
    for name, reference, values in (
        ("comes_tail_lead", 20, [2 / 5, -4 / 5]),
        ("comes_after", 4, [1, 6 / 5]),
    ):
        expected = np.sign(values) * np.log1p(np.abs(values)) / np.log1p(reference)
        column = shown["candidate"][:, names.index(name)]
        np.testing.assert_allclose(column, expected, rtol=1e-5)
    assert shown["machine"][:, 8].tolist() == [0, 1, 0]  # job 0 comes to machine 1 at 10
    np.testing.assert_allclose(shown["machine"][:, 9], [0, np.log1p(2) / np.log1p(4), 0], rtol=1e-5)


def test_the_unit_of_time_does_not_matter():
    small = with_due_dates(benchmark("la01"), 1.5)
    large = replace(small, duration=7 * small.duration, due=7 * small.due)
    steps = []
    for shop in (small, large):
        env = make()
        step = env.reset(seed=3, options={"shop": shop})
        for _ in range(5):
            step = env.step(0)
        steps.append(step)
    (one, reward, *_), (other, same, *_) = steps
    assert reward == pytest.approx(same)
    for entry, values in one.items():
        np.testing.assert_allclose(values, other[entry], rtol=1e-5, atol=1e-6)


def test_of_too_many_candidates_those_that_wait_longest_are_shown():
    shop = JobShop.of([[(0, 9)], [(0, 1)], [(0, 2)], [(0, 3)], [(0, 4)]])
    shop = replace(shop, release=np.array([0, 6, 1, 5, 2]))
    run = DynamicJobShop(shop)
    decision = run.next_decision()  # at 9, when job 0 is done
    assert decision is not None
    assert decision.job.tolist() == [1, 2, 3, 4]
    encoder = Encoder(3, 1)
    assert encoder.mask(decision).tolist() == [True, True, True]
    assert decision.job[encoder.shown(decision)].tolist() == [2, 3, 4]
    assert [encoder.answer(decision, row) for row in range(3)] == [1, 2, 3]
    shown = encoder.encode(decision, encoder.mask(decision))
    assert shown["candidate"][:, 0].argmax() == 2  # job 4 is the longest of them


def test_a_masked_action_begins_the_job_that_waits_longest():
    env = make(max_candidates=9, availability=1.0, spread=0.0)
    shop = JobShop.of([[(0, 9)], [(0, 1)], [(0, 2)], [(0, 3)]])
    env.reset(options={"shop": replace(shop, release=np.array([0, 6, 1, 5]))})
    _, _, _, _, info = env.step(8)
    assert info["illegal"]
    assert info["time"] == 11.0  # job 2 was done after job 0


def test_an_observation_is_a_graph():
    graph = GraphDeclaration(
        nodes=(
            Nodes("candidate", ("candidate",), mask="candidate_mask"),
            Nodes("machine", ("machine",), mask="machine_mask"),
            Nodes("shop", ("shop",), single=True),
        ),
        edges=(
            Edges("candidate", "next", "machine", index="next_edge", mask="next_edge_mask"),
            Edges("shop", "of", "candidate"),
            Edges("machine", "in", "shop"),
        ),
        actions="candidate",
    )
    observation, _ = make().reset(seed=0)
    assert graph.widths(shapes_of(observation)) == {"candidate": 22, "machine": 10, "shop": 10}
    exists = observation["next_edge_mask"] > 0
    rows, machines = observation["next_edge"][:, exists]
    assert observation["candidate_mask"][rows].all()
    assert observation["machine_mask"][machines].all()


def test_the_table_names_who_works_waits_and_is_down():
    env = make(render_mode="ansi", jobs=8, machines=3, availability=0.6, mean_repair=5.0)
    _, info = env.reset(seed=1)
    over, texts = False, []
    while not over:
        texts.append(env.render())
        _, _, over, _, info = env.step(int(np.argmax(info["action_mask"])))
    assert "machine 0 chooses from jobs" in str(texts[0])
    assert any("(down)" in str(text) for text in texts)
    assert "all jobs are done" in str(env.render())
