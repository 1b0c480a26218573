"""What a sweep is asked for: its TOML file, read and checked."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from makespan.envs.llm.config import EngineConfig, GaugeConfig, PredictorConfig
from makespan.experiments.configuration import build
from makespan.experiments.run_config import RunConfig
from makespan.experiments.sweep.tune_config import TuneConfig

OF_A_RUN = (
    *("requests", "replicas", "hardware", "model", "tensor_parallel"),
    *("engine", "gauges", "predictor"),
)
"""Settings that mean here what they mean in a `RunConfig`."""


@dataclass(frozen=True)
class SweepConfig:
    """A grid: every policy, with every combination of its constants, on every trace, load and seed.

    Attributes:
        policies: names as for `makespan run --policy`.
        traces: files, or names of synthetic workloads or of public traces that were fetched.
        loads: arrivals ask for these shares of the fleet's capacity.
        seeds: of the workloads, the noise and the policies.
        requests: size of a synthetic workload (0: 2000), or the first so many of a trace (0: all).
        replicas, hardware, model, tensor_parallel, engine, gauges, predictor: the fleet, as in a
            `RunConfig`.
        settings: policy -> constant -> the values that it takes in turn; constants that are not
            named keep their published values.

    Raises:
        ValueError: a value is out of range; the message names the key.
    """

    policies: tuple[str, ...] = ("all",)
    traces: tuple[str, ...] = ("sharegpt_sessions",)
    loads: tuple[float, ...] = (0.9,)
    seeds: tuple[int, ...] = (0, 1, 2)
    requests: int = 0
    replicas: int = 4
    hardware: str = "A100"
    model: str = ""
    tensor_parallel: int = 1
    settings: dict = field(default_factory=dict)
    engine: EngineConfig = field(default_factory=EngineConfig)
    gauges: GaugeConfig = field(default_factory=GaugeConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)

    def __post_init__(self) -> None:
        for name, kind in (("policies", str), ("traces", str), ("loads", float), ("seeds", int)):
            check_kind(name, getattr(self, name), kind)
            check_list(name, getattr(self, name))
        if not all(0 < load < float("inf") for load in self.loads):
            raise ValueError(f"loads must be positive, not {list(self.loads)}")
        for trace in self.traces:
            self.run_config(trace, self.loads[0])

    def run_config(self, trace: str, load: float) -> RunConfig:
        """What `makespan run` would be asked for to replay one trace at one load."""
        return RunConfig(
            trace=trace,
            load=float(load),
            policy=",".join(self.policies),
            seeds="".join(f"{seed}," for seed in self.seeds),
            **{name: getattr(self, name) for name in OF_A_RUN},
        )


def check_list(name: str, values: Any) -> None:
    """See that `values` is a list of at least one value, each of them once.

    Raises:
        ValueError: it is not; the message names it.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"{name} must be a list of values, not {values!r}")
    if any(value in values[:k] for k, value in enumerate(values)):
        raise ValueError(f"{name} names a value twice: {list(values)}")


def check_kind(name: str, values: Sequence[Any], kind: type) -> None:
    """See that all `values` are of one kind; whole numbers are floats, too.

    Raises:
        ValueError: one is not; the message names it.
    """
    fits = (int, float) if kind is float else (kind,)
    for value in values:
        if not isinstance(value, fits) or isinstance(value, bool):
            raise ValueError(f"{name} must hold values of type {kind.__name__}, not {value!r}")


def read(path: Path) -> SweepConfig | TuneConfig:
    """The grid in the file, or what its table `[tune]` says of tuning an agent.

    Raises:
        ValueError: not TOML, or a key is unknown or its value wrong; the message names both.
        OSError: the file cannot be read.
    """
    try:
        return _built(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _built(values: Mapping[str, Any]) -> SweepConfig | TuneConfig:
    if "tune" not in values:
        return build(SweepConfig, values)
    if others := sorted(set(values) - {"tune"}):
        raise ValueError(f"{others[0]} is of a grid of policies, and a file with [tune] has none")
    if not isinstance(values["tune"], dict):
        raise ValueError(f"tune must be a table, not {values['tune']!r}")
    try:
        return build(TuneConfig, values["tune"])
    except ValueError as error:
        raise ValueError(f"tune: {error}") from None
