"""A grid of cells, checked and ready to run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import FleetConfig
from makespan.envs.llm.fleet import Fleet
from makespan.experiments import metrics
from makespan.experiments.policies import Factory
from makespan.experiments.regimes.cells import Key, Metrics
from makespan.experiments.scenario import Scenario, prepare, stream
from makespan.experiments.sweep.config import SweepConfig
from makespan.experiments.sweep.variants import Variant, variants
from makespan.traces.workload import Workload

CELLS = Path("cells", "metrics.jsonl")
"""The finished cells in the order in which they were finished, in the folder of the sweep."""


@dataclass(frozen=True)
class Cell:
    """One policy on one trace at one load, with one seed."""

    trace: str
    load: float
    seed: int
    variant: Variant

    @property
    def key(self) -> Key:
        """What tells it from the other cells of a sweep."""
        return f"load {self.load}", self.variant.label, self.seed, self.trace

    @property
    def name(self) -> str:
        """The same in words."""
        return f"{self.variant.label} on {self.trace}, load {self.load}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """The cross product of what a sweep lists.

    Attributes:
        config: the sweep.
        variants: its policies.
        scenarios: trace and load -> the fleet and the requests.
    """

    config: SweepConfig
    variants: list[Variant]
    scenarios: dict[tuple[str, float], Scenario]

    @property
    def cells(self) -> list[Cell]:
        """All cells; those that share their requests follow each other."""
        return [
            Cell(trace, load, seed, variant)
            for trace, load in self.scenarios
            for seed in self.config.seeds
            for variant in self.variants
        ]


def prepared(config: SweepConfig) -> Grid:
    """Check everything that can be checked before the first cell, and read the traces.

    Raises:
        ValueError: an unknown policy, constant, workload, hardware or model; a trace that cannot be
            read (`TraceError`) or is too short.
    """
    found = variants(config)
    scenarios = {
        (trace, load): prepare(config.run_config(trace, load))
        for trace in config.traces
        for load in config.loads
    }
    return Grid(config, found, scenarios)


def measure(workload: Workload, fleet: FleetConfig, make: Factory, seed: int) -> Metrics:
    """Replay one cell; the same numbers as in `makespan run`."""
    simulation = Fleet(workload, fleet, seed=stream(seed, 1))
    log = simulate(simulation, make(stream(seed, 2))).log
    return metrics.summarise(log, len(fleet.replicas))


def row(cell: Cell, values: Metrics) -> Mapping[str, Any]:
    """A finished cell as it is written to `rows.jsonl`."""
    return {
        "trace": cell.trace,
        "load": cell.load,
        "policy": cell.variant.policy,
        "settings": cell.variant.settings,
        "seed": cell.seed,
        **values,
    }
