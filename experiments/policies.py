"""From the names on the command line to policies: baselines, and functions of one's own."""

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from makespan.agents.llm.named import Factory, named, only_size
from makespan.agents.shipped import AGENTS
from makespan.baselines.llm import POLICIES
from makespan.envs.core.contract import Policy
from makespan.experiments.configuration import split
from makespan.experiments.own_function import own_function


def resolve(names: str, replicas: Collection[int] = ()) -> dict[str, Factory]:
    """Label -> factory for every policy of a comma list.

    Args:
        names: names in `makespan.baselines.llm.POLICIES` or of agents that come with the package
            (`makespan.agents.shipped`); `all` stands for every one of them that can serve; the
            folder of an agent; `FILE.py:NAME` is a function of one's own, or a class, which is made
            anew for every run, with `seed=` if it takes that.
        replicas: sizes of the fleets to be served. Some agents know one size.

    Raises:
        ValueError: a name is unknown, the file has no such function, the folder no agent of this
            world, or the agent does not know fleets of that size; the message says which.
    """
    factories: dict[str, Factory] = {}
    for name in _expanded(names, replicas):
        label = Path(name).name.rpartition(":")[2]
        if label in factories:
            raise ValueError(f"two policies are called {label!r}")
        factories[label] = _factory_of(name, replicas)
    return factories


def _factory_of(name: str, replicas: Collection[int]) -> Factory:
    if ":" in name:
        return _maker(own_function(name))
    size = only_size(name)
    if others := set(replicas) - {size} if size else set():
        raise ValueError(f"{name} routes for {size} replicas, not for {min(others)}")
    return named(name)


def _expanded(names: str, replicas: Collection[int]) -> list[str]:
    """The names, each once, `all` replaced by every baseline and agent that can serve."""
    chosen = split(names)
    every = [*POLICIES, *(a for a in AGENTS if _serves(a, replicas))] if "all" in chosen else []
    expanded = [known for name in chosen for known in (every if name == "all" else [name])]
    return list(dict.fromkeys(expanded))


def _serves(agent: str, replicas: Collection[int]) -> bool:
    """Whether the agent can route for fleets of all these sizes."""
    size = only_size(agent)
    return size is None or set(replicas) <= {size}


def _maker(rule: Any) -> Factory:
    make: Callable[..., Policy] = rule
    if not inspect.isclass(rule):
        return lambda seed: rule
    if "seed" in inspect.signature(make).parameters:
        return lambda seed: make(seed=seed)
    return lambda seed: make()
