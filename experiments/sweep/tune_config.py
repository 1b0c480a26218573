"""What the tuning of an agent is asked for: the table `[tune]` of a sweep's file."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from makespan.agents.config import TrainConfig
from makespan.agents.llm.world import RouterWorld
from makespan.experiments.configuration import build

DISTRIBUTIONS = ("uniform", "loguniform", "randint", "lograndint")
"""What a range of values may be called: the functions of those names in `ray.tune`."""

THE_SAME = ("steps", "seed", "processes", "checkpoint_every", "tuning", "test")
"""Settings of training that trials must agree on, or their scores could not be compared."""

TABLES = ("network", "cloning")
"""Settings of training that are tables of settings."""


@dataclass(frozen=True)
class Range:
    """Values that are drawn from an interval.

    Attributes:
        kind: one of `DISTRIBUTIONS`.
        low, high: its ends.
    """

    kind: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.kind not in DISTRIBUTIONS:
            raise ValueError(f"unknown range {self.kind!r}; known: {', '.join(DISTRIBUTIONS)}")
        if not self.low < self.high:
            raise ValueError(f"the range {self.low}, {self.high} is empty")
        if self.kind.startswith("log") and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, not at {self.low}")

    def nearest(self, value: float) -> float:
        """The value, or the end of the range that it went beyond; whole numbers end before it."""
        last = self.high - 1 if self.kind.endswith("randint") else self.high
        return min(max(value, self.low), last)


Space = dict[str, list[Any] | Range]
"""Dotted name of a setting of training -> the values to choose from."""


@dataclass(frozen=True)
class TuneConfig:
    """Many trainings of an agent that differ in some settings; the best agent is kept.

    Attributes:
        method: `asha` stops the trials that lag behind; `pbt` has them go on from a better one's
            checkpoint with settings near its.
        trials: how many trainings.
        seed: of the settings that are tried; that of the training is `training.seed`.
        space: setting of training (`rate`, or `network.hidden`) -> a list of
            values, or a range such as `{ loguniform = [1e-4, 1e-2] }`.
        world: what agents are trained on, as for `makespan train`.
        training: how, where `space` says nothing else. `steps` is the longest training, and what
            comes every `checkpoint_every` steps is the score by which trials are compared.

    Raises:
        ValueError: a value is out of range, or `space` names what cannot be tuned.
    """

    method: Literal["asha", "pbt"] = "asha"
    trials: int = 8
    seed: int = 0
    space: dict = field(default_factory=dict)
    world: RouterWorld = field(default_factory=RouterWorld)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.trials < 1 or self.seed < 0:
            raise ValueError("needs trials >= 1 and seed >= 0")
        if self.method == "pbt" and self.trials < 2:
            raise ValueError("trials must be at least 2 for pbt: they learn from each other")
        if not self.settings:
            raise ValueError("space names no setting to tune")
        for name, values in self.settings.items():
            self._check(name, values)

    @property
    def settings(self) -> Space:
        """The space, flat."""
        return dict(_flat("", self.space))

    def _check(self, name: str, values: list[Any] | Range) -> None:
        if name in THE_SAME:
            raise ValueError(f"space.{name} is the same for all trials: set it in training")
        if self.method == "pbt" and name in ("network.hidden", "network.layers"):
            raise ValueError(f"space.{name}: pbt hands weights on, so networks have one size")
        try:
            ends = (
                [values.low, values.nearest(values.high)] if isinstance(values, Range) else values
            )
            for value in ends:
                changed(self.training, {name: value})
        except ValueError as error:
            raise ValueError(f"space.{name}: {error}") from None


def changed(training: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The settings of training with some of them, by dotted name, changed.

    Raises:
        ValueError: there is no such setting, or a value is out of range.
    """
    values = dataclasses.asdict(training)
    for name, value in changes.items():
        table, _, key = name.rpartition(".")
        (values[table] if table else values)[key] = value
    return build(TrainConfig, values)


def _flat(prefix: str, space: Mapping[str, Any]) -> Sequence[tuple[str, list[Any] | Range]]:
    found = []
    for name, values in space.items():
        dotted = f"{prefix}{name}"
        if not isinstance(values, dict):
            found.append((dotted, _listed(dotted, values)))
        elif dotted in TABLES:
            found += _flat(f"{dotted}.", values)
        else:
            found.append((dotted, _range(dotted, values)))
    return found


def _listed(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"space.{name} must be a list of values or a range, not {values!r}")
    return values


def _range(name: str, values: Mapping[str, Any]) -> Range:
    match list(values.items()):
        case [(kind, [int() | float() as low, int() | float() as high])]:
            try:
                return Range(kind, low, high)
            except ValueError as error:
                raise ValueError(f"space.{name}: {error}") from None
    example = "{ uniform = [0.1, 0.2] }"
    raise ValueError(f"space.{name}: a range looks like {example}, not {dict(values)}")
