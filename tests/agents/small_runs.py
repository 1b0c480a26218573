"""Training runs that take a second."""

from dataclasses import replace
from typing import Any

import numpy as np

from makespan.agents.config import NetworkConfig, TrainConfig
from makespan.agents.llm.episodes import EpisodeDistribution
from makespan.agents.llm.world import RouterWorld

WORLD = RouterWorld(
    prior="lmetric",
    distribution=EpisodeDistribution(replicas=(2, 3), requests=(8, 16), outages=0.0),
)
CONFIG = TrainConfig(
    steps=192,
    envs=2,
    rollout=32,
    batch=32,
    epochs=2,
    checkpoint_every=64,
    tuning=2,
    test=2,
    network=NetworkConfig(hidden=8, layers=1, trust=3.0),
)


def config(**changes: Any) -> TrainConfig:
    return replace(CONFIG, **changes)


def same(one: Any, other: Any) -> bool:
    """Whether two sets of weights are equal, bit for bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
