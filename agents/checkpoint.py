"""Where a training run stands, in one file without pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from makespan.agents.folder import AgentError
from makespan.agents.policy import GraphPolicy
from makespan.agents.whole_file import writing

NOTES = "notes"
"""Key of the file's metadata under which what is not a tensor is kept, as JSON."""


def save_checkpoint(path: Path, model: MaskablePPO, notes: dict[str, Any]) -> None:
    """Write weights, optimiser, reward statistics and counts; whole, or not at all.

    Args:
        notes: JSON that the trainer wants back.
    """
    counts = {"num_timesteps": model.num_timesteps, "n_updates": model._n_updates}
    metadata = {NOTES: json.dumps(notes | counts)}
    with writing(path) as unfinished:
        save_file(_tensors(model), unfinished, metadata)


def load_checkpoint(path: Path, model: MaskablePPO) -> dict[str, Any]:
    """Put `model` where the run stood; the trainer's notes.

    Raises:
        AgentError: the file is damaged, or of a run with other settings.
    """
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads(file.metadata()[NOTES])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _restore(model, tensors)
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise AgentError(f"{path}: not a checkpoint of this run: {error}") from None
    model.num_timesteps = notes["num_timesteps"]
    model._n_updates = notes["n_updates"]
    return notes


def _tensors(model: MaskablePPO) -> dict[str, Tensor]:
    policy, statistics = _parts(model)
    tensors = {f"network.{name}": value for name, value in policy.network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in policy.average.state_dict().items()}
    for number, moments in policy.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    for name in ("mean", "var", "count"):
        value = getattr(statistics.ret_rms, name)
        tensors[f"rewards.{name}"] = torch.tensor(float(value), dtype=torch.float64)
    return {name: value.contiguous().clone() for name, value in tensors.items()}


def _restore(model: MaskablePPO, tensors: dict[str, Tensor]) -> None:
    policy, statistics = _parts(model)
    for name, module in (("network", policy.network), ("average", policy.average)):
        module.load_state_dict(
            {n.partition(".")[2]: t for n, t in tensors.items() if n.startswith(f"{name}.")}
        )
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, moment = name.split(".")
            state.setdefault(int(number), {})[moment] = value
    groups = policy.optimizer.state_dict()["param_groups"]
    policy.optimizer.load_state_dict({"state": state, "param_groups": groups})
    for name in ("mean", "var", "count"):
        setattr(statistics.ret_rms, name, tensors[f"rewards.{name}"].numpy())


def _parts(model: MaskablePPO) -> tuple[GraphPolicy, VecNormalize]:
    envs = model.get_vec_normalize_env()
    assert isinstance(model.policy, GraphPolicy)
    assert envs is not None
    return model.policy, envs
