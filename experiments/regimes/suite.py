"""The comparison over regimes, checked and ready to run: what every cell is."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from makespan.envs.llm.capacity import capacity
from makespan.envs.llm.config import FleetConfig, Outage
from makespan.experiments import policies
from makespan.experiments.regimes.cells import Cell, CellFile
from makespan.experiments.regimes.regime import (
    FAILING,
    FLEETS,
    MODEL,
    SUITES,
    WORKLOADS,
    Regime,
    Regimes,
)
from makespan.experiments.regimes.traffic import Traffic, find
from makespan.experiments.run_config import RunConfig
from makespan.experiments.run_folder import RunFolder, remove
from makespan.experiments.scenario import DEFAULT_REQUESTS, fleet_config

TABLE = "regimes.md"
"""The tables as Markdown, in the folder of the run."""

CELLS = Path("cells", "metrics.jsonl")
"""The finished cells, in the folder of the run; they stay, so `--resume` repeats none of them."""


@dataclass(frozen=True)
class Suite:
    """The comparison over regimes.

    Attributes:
        config: the run.
        folder: where it is written.
        policies: their labels.
        traffic: workload -> where its requests come from.
        fleets: name -> fleet.
        capacity: workload and fleet -> requests/s that the fleet could serve at most.
    """

    config: RunConfig
    folder: RunFolder
    policies: tuple[str, ...]
    traffic: dict[str, Traffic]
    fleets: dict[str, FleetConfig]
    capacity: dict[tuple[str, str], float]

    @property
    def requests(self) -> int:
        """Requests of a cell."""
        return self.config.requests or DEFAULT_REQUESTS

    @property
    def regimes(self) -> Regimes:
        """What the policies are compared over."""
        return SUITES[self.config.trace]

    @property
    def kept(self) -> CellFile:
        """The finished cells."""
        return CellFile(self.folder.path / CELLS)

    def rate(self, regime: Regime) -> float:
        """Requests per second in a regime."""
        return regime.load * self.capacity[regime.workload, regime.fleet]

    def fleet(self, regime: Regime) -> FleetConfig:
        """What serves a regime."""
        fleet = self.fleets[regime.fleet]
        name, replica, start, length = FAILING
        if regime.fleet != name:
            return fleet
        span_s = self.requests / self.rate(regime)
        return replace(fleet, outages=(Outage(replica, start * span_s, length * span_s),))

    def cells(self, regime: Regime) -> list[Cell]:
        """The cells of a regime, seed after seed."""
        return [
            Cell(
                regime=regime.name,
                policy=policy,
                seed=seed,
                policies=self.config.policy,
                traffic=self.traffic[regime.workload],
                requests=self.requests,
                rate=self.rate(regime),
                fleet=self.fleet(regime),
            )
            for seed in self.config.seed_list
            for policy in self.policies
        ]

    @property
    def all_cells(self) -> list[Cell]:
        """The cells of every regime, one regime after another."""
        return [cell for regime in self.regimes for cell in self.cells(regime)]


def open_suite(config: RunConfig, folder: RunFolder, resume: bool) -> Suite:
    """Check the whole request, measure the capacities, then open the run's folder.

    Raises:
        ValueError: an unknown policy, no folder of traces, a trace that cannot be read
            (`TraceError`) or is too short, a folder in use.
        OSError: the folder cannot be written to.
    """
    sizes = {len(FLEETS[regime.fleet]) for regime in SUITES[config.trace]}
    labels = tuple(policies.resolve(config.policy, sizes))
    traffic = {name: find(kind, config.data) for name, kind in WORKLOADS.items()}
    there = {regime.fleet for regime in SUITES[config.trace]}
    fleets = {name: fleet_of(config, cards) for name, cards in FLEETS.items() if name in there}
    for found in traffic.values():
        found.check(config.requests or DEFAULT_REQUESTS)
    capacities = {
        (workload, name): measured_capacity(found, fleet)
        for workload, found in traffic.items()
        for name, fleet in fleets.items()
    }
    folder.open(config, resume)
    remove(folder.path / TABLE)
    return Suite(config, folder, labels, traffic, fleets, capacities)


def measured_capacity(traffic: Traffic, fleet: FleetConfig) -> float:
    """Requests per second that a fleet could serve at most of this traffic.

    Raises:
        ValueError: the trace is too short to tell.
    """
    most = capacity(traffic.sample(), fleet)
    if math.isnan(most):
        raise ValueError(f"{traffic.origin} is too short to measure capacity")
    return most


def fleet_of(config: RunConfig, hardware: tuple[str, ...]) -> FleetConfig:
    """A fleet of the comparison; engines, gauges and predictor are the run's."""
    fixed = {"hardware": ",".join(hardware), "replicas": len(hardware), "model": MODEL}
    parts = {name: getattr(config, name) for name in ("engine", "gauges", "predictor")}
    return fleet_config(RunConfig(**fixed, **parts))
