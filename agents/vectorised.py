"""Many training environments at once, for stable-baselines3."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecNormalize,
)

from makespan.agents.world import World


class MasksFromObservations(VecEnvWrapper):
    """Answers `action_masks` from the last observations.

    sb3-contrib asks every environment for its mask at every step, with environments in processes
    another round trip each (sb3-contrib issue 279). The mask is in the observation already.
    """

    _masks: np.ndarray

    def reset(self) -> Any:
        """Observations of new episodes."""
        return self._noted(self.venv.reset())

    def step_wait(self) -> Any:
        """What the steps under way came to."""
        observations, rewards, dones, infos = self.venv.step_wait()
        # Environments in processes answer in double precision, those in this one do not.
        return self._noted(observations), rewards.astype(np.float32), dones, infos

    def has_attr(self, attr_name: str) -> bool:
        """Whether the environments have that attribute."""
        return attr_name == "action_masks" or self.venv.has_attr(attr_name)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """What each environment answers to that method."""
        if method_name == "action_masks":
            return list(self._masks)
        return self.venv.env_method(method_name, *args, indices=indices, **kwargs)

    def _noted(self, observations: Any) -> Any:
        self._masks = observations["action_mask"] > 0
        return observations


def vectorised(world: World, count: int, processes: bool, gamma: float) -> VecNormalize:
    """`count` training environments, rewards scaled by the spread of their discounted sums.

    Observations are left alone: the worlds show them in units of what is usual.

    Args:
        processes: one process each; else all in this one.
        gamma: discount of the sums.
    """
    makers = [world.env] * count
    envs: VecEnv = SubprocVecEnv(makers) if processes else DummyVecEnv(makers)
    return VecNormalize(MasksFromObservations(envs), norm_obs=False, gamma=gamma)
