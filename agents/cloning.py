"""Behaviour cloning: a network learns to choose what a rule chooses."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import SeedSequence

from makespan.agents.config import CloningConfig
from makespan.agents.graph.network import GraphNetwork
from makespan.agents.world import World
from makespan.envs.core.environment import SchedulingEnv


@dataclass(frozen=True)
class Lessons:
    """What a teacher saw and chose: observations (n, ...) by entry, actions int64 (n,)."""

    observations: dict[str, np.ndarray]
    actions: np.ndarray


def watch(world: World, teacher: str, decisions: int, seed: int) -> Lessons:
    """Let the baseline `teacher` play training episodes until it has made so many decisions."""
    env = world.env()
    seen: list[dict[str, np.ndarray]] = []
    chosen: list[int] = []
    episodes = SeedSequence(seed)
    while len(chosen) < decisions:
        observation, _ = env.reset(seed=int(episodes.spawn(1)[0].generate_state(1)[0]))
        policy = world.teacher(teacher)
        while env.decision is not None and len(chosen) < decisions:
            action = _of_the_space(env, policy(env.decision))
            seen.append(observation)
            chosen.append(action)
            observation, *_ = env.step(action)
    stacked = {name: np.stack([o[name] for o in seen]) for name in seen[0]}
    return Lessons(stacked, np.array(chosen))


def _of_the_space(env: SchedulingEnv, answer: int) -> int:
    """The action of the padded space that stands for the answer to a decision."""
    legal = np.flatnonzero(env.mask).tolist()
    return next(action for action in legal if env.answer(env.decision, action) == answer)


def clone(network: GraphNetwork, lessons: Lessons, config: CloningConfig, seed: int) -> float:
    """Fit `network` to the lessons by cross-entropy over the legal actions.

    Returns: share of the lessons in which it then chooses as the teacher did.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.rate)
    observations = {name: torch.as_tensor(v) for name, v in lessons.observations.items()}
    actions = torch.as_tensor(lessons.actions)
    for _ in range(config.epochs):
        for rows in _batches(rng.permutation(len(actions)), config.batch):
            logits = _legal_scores(network, observations, rows)
            loss = torch.nn.functional.cross_entropy(logits, actions[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return _agreement(network, observations, actions, config.batch)


def _batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _legal_scores(
    network: GraphNetwork, observations: dict[str, torch.Tensor], rows: np.ndarray
) -> torch.Tensor:
    batch = {name: value[rows] for name, value in observations.items()}
    scores, _ = network(batch)
    return scores.masked_fill(batch["action_mask"] == 0, -torch.inf)


def _agreement(
    network: GraphNetwork, observations: dict[str, torch.Tensor], actions: torch.Tensor, size: int
) -> float:
    same = 0
    with torch.no_grad():
        for rows in _batches(np.arange(len(actions)), size):
            choices = _legal_scores(network, observations, rows).argmax(dim=1)
            same += int((choices == actions[rows]).sum())
    return same / len(actions)
