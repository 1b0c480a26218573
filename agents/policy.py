"""The policy that stable-baselines3 trains: a `GraphNetwork` and nothing else."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from makespan.agents.config import NetworkConfig
from makespan.agents.graph.declaration import GraphDeclaration, shapes_of
from makespan.agents.graph.network import GraphNetwork

DECAY = 0.95
"""Of the moving average of the weights, per rollout."""


class GraphPolicy(MaskableActorCriticPolicy):
    """An actor and critic for `MaskablePPO` over graphs in padded Dict observations.

    The features extractor, the layers and the heads of the parent are not built: `network` has its
    own. Its weights fit a policy over observations of another size. `average` is a moving average
    of them over the rollouts: what noisy gradients move to and fro cancels out in it (Polyak and
    Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992).

    Args:
        observation_space: a Dict.
        action_space: Discrete.
        lr_schedule: learning rate by remaining progress.
        declaration: the graph in the observations.
        config: size of the network.
    """

    network: GraphNetwork
    average: AveragedModel

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        declaration: GraphDeclaration,
        config: NetworkConfig,
        **settings: Any,
    ) -> None:
        self._declaration = declaration
        self._config = config
        super().__init__(observation_space, action_space, lr_schedule, **settings)

    def make_features_extractor(self) -> Any:
        """None is needed; the parent asks for one and for its width."""
        return _Nothing()

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        shapes = shapes_of(self.observation_space)
        self.network = GraphNetwork(self._declaration, shapes, self._config)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        self.optimizer = self.optimizer_class(
            self.network.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )

    def forward(
        self,
        obs: Any,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions int64 (B,), values (B, 1) and logarithms of the actions' probabilities (B,)."""
        distribution, values = self._look(obs, action_masks)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: Any, actions: Tensor, action_masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, logarithms of the probabilities of `actions`, and entropies."""
        distribution, values = self._look(obs, action_masks)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(
        self, obs: PyTorchObs, action_masks: np.ndarray | None = None
    ) -> MaskableDistribution:
        """The distribution over the actions."""
        return self._look(obs, action_masks)[0]

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values (B, 1)."""
        return self.network(obs)[1]

    def _look(self, obs: Any, masks: Any) -> tuple[MaskableDistribution, Tensor]:
        scores, values = self.network(obs)
        distribution = self.action_dist.proba_distribution(action_logits=scores)
        if masks is not None:
            distribution.apply_masking(masks)
        return distribution, values


class _Nothing(torch.nn.Module):
    features_dim = 0
