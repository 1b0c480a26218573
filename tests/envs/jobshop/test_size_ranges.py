"""Settings that are a number or a range of two, the same in every environment of job shops."""

from typing import Any

import numpy as np
import pytest

from makespan.envs.jobshop.blocking.env import BlockingJobShopEnv
from makespan.envs.jobshop.env import JobShopEnv
from makespan.envs.jobshop.improve.env import JobShopImproveEnv
from makespan.envs.jobshop.project.env import ProjectEnv
from makespan.envs.jobshop.ranges import bounds

WORLDS = {
    JobShopEnv: ("jobs", "machines"),
    JobShopImproveEnv: ("jobs", "machines"),
    BlockingJobShopEnv: ("jobs", "machines"),
    ProjectEnv: ("tasks", "level"),
}
CASES = [(world, name) for world, names in WORLDS.items() for name in names]


@pytest.mark.parametrize("value", [2.5, "12", (2.5, 3.9), [], [3, "4"], None])
@pytest.mark.parametrize(("world", "name"), CASES)
def test_a_size_is_a_whole_number_or_two(world: type, name: str, value: Any):
    with pytest.raises(ValueError, match=f"{name} must be a whole number or a range of two, not"):
        world(**{name: value})


@pytest.mark.parametrize(("world", "name"), CASES)
def test_numbers_of_numpy_are_taken(world: type, name: str):
    env = world(**{name: np.int64(25)})
    observation, _ = env.reset(seed=0)
    same, _ = world(**{name: 25}).reset(seed=0)
    assert all((values == same[entry]).all() for entry, values in observation.items())


def test_bounds():
    assert bounds("size", [3, 3], 3) == (3, 3)
    assert [type(bound) for bound in bounds("share", np.float32(0.5), 0, float)] == [float] * 2
    for value in (2, [2, 4], (4, 3), float("nan")):
        with pytest.raises(ValueError, match="size must be at least 3 and not falling"):
            bounds("size", value, 3, float)
