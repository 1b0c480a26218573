"""Double Q-learning (van Hasselt et al. 2016) with the guidance of Jain et al."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from makespan.agents.llm.guided.config import GuidedConfig
from makespan.agents.llm.guided.replay import Replay, transition
from makespan.agents.llm.guided.reward import UNIT
from makespan.agents.llm.guided.state import size


def network(replicas: int, hidden: int) -> nn.Sequential:
    """27-64-64-5 for four replicas: the published network."""
    return nn.Sequential(
        nn.Linear(size(replicas), hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, replicas + 1),
    )


def targets(
    online: nn.Module, target: nn.Module, batch: np.ndarray, discount: float, guide: float
) -> Tensor:
    """float32 (batch,): what the values of the actions taken should have been.

    r + guide * h(s, a) + discount**steps * Q_target(s', best legal action by Q_online).

    Args:
        batch: rows of `transition`.
        discount: per step.
        guide: weight of the guidance, in units of the reward.
    """
    with torch.no_grad():
        state = torch.from_numpy(batch["next_state"].copy())
        legal = torch.from_numpy(batch["next_mask"].copy())
        chosen = online(state).masked_fill(~legal, -torch.inf).argmax(dim=1, keepdim=True)
        future = target(state).gather(1, chosen).squeeze(1)
    now = batch["reward"] + guide * batch["guidance"]
    kept = discount ** batch["steps"]
    return torch.from_numpy(now.astype(np.float32)) + torch.from_numpy(kept) * future


class Learner:
    """The network, its target copy and the transitions, for fleets of `replicas`."""

    def __init__(self, config: GuidedConfig, replicas: int) -> None:
        torch.manual_seed(config.seed)
        torch.set_num_threads(1)  # the network is small: more threads wait for each other
        self._config = config
        self._online = network(replicas, config.hidden)
        self._target = network(replicas, config.hidden)
        self._target.load_state_dict(self._online.state_dict())
        self._adam = torch.optim.Adam(self._online.parameters(), config.rate)
        self._replay = Replay(transition(replicas), config.buffer)
        self._rng = np.random.default_rng([config.seed, 1])
        self._updates = 0
        self._since = 0

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Name -> float32 array; views, which change with every update."""
        return {name: value.numpy() for name, value in self._online.state_dict().items()}

    def remember(self, episode: int, *row: Any) -> None:
        """Add a transition, its fields in order, and learn when it is time to."""
        self._replay.add(*row)
        self._since += 1
        if self._since >= self._config.every and len(self._replay) >= self._config.batch:
            self._since = 0
            self._update(episode)

    def _update(self, episode: int) -> None:
        config = self._config
        batch = self._replay.sample(self._rng, config.batch)
        guide = config.gamma * config.guide(episode) * config.mixing / UNIT
        wanted = targets(self._online, self._target, batch, config.discount(episode), guide)
        actions = torch.from_numpy(batch["action"].copy())[:, None]
        found = self._online(torch.from_numpy(batch["state"].copy())).gather(1, actions).squeeze(1)
        self._adam.zero_grad()
        nn.functional.smooth_l1_loss(found, wanted).backward()
        self._adam.step()
        self._updates += 1
        if self._updates % config.target_every == 0:
            self._target.load_state_dict(self._online.state_dict())
