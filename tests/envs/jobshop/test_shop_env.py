"""`makespan/JobShop-v0`, beyond what holds for every environment."""

import gymnasium
import numpy as np
import pytest

from makespan.baselines.jobshop.rules import dispatch
from makespan.envs.jobshop.env import JobShopEnv
from makespan.traces.jobshop import JobShop, benchmark

FT06 = benchmark("ft06")


def play(env: gymnasium.Env, choose, **reset) -> tuple[float, list[dict]]:
    """Return of an episode, and its observations."""
    observation, info = env.reset(**reset)
    total, seen, done = 0.0, [observation], False
    while not done:
        observation, reward, done, _, info = env.step(choose(observation, info))
        total += float(reward)
        seen.append(observation)
    return total, seen


def by_tail_per_duration(observation: dict, info: dict) -> int:
    scores = np.where(info["action_mask"], observation["candidate"][:, 3], -np.inf)
    return int(scores.argmax())


def test_the_return_tells_the_makespan():
    env = JobShopEnv(instance="ft06")
    total, _ = play(env, by_tail_per_duration, seed=0)
    makespan = env.simulation.schedule.makespan
    assert total == pytest.approx(1 - makespan / FT06.lower_bound())
    assert makespan == dispatch(FT06, "tail_p_wait", "nondelay").makespan


def test_the_observation_grows_with_what_is_placed():
    env = JobShopEnv(instance="ft06")
    _, seen = play(env, by_tail_per_duration, seed=0)
    placed = [int(observation["operation"][:, 6].sum()) for observation in seen]
    assert placed[:-1] == sorted(placed[:-1])
    assert placed[0] < FT06.operations / 2 < placed[-2] < FT06.operations
    assert not any(values.any() for name, values in seen[-1].items() if name != "action_mask")
    work = np.bincount(FT06.machine, FT06.duration) / FT06.lower_bound()
    np.testing.assert_allclose(seen[0]["machine"][:, 3], work, rtol=1e-6)


def test_what_is_placed_is_shown_with_how_long_it_and_its_machine_take():
    shop = JobShop.of(
        [[(0, 3), (1, 5), (2, 2)], [(0, 4), (2, 3)], [(2, 1), (0, 2), (1, 1)], [(1, 7), (0, 2)]]
    )
    env = JobShopEnv(jobs=4, machines=3)
    env.reset(options={"shop": shop})
    observation, *_ = env.step(0)
    # Now is 3, the mean duration 3, the bound 13. Operations 0, 5 and 8 end at 3, 1 and 7.
    until = np.zeros(12)
    until[[5, 8]] = -np.log1p(2 / 3), np.log1p(4 / 3)
    assert np.flatnonzero(observation["operation"][:, 6]).tolist() == [0, 5, 8]
    np.testing.assert_allclose(observation["operation"][:, 7], until, rtol=1e-6)
    np.testing.assert_allclose(observation["machine"][:, 3], np.array([8, 6, 5]) / 13, rtol=1e-6)
    idle = [0, np.log1p(4 / 3), -np.log1p(2 / 3)]
    np.testing.assert_allclose(observation["machine"][:, 4], idle, rtol=1e-6)


def test_the_arcs_are_those_of_the_shop():
    observation, _ = JobShopEnv(jobs=[2, 4], machines=3).reset(
        options={"shop": JobShop.of([[(0, 1), (1, 2)], [(0, 3), (2, 1), (1, 1)]])}
    )
    count = int(observation["job_arc_mask"].sum())
    assert observation["job_arc"][:, :count].T.tolist() == [[0, 1], [2, 3], [3, 4]]
    assert observation["machine_arc"][:, :5].tolist() == [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1]]
    assert observation["next_arc"][:, :2].T.tolist() == [[0, 0], [2, 1]]
    assert observation["operation_mask"].tolist() == [1] * 5 + [0] * 7
    assert observation["machine_mask"].tolist() == [1, 1, 1]


def test_what_takes_very_long_is_cut_to_the_space():
    # One operation takes 224.5 times the mean, and one machine of 150 has all that there is to do.
    long = [[(m, 100_000 if j == m == 0 else 1) for m in range(15)] for j in range(15)]
    lonely = JobShop.of([[(0, 3)], [(0, 2)]], 150)
    for shop, entry in ((JobShop.of(long), "operation"), (lonely, "machine")):
        env = JobShopEnv(jobs=15, machines=shop.machines)
        seen, _ = env.reset(options={"shop": shop})
        assert env.observation_space.contains(seen)
        assert seen[entry].max() == 100


def test_sizes_are_drawn_from_their_ranges():
    env = JobShopEnv(jobs=[3, 5], machines=[2, 4])
    sizes = set()
    for seed in range(40):
        env.reset(seed=seed)
        sizes.add((env.simulation.shop.jobs, env.simulation.shop.machines))
    assert sizes == {(jobs, machines) for jobs in (3, 4, 5) for machines in (2, 3, 4)}


def test_a_shop_without_a_choice_is_not_drawn():
    env = JobShopEnv(jobs=2, machines=2)
    for seed in range(20):
        _, info = env.reset(seed=seed)
        assert info["action_mask"].sum() == 2
    with pytest.raises(ValueError, match="nothing to decide"):
        JobShopEnv(jobs=1, machines=2).reset()


def test_the_table_shows_what_is_placed():
    env = JobShopEnv(jobs=3, machines=2, render_mode="ansi")
    env.reset(options={"shop": JobShop.of([[(0, 3), (1, 6)], [(0, 2), (1, 6)], [(1, 3)]])})
    assert env.render() == (
        "time 0, bound 15\njob   0:     -     -\njob   1:     -     -\njob   2:     -"
    )
    env.step(1)  # which leaves no other choice
    lines = str(env.render()).split("\n")
    assert lines[1:] == ["job   0:     2     9", "job   1:     0     3", "job   2:     0"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"machines": [3, 2]}, "machines must be at least 1 and not falling"),
        ({"jobs": [1, 2, 3]}, "jobs must be a whole number or a range of two"),
        ({"way": "nodelay"}, "not by 'nodelay'"),
        ({"instance": "ta99"}, "Did you mean"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        JobShopEnv(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shops": FT06}, "Did you mean"),
        ({"shop": "ft06"}, "must be a JobShop, not 'ft06'"),
        ({"shop": FT06}, "the shop has 6 jobs, and max_jobs is 3"),
        ({"shop": JobShop.of([[(0, 1)], [(1, 1)]])}, "nothing to decide"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        JobShopEnv(jobs=3, machines=2).reset(options=options)
