"""Behaviour cloning."""

import numpy as np
import pytest
import torch
from small_runs import WORLD

from makespan.agents.cloning import clone, watch
from makespan.agents.config import CloningConfig, NetworkConfig
from makespan.agents.graph.declaration import shapes_of
from makespan.agents.graph.network import GraphNetwork
from makespan.agents.llm.episodes import EpisodeDistribution
from makespan.agents.llm.world import RouterWorld

BLIND = RouterWorld(prior="none", distribution=WORLD.distribution)
"""No rule tells the network what to do."""


def test_lessons_are_what_the_teacher_saw_and_chose() -> None:
    lessons = watch(BLIND, "least_requests", 200, seed=1)
    assert len(lessons.actions) == 200
    busy = np.where(
        lessons.observations["replica_mask"] > 0, lessons.observations["replica"][:, :, 0], 9
    )
    assert np.array_equal(lessons.actions, busy.argmin(axis=1))


def test_a_teacher_that_holds_is_understood() -> None:
    crowded = EpisodeDistribution((2, 3), (1.2, 1.2), (60, 80), outages=0.0)
    lessons = watch(RouterWorld("none", crowded), "lookahead_hold", 600, seed=1)
    held = lessons.actions == 3  # the action after those of the most replicas
    assert held.sum() > 10
    legal = lessons.observations["action_mask"][np.arange(600), lessons.actions]
    assert (legal == 1).all()


def test_the_same_seed_gives_the_same_lessons() -> None:
    first, second = (watch(BLIND, "lmetric", 60, seed=4) for _ in range(2))
    assert np.array_equal(first.actions, second.actions)
    assert np.array_equal(first.observations["replica"], second.observations["replica"])


def test_a_network_learns_a_rule() -> None:
    torch.manual_seed(0)
    shapes = shapes_of(BLIND.env().observation_space)  # type: ignore[arg-type]
    network = GraphNetwork(BLIND.graph, shapes, NetworkConfig(hidden=16, layers=1))
    config = CloningConfig("lmetric", epochs=60, batch=64, rate=3e-3)
    lessons = watch(BLIND, "lmetric", 1500, seed=2)
    before = clone(network, lessons, CloningConfig(epochs=0), seed=0)
    assert before < 0.6
    assert clone(network, lessons, config, seed=0) > 0.9


@pytest.mark.parametrize("wrong", [{"decisions": 0}, {"batch": 0}, {"epochs": -1}, {"rate": 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cloning needs"):
        CloningConfig(**wrong)  # type: ignore[arg-type]
