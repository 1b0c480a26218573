"""What the configurations of all worlds share: their file form, comma lists, seeds, names."""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

Config = TypeVar("Config")
"""A dataclass of settings."""


def split(names: str) -> list[str]:
    """The non-empty items of a comma list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def seed_list(text: str) -> list[int]:
    """The seeds of a number of them, or of a comma list (`7,` for seed 7 alone).

    Raises:
        ValueError: it is neither, or they are not distinct and from 0 on.
    """
    try:
        numbers = [int(part) for part in split(text)]
    except ValueError:
        raise ValueError(f"--seeds takes a number or a comma list, not {text!r}") from None
    seeds = numbers if "," in text else list(range(sum(numbers)))
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds must be distinct and not negative, not {text!r}")
    return seeds


def digest(config: Any) -> str:
    """Eight hexadecimal digits that tell this configuration from others."""
    return hashlib.sha256(to_toml(config).encode()).hexdigest()[:8]


def run_path(out: Path, name: str, default: str) -> Path:
    """The folder of a run in that of all runs.

    Raises:
        ValueError: the name is not that of a folder inside `out`.
    """
    if name == ".." or Path(name).name != name:
        raise ValueError(f"--name must be the name of a folder, not {name!r}")
    return out / (name or default)


def to_toml(config: Any) -> str:
    """The configuration as TOML: its own fields, then one table per nested dataclass."""
    values = dataclasses.asdict(config)
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [_assignment(name, value) for name, value in values.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(_assignment(key, value) for key, value in table.items())]
    return "\n".join(lines) + "\n"


def read_config(kind: type[Config], path: Path) -> Config:
    """Read what `to_toml` wrote; absent fields take their defaults.

    Raises:
        ValueError: not TOML, or a field is unknown or out of range; the message names the file.
        OSError: the file cannot be read.
    """
    try:
        return build(kind, tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _assignment(name: str, value: bool | float | str) -> str:
    # JSON's strings, numbers and booleans are TOML's, but for non-finite numbers, never valid here.
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


def build(kind: type, values: Mapping[str, Any]) -> Any:
    """The dataclass `kind` with these values of its fields, nested ones as mappings.

    Raises:
        ValueError: a field is unknown, of another type or out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"unknown setting {unknown[0]!r}; known: {', '.join(fields)}")
    built = {}
    for name, value in values.items():
        default = fields[name].default_factory
        if isinstance(default, type) and dataclasses.is_dataclass(default):
            if not isinstance(value, dict):
                raise ValueError(f"{name} must be a table, not {value!r}")
            built[name] = build(default, value)
        else:
            built[name] = _checked(name, fields[name].type, value)
    return kind(**built)


def _checked(name: str, kind: Any, value: Any) -> Any:
    if isinstance(kind, type):
        fits = (int, float) if kind is float else (kind,)
        if not isinstance(value, fits) or isinstance(value, bool) != (kind is bool):
            raise ValueError(f"{name} must be of type {kind.__name__}, not {value!r}")
    elif get_origin(kind) is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(f"{name} must be a list, not {value!r}")
        return tuple(value)
    elif hasattr(kind, "__args__") and value not in kind.__args__:
        raise ValueError(f"{name} must be one of {', '.join(kind.__args__)}, not {value!r}")
    return value
