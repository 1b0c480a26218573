"""From a run's configuration to what the policies face: the fleet, and each seed's workload."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from makespan.envs.llm.capacity import CAPACITY_REQUESTS, capacity
from makespan.envs.llm.config import FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.experiments.run_config import RunConfig, replica_hardware
from makespan.traces.catalogue import load
from makespan.traces.synthetic import SYNTHETIC, synthetic
from makespan.traces.transform import slice_count, to_rate
from makespan.traces.workload import Workload

DEFAULT_REQUESTS = 2000
"""Size of a synthetic workload."""

DEFAULT_LOAD = 0.9
"""Share of capacity that a synthetic workload asks for: policies differ most near saturation."""


@dataclass(frozen=True)
class Scenario:
    """One fleet and one source of requests; every policy faces the same.

    A seed draws a synthetic workload anew. The requests of a trace stay as they are; its seeds vary
    the noise of predictions and gauges and the draws of the policies.

    Attributes:
        config: the run.
        fleet: the replicas and what surrounds them.
        source: the trace, its requests limited and its times as recorded; None: synthetic.
    """

    config: RunConfig
    fleet: FleetConfig
    source: Workload | None

    @cached_property
    def capacity(self) -> float:
        """Requests per second that the fleet could serve (see `capacity`)."""
        sample = self._draw(self.config.seed_list[0], rate=0.0, requests=CAPACITY_REQUESTS)
        return capacity(sample, self.fleet)

    @cached_property
    def rate(self) -> float:
        """Requests per second that the run asks for; 0: as recorded.

        Raises:
            ValueError: the load is given, and the workload too short to measure capacity.
        """
        load = self.config.load
        if not load and not self.config.rate and self.source is None:
            load = DEFAULT_LOAD
        if not load:
            return self.config.rate
        if np.isnan(self.capacity):
            raise ValueError(f"{self.config.trace} is too short to measure capacity: give --rate")
        return load * self.capacity

    @cached_property
    def workloads(self) -> dict[int, Workload]:
        """The requests of every seed, at the rate that the run asks for."""
        size = self.config.requests or DEFAULT_REQUESTS
        return {seed: self._draw(seed, self.rate, size) for seed in self.config.seed_list}

    def _draw(self, seed: int, rate: float, requests: int) -> Workload:
        if self.source is not None:
            return to_rate(self.source, rate) if rate else self.source
        return synthetic(self.config.trace, requests, rate, stream(seed, 0))


def prepare(config: RunConfig) -> Scenario:
    """Check everything that can be checked before the first policy runs, and read the trace.

    Raises:
        TraceError: the trace cannot be read.
        ValueError: unknown workload, hardware or model, or a model that does not fit.
    """
    fleet = fleet_config(config)
    source = None if config.trace in SYNTHETIC else read_trace(config)
    # A fleet with nothing to do finds unknown hardware and models that do not fit.
    empty = Workload(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    Fleet(empty, fleet)
    scenario = Scenario(config, fleet, source)
    _ = scenario.workloads
    return scenario


def read_trace(config: RunConfig) -> Workload:
    """The trace file, or as many requests of it as the run asks for.

    Raises:
        TraceError: the file cannot be read.
        ValueError: there is no such file, and no workload of that name; or a public trace of that
            name was not fetched yet.
    """
    # Only tables of lengths use the rate and the seed: they have no arrival times of their own.
    workload = load(config.trace, rate=config.rate, seed=stream(config.seed_list[0], 0))
    return slice_count(workload, 0, config.requests or None)


def fleet_config(config: RunConfig) -> FleetConfig:
    """The fleet: `replicas` of them, the names of the hardware taken in turn.

    Its router may hold requests, and looks at short ones first; most rules never do.
    """
    replica = ReplicaConfig(
        model=config.model, tensor_parallel=config.tensor_parallel, engine=config.engine
    )
    replicas = tuple(
        dataclasses.replace(replica, hardware=name)
        for name in replica_hardware(config.hardware, config.replicas)
    )
    return FleetConfig(
        replicas=replicas,
        gauges=config.gauges,
        predictor=config.predictor,
        can_hold=True,
        hold_order="shortest",
    )


def stream(seed: int, source: int) -> int:
    """Seed of one source of randomness: 0 the workload, 1 the fleet, 2 the policy.

    They must differ: a policy that draws from the same stream as the arrivals is correlated with
    them.
    """
    return int(np.random.SeedSequence(seed).generate_state(3)[source])
