"""Policies of one's own: `FILE.py:NAME` on the command line."""

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any


def own_function(name: str) -> Any:
    """The function or class that `FILE.py:NAME` names; the file is executed.

    Raises:
        ValueError: there is no such file, or nothing of that name in it.
    """
    path, _, attribute = name.rpartition(":")
    rule = getattr(_module(Path(path)), attribute, None)
    if not callable(rule):
        raise ValueError(f"{path} has no function or class {attribute!r}")
    return rule


def _module(path: Path) -> ModuleType:
    """Execute the Python file at `path`, and return it as a module."""
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{path} is not a Python file (a policy of your own is FILE.py:NAME)")
    module = ModuleType(path.stem)
    SourceFileLoader(path.stem, str(path)).exec_module(module)
    return module
