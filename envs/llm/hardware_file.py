"""Hardware files: an engine that was measured, as `--hardware FILE` takes it.

A TOML file with the name of the model that was served, the engine's limits and the coefficients of
its `ClosedForm`; `makespan calibrate` writes it, and it can be written by hand:

    model = "my-model"
    source = "where the numbers come from"
    error = "how far they are off"

    [engine]
    block_size = 16
    kv_blocks = 2588
    max_num_batched_tokens = 2048
    max_num_seqs = 256
    max_model_len = 32768

    [step_time]    # milliseconds, see `makespan.envs.llm.step_time.ClosedForm`
    linear = [[15.51, 0.0303], [5.21, 0.0881]]
    decode = [0.366, 0.00635, 1.415e-4]
    prefill = [0.348, 3.03e-4, 4.56e-6]
    mixed = [0.837, 0.0338, 3.03e-4, 3.9e-4, 4.70e-6]
    lm_head = [1.104, 0.0030]
    overhead_ms = 1.0
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makespan.envs.llm.config import EngineConfig
from makespan.envs.llm.step_time import ClosedForm

SUFFIX = ".toml"

LIMITS = ("block_size", "kv_blocks", "max_num_batched_tokens", "max_num_seqs", "max_model_len")
"""Settings of `EngineConfig` that a hardware file holds."""

TERMS: Mapping[str, tuple[int, ...]] = {
    "linear": (2, 2),
    "decode": (3,),
    "prefill": (3,),
    "mixed": (5,),
    "lm_head": (2,),
    "overhead_ms": (),
}
"""Shape of each group of coefficients; `mixed` and `overhead_ms` may be absent."""

OPTIONAL = ("mixed", "overhead_ms")


@dataclass(frozen=True)
class MeasuredHardware:
    """What a hardware file says.

    Attributes:
        model: name of the model that was served.
        engine: its limits; everything else is the default.
        step_time: how long its steps take.
    """

    model: str
    engine: EngineConfig
    step_time: ClosedForm


def is_hardware_file(hardware: str) -> bool:
    """Whether a value of `ReplicaConfig.hardware` names a file."""
    return hardware.endswith(SUFFIX)


def read_hardware(path: Path) -> MeasuredHardware:
    """Read a hardware file.

    Raises:
        ValueError: it cannot be read, or a field is missing, unknown or out of range; the message
            names the file and the field.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return _hardware(values)
    except OSError as error:
        raise ValueError(f"hardware file {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"hardware file {path}: {error}") from None


def to_toml(hardware: MeasuredHardware) -> str:
    """The text of the file that `read_hardware` reads back to the same."""
    form = hardware.step_time
    engine = {name: getattr(hardware.engine, name) for name in LIMITS}
    terms = {name: getattr(form, name) for name in TERMS if getattr(form, name) is not None}
    head = {"model": hardware.model, "source": form.source, "error": form.error}
    lines = ["# Written by `makespan calibrate`; times in milliseconds.", *_assignments(head)]
    lines += ["", "[engine]", *_assignments(engine)]
    lines += ["", "[step_time]", *_assignments(terms)]
    return "\n".join(lines) + "\n"


def _assignments(values: Mapping[str, Any]) -> list[str]:
    # JSON's strings, finite numbers and arrays of them are TOML's.
    return [f"{name} = {json.dumps(v, ensure_ascii=False)}" for name, v in values.items()]


def _hardware(values: dict[str, Any]) -> MeasuredHardware:
    _require_known("", values, ("model", "source", "error", "engine", "step_time"))
    text = {name: values.get(name, "unknown") for name in ("model", "source", "error")}
    for name, value in text.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a string, not {value!r}")
    return MeasuredHardware(
        model=text["model"],
        engine=_engine(_table(values, "engine")),
        step_time=_closed_form(_table(values, "step_time"), text["source"], text["error"]),
    )


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    table = values.get(name)
    if not isinstance(table, dict):
        raise ValueError(f"there is no table [{name}]")
    return table


def _require_known(table: str, values: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"unknown field {table}{unknown[0]}; known: {', '.join(known)}")


def _engine(values: dict[str, Any]) -> EngineConfig:
    _require_known("engine.", values, LIMITS)
    for name in LIMITS:
        if type(values.get(name)) is not int or values[name] <= 0:
            raise ValueError(f"engine.{name} must be a positive integer, not {values.get(name)!r}")
    return EngineConfig(**values)


def _closed_form(values: dict[str, Any], source: str, error: str) -> ClosedForm:
    _require_known("step_time.", values, tuple(TERMS))
    for name in TERMS:
        if name not in values and name not in OPTIONAL:
            raise ValueError(f"there is no field step_time.{name}")
    terms: dict[str, Any] = {name: _numbers(name, values[name], TERMS[name]) for name in values}
    return ClosedForm(**{"mixed": None, **terms}, source=source, error=error)


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """`value` as nested tuples of finite floats of this shape."""
    if not shape:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"step_time.{name} must be a number, not {value!r}")
        return float(value)
    if not isinstance(value, list) or len(value) != shape[0]:
        raise ValueError(f"step_time.{name} must be an array of {shape[0]}, not {value!r}")
    return tuple(_numbers(name, item, shape[1:]) for item in value)
