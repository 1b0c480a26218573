"""Policies with their constants: the columns of a grid."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from itertools import product
from typing import Any, get_args

from makespan.baselines.llm import POLICIES, make
from makespan.envs.core.registry import load, unknown_name
from makespan.experiments.configuration import build
from makespan.experiments.policies import Factory, resolve
from makespan.experiments.sweep.config import SweepConfig, check_list

NOT_CONSTANTS = ("decision", "seed")
"""Arguments of a rule that are given to it while it runs."""


@dataclass(frozen=True)
class Variant:
    """A policy, and what its constants are.

    Attributes:
        policy: its label.
        settings: constant -> value; those that are not named have their published values.
        make: a fresh policy, its randomness from a seed.
    """

    policy: str
    settings: Mapping[str, Any]
    make: Factory = field(compare=False)

    @property
    def label(self) -> str:
        """Such as `cache_aware balance_abs=16`."""
        return " ".join(
            [self.policy, *(f"{name}={value}" for name, value in self.settings.items())]
        )


def variants(config: SweepConfig) -> list[Variant]:
    """Every policy, with every combination of the constants that are listed for it.

    Raises:
        ValueError: a policy or a constant is unknown, or a value wrong; the message names the key.
    """
    factories = resolve(",".join(config.policies), [config.replicas])
    for policy in config.settings:
        if policy not in factories:
            raise ValueError(str(unknown_name("table of settings", policy, factories)))
    return [
        variant
        for policy, factory in factories.items()
        for variant in _of_policy(policy, factory, config.settings.get(policy, {}))
    ]


def _of_policy(policy: str, factory: Factory, lists: Any) -> Iterator[Variant]:
    if not lists:
        yield Variant(policy, {}, factory)
        return
    if not isinstance(lists, dict):
        raise ValueError(f"settings.{policy} must be a table, not {lists!r}")
    try:
        for settings in _combinations(lists):
            yield Variant(policy, settings, _with_constants(policy, settings))
    except ValueError as error:
        raise ValueError(f"settings.{policy}: {error}") from None


def _combinations(lists: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for name, values in lists.items():
        check_list(name, values)
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _with_constants(policy: str, settings: Mapping[str, Any]) -> Factory:
    """Makes the baseline with these constants, after having made one to see that it takes them."""
    if policy not in POLICIES:
        raise ValueError("only baselines have constants")
    arguments = inspect.signature(load("router policy", POLICIES, policy), eval_str=True).parameters
    constants = [
        (name, (*get_args(argument.annotation), argument.annotation)[0], argument.default)
        for name, argument in arguments.items()
        if name not in NOT_CONSTANTS
    ]
    build(make_dataclass(policy, constants), settings)
    seeded = "seed" in arguments
    make(policy, **settings)
    return lambda seed: make(policy, **settings, **({"seed": seed} if seeded else {}))
