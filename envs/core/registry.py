"""One registry per kind of thing: a visible dict of name -> lazy "module:object"."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is in no registry, with the nearest known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return ValueError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}")


def load(kind: str, registry: Mapping[str, str], name: str) -> Any:
    """Import and return the object that `registry` files under `name`.

    Raises:
        ValueError: `name` is not in the registry; the message offers the nearest names.
    """
    if name not in registry:
        raise unknown_name(kind, name, registry)
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
