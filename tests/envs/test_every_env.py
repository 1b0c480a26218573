"""What holds for every registered environment."""

import copy
import json
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_checker import data_equivalence as equivalent

import makespan.envs
from makespan.envs.core.environment import SchedulingEnv

SMALL: dict[str, list[dict[str, Any]]] = {
    "makespan/JobShop-v0": [
        {"jobs": 5, "machines": 4},
        {"jobs": [4, 6], "machines": [3, 5], "way": "insert"},
    ],
    "makespan/DynamicJobShop-v0": [
        {"jobs": 6, "machines": 3},
        {
            "jobs": 12,
            "machines": 3,
            "utilisation": 0.9,
            "availability": 0.8,
            "mean_repair": 1.0,
            "after_repair": "repeat",
            "spread": 0.5,
            "tightness": 1.5,
            "objective": "tardiness",
            "max_candidates": 3,
            "max_machines": 4,
        },
        {"jobs": 6, "machines": 3, "tightness": 0.0, "objective": "flow"},
    ],
    "makespan/JobShopImprove-v0": [
        {"jobs": [4, 6], "machines": [4, 5], "steps": 30, "max_operations": 40, "max_moves": 3},
        {"instance": "la02", "steps": 30},
    ],
    "makespan/LLMRouter-v0": [
        {"requests": 40},
        {
            "requests": 40,
            "replicas": [2, 4],
            "hardware": ["A100", "H100"],
            "max_replicas": 5,
            "hold": True,
            "reward": "goodput",
            "workload": "sharegpt_sessions",
            "outages": [[0, 0.5, 1.0], [1, 0.7, 1.0]],
        },
    ],
    "makespan/SingleMachine-v0": [
        {"jobs": 5},
        {"types": 1, "jobs": 6, "reveals": "job", "objective": "tardiness"},
        {
            "types": 3,
            "jobs": 3,
            "means": [0.5, 2.0],
            "operations": 2,
            "rate": 1.0,
            "reveals": "operation",
            "preemptive": True,
            "review": 0.5,
        },
    ],
    "makespan/RCPSP-v0": [
        {"tasks": 8, "level": 6, "layers": 3},
        {
            "tasks": [6, 9],
            "level": [4, 8],
            "layers": 3,
            "resources": 2,
            "downtime": 1.0,
            "pairs": 0.5,
            "max_tasks": 12,
            "max_resources": 3,
            "max_arcs": 10,
            "max_pairs": 12,
        },
    ],
    "makespan/BlockingJobShop-v0": [
        {"jobs": 4, "machines": 3},
        {
            "jobs": [3, 5],
            "machines": [2, 4],
            "shutdown": 0.5,
            "shutdown_mean": 0.5,
            "max_jobs": 6,
            "max_machines": 5,
        },
    ],
}
"""Per environment: arguments that make episodes short and between them use all it has."""

CASES = [
    pytest.param(name, arguments, id=f"{name}-{k}")
    for name in makespan.envs.ENVIRONMENTS
    for k, arguments in enumerate(SMALL[name])
]

# Whole episodes again and again: each world's own tests take its branches.
pytestmark = [pytest.mark.parametrize(("name", "arguments"), CASES), pytest.mark.slow_in_python]


def make(name: str, arguments: dict[str, Any], **more: Any) -> gymnasium.Env:
    return gymnasium.make(name, **arguments, **more)


def rollout(env: gymnasium.Env, seed: int, steps: int = 10**6) -> Iterator[tuple]:
    """One episode of legal random actions, chosen by `seed` as well."""
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    yield observation, info
    for _ in range(steps):
        step = env.step(env.action_space.sample(info["action_mask"]))
        yield step
        if step[2] or step[3]:
            return
        info = step[4]


def test_gymnasium_finds_nothing_wrong(name: str, arguments: dict[str, Any]):
    check_env(make(name, arguments).unwrapped)


# A matrix with a row per replica is meant for a policy that knows what rows are.
@pytest.mark.filterwarnings("ignore:Your observation .* has an unconventional shape:UserWarning")
def test_stable_baselines_finds_nothing_wrong(name: str, arguments: dict[str, Any]):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(make(name, arguments).unwrapped)


def test_the_same_seed_gives_exactly_the_same_episode(name: str, arguments: dict[str, Any]):
    one, other = (list(rollout(make(name, arguments), seed=7)) for _ in range(2))
    assert len(one) == len(other) > 2
    for step, same in zip(one, other, strict=True):
        assert equivalent(step, same, exact=True)


def test_an_environment_used_before_gives_the_same_episode(name: str, arguments: dict[str, Any]):
    used = make(name, arguments)
    list(rollout(used, seed=1, steps=5))
    assert equivalent(
        list(rollout(used, seed=7)), list(rollout(make(name, arguments), seed=7)), exact=True
    )


def test_another_seed_gives_another_episode(name: str, arguments: dict[str, Any]):
    env = make(name, arguments)
    assert not equivalent(list(rollout(env, seed=1)), list(rollout(env, seed=2)), exact=True)


def test_copies_play_the_same_episode(name: str, arguments: dict[str, Any]):
    env = make(name, arguments)
    env.reset(seed=3)
    episode = list(rollout(env, seed=7))
    for copied in (pickle.loads(pickle.dumps(env.unwrapped)), copy.deepcopy(env.unwrapped)):
        assert equivalent(list(rollout(copied, seed=7)), episode, exact=True)


def test_the_specification_survives_json(name: str, arguments: dict[str, Any]):
    env = make(name, arguments)
    assert env.spec is not None
    text = env.spec.to_json()
    json.loads(text)
    again = gymnasium.make(EnvSpec.from_json(text))
    assert equivalent(list(rollout(again, seed=7)), list(rollout(env, seed=7)), exact=True)


def test_both_masks_agree_and_leave_an_action(name: str, arguments: dict[str, Any]):
    env = make(name, arguments)
    world = env.unwrapped
    assert isinstance(world, SchedulingEnv)
    assert isinstance(env.action_space, spaces.Discrete)
    for step in rollout(env, seed=7):
        info, mask = step[-1], world.action_masks()
        assert mask.dtype == np.bool_
        assert mask.shape == (env.action_space.n,)
        assert info["action_mask"].dtype == np.int8
        np.testing.assert_array_equal(info["action_mask"], mask)
        assert mask.any()


def test_masked_actions_do_no_harm_and_are_reported(name: str, arguments: dict[str, Any]):
    env = make(name, arguments)
    _, info = env.reset(seed=7)
    terminated = illegal = False
    while not terminated:
        masked = np.flatnonzero(info["action_mask"] == 0)
        legal = np.flatnonzero(info["action_mask"])
        action = (masked if len(masked) else legal)[0]
        _, reward, terminated, _, info = env.step(action)
        assert info["illegal"] == (len(masked) > 0)
        illegal |= info["illegal"]
        assert np.isfinite(float(reward))
    assert illegal


def test_observations_are_in_their_space_and_not_shared(name: str, arguments: dict[str, Any]):
    env = make(name, arguments)
    seen = [step[0] for step in rollout(env, seed=7, steps=20)]
    kept = copy.deepcopy(seen)
    list(rollout(env, seed=8))
    assert equivalent(seen, kept, exact=True)
    assert all(env.observation_space.contains(observation) for observation in seen)


@pytest.mark.filterwarnings("error")
def test_every_render_mode_shows_the_moment(name: str, arguments: dict[str, Any]):
    for mode in make(name, arguments).metadata["render_modes"]:
        env = make(name, arguments, render_mode=mode)
        shown = []
        for _ in rollout(env, seed=7):
            if len(shown) < 8:
                shown.append(env.render())
        shown.append(env.render())
        if mode == "rgb_array":
            assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in shown)
            assert len({frame.shape for frame in shown}) == 1
        assert not equivalent(shown[0], shown[-2])


def test_the_world_is_a_scheduling_environment(name: str, arguments: dict[str, Any]):
    assert isinstance(make(name, arguments).unwrapped, SchedulingEnv)


def test_the_class_documents_itself(name: str, arguments: dict[str, Any]):
    text = type(make(name, arguments).unwrapped).__doc__ or ""
    for section in (
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    ):
        assert f"## {section}" in text
    for argument in arguments:
        assert f"`{argument}`" in text
