"""One registry per kind of thing: a visible dict of name -> lazy "module:object"."""

import importlib
from collections.abc import Mapping
from typing import Any

from makespan.traces.errors import unknown_name as unknown_name


def load(kind: str, registry: Mapping[str, str], name: str) -> Any:
    """Import and return the object that `registry` files under `name`.

    Raises:
        ValueError: `name` is not in the registry; the message offers the nearest names.
    """
    if name not in registry:
        raise unknown_name(kind, name, registry)
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
