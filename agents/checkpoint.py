"""Where a run of `MaskablePPO` stands."""

from pathlib import Path
from typing import Any

import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecNormalize

from makespan.agents.folder import AgentError
from makespan.agents.policy import GraphPolicy
from makespan.agents.run import load_state, save_state

STATISTICS = ("mean", "var", "count")
"""Of the rewards."""


def save_checkpoint(path: Path, model: MaskablePPO, notes: dict[str, Any]) -> None:
    """Write weights, optimiser, reward statistics and counts; whole, or not at all.

    Args:
        notes: JSON that the trainer wants back.
    """
    policy, statistics = _parts(model)
    rewards = {
        f"rewards.{name}": torch.tensor(
            float(getattr(statistics.ret_rms, name)), dtype=torch.float64
        )
        for name in STATISTICS
    }
    counts = {"num_timesteps": model.num_timesteps, "n_updates": model._n_updates}
    modules = {"network": policy.network, "average": policy.average}
    save_state(path, modules, policy.optimizer, notes | counts, rewards)


def load_checkpoint(path: Path, model: MaskablePPO) -> dict[str, Any]:
    """Put `model` where the run stood; the trainer's notes.

    Raises:
        AgentError: the file is damaged, or of a run with other settings.
    """
    policy, statistics = _parts(model)
    modules = {"network": policy.network, "average": policy.average}
    notes, tensors = load_state(path, modules, policy.optimizer)
    try:
        for name in STATISTICS:
            setattr(statistics.ret_rms, name, tensors[f"rewards.{name}"].numpy())
        model.num_timesteps, model._n_updates = notes["num_timesteps"], notes["n_updates"]
    except KeyError as error:
        raise AgentError(f"{path}: not a checkpoint of this run: it has no {error}") from None
    return notes


def _parts(model: MaskablePPO) -> tuple[GraphPolicy, VecNormalize]:
    envs = model.get_vec_normalize_env()
    assert isinstance(model.policy, GraphPolicy)
    assert envs is not None
    return model.policy, envs
