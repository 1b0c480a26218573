"""What holds for the training environments of all job-shop worlds."""

import pickle

import numpy as np
import pytest

from makespan.agents.jobshop.blocking import BlockingWorld
from makespan.agents.jobshop.dynamic import DynamicWorld
from makespan.agents.jobshop.improve import ImproveWorld
from makespan.agents.jobshop.world import ShopWorld
from makespan.agents.world import World

JOBS, MACHINES = (4, 6), (3, 5)

WORLDS: list[World] = [
    ShopWorld(JOBS, MACHINES, way="nondelay"),
    DynamicWorld("atc", "tardiness", JOBS, MACHINES, utilisation=0.8),
    BlockingWorld("blk_tail_p", JOBS, MACHINES),
    ImproveWorld(False, JOBS, MACHINES, steps=20),
    ImproveWorld(True, JOBS, MACHINES, steps=20),
]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_pickled_environment_shows_the_same(world: World):
    env = world.env()
    copy = pickle.loads(pickle.dumps(env))
    (one, info), (other, _) = (e.reset(seed=3) for e in (env, copy))
    rng = np.random.default_rng(0)
    for _ in range(8):
        assert all((one[name] == other[name]).all() for name in one)
        action = int(rng.choice(np.flatnonzero(info["action_mask"])))
        (one, reward, over, _, info), (other, same, *_) = (e.step(action) for e in (env, copy))
        assert reward == same
        if over:
            break
