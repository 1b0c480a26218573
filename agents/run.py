"""A training run on disk: its folder, which becomes that of the agent, and where it stands."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from makespan.agents.folder import CARD, AgentError
from makespan.agents.whole_file import write_text, writing

CHECKPOINT, RUN = "checkpoint.safetensors", "run.json"
"""Files of a run's folder, beside those of the agent: where it stands, and its settings."""

NOTES = "notes"
"""Key of a checkpoint's metadata under which what is not a tensor is kept, as JSON."""

OPTIMIZER = "optimizer"


def open_run(folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Write down what is run, or check that it is what was run here before.

    What was begun and came to no checkpoint, since a setting was wrong, was not run.

    Raises:
        AgentError: the folder holds another run or agent, or a run that `resume` did not ask for;
            its settings cannot be read.
    """
    wanted = in_words(settings)
    path = folder / RUN
    if (folder / CARD).exists() and not path.exists():
        raise AgentError(f"{folder}: there is an agent already that was not trained here")
    if path.exists() and (folder / CHECKPOINT).exists():
        if not resume:
            raise AgentError(f"{folder}: there is a run already: --resume goes on with it")
        # Runs of before there was more than one world do not name theirs.
        if json.loads(wanted) != {"env": "llm_router"} | _settings_in(path):
            raise AgentError(f"{folder}: the run there has other settings ({path.name} lists them)")
        return
    write_text(path, wanted)


def _settings_in(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise AgentError(f"{path}: not the settings of a run: {error}") from None


def in_words(settings: Mapping[str, Any]) -> str:
    """What is in the file `RUN`."""
    return json.dumps(settings, indent=2) + "\n"


def save_state(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    notes: Mapping[str, Any],
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """Write where a run stands, in one file without pickle; whole, or not at all.

    Args:
        modules: by name.
        notes: JSON.
        more: other tensors.
    """
    tensors = dict(more or {})
    for name, module in modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}.{number}.{key}": value for key, value in moments.items()}
    with writing(path) as unfinished:
        save_file(
            {name: value.contiguous().clone() for name, value in tensors.items()},
            unfinished,
            {NOTES: json.dumps(notes)},
        )


def load_state(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Put modules and optimiser where the run stood; the notes, and all tensors by name.

    Raises:
        AgentError: the file is damaged, or of a run with other settings.
    """
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads(file.metadata()[NOTES])
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        for name, module in modules.items():
            module.load_state_dict(_part(tensors, name))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, OPTIMIZER).items():
            number, moment = name.split(".")
            state.setdefault(int(number), {})[moment] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (SafetensorError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise AgentError(f"{path}: not a checkpoint of this run: {error}") from None
    return notes, tensors


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {n.partition(".")[2]: t for n, t in tensors.items() if n.startswith(f"{name}.")}
