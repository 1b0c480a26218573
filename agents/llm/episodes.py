"""What a router is trained on: fleets and workloads drawn at random.

Nothing here is measured on the Mooncake trace, which routers are evaluated on. Fleets have one kind
of GPU or two; the evaluation mixes three.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isnan

import numpy as np
from numpy.random import Generator, SeedSequence

from makespan.envs.llm.capacity import capacity
from makespan.envs.llm.config import (
    FleetConfig,
    GaugeConfig,
    Outage,
    PredictorConfig,
    ReplicaConfig,
)
from makespan.envs.llm.episode import whole_number
from makespan.traces import lengths
from makespan.traces.arrivals import Arrivals, Gamma, MarkovModulated, Poisson
from makespan.traces.catalogue import load
from makespan.traces.lengths import LogNormal
from makespan.traces.synthetic import (
    SessionConfig,
    SyntheticConfig,
    SystemPromptConfig,
    generate,
)
from makespan.traces.transform import slice_count, to_rate
from makespan.traces.workload import Workload

HARDWARE = ("A100", "H100", "L40S")
SHORT_CONTEXT, LONG_CONTEXT = "Llama-2-7B", "Llama-3.1-8B"

CAPACITY_SAMPLE = 600
"""Requests on which the capacity of one replica is measured: 2,000 give the same to 5 %."""


@dataclass(frozen=True)
class EpisodeDistribution:
    """What training episodes are drawn from.

    Attributes:
        replicas: least and greatest number.
        load: least and greatest share of the fleet's capacity that arrivals ask for.
        requests: least and greatest number per replica.
        traces: files or catalogue names of traces, of the first half of which a third of the
            episodes are windows.
        stale: gauges are polled at random periods of up to 10 s with random lags; else every 0.1 s.
        outages: share of the episodes in which a replica fails.
    """

    replicas: tuple[int, int] = (2, 12)
    load: tuple[float, float] = (0.5, 1.2)
    requests: tuple[int, int] = (60, 400)
    traces: tuple[str, ...] = ()
    stale: bool = True
    outages: float = 0.15

    def __post_init__(self) -> None:
        for name in ("replicas", "load", "requests"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a range of positive numbers, not {low}, {high}")
        if not 0 <= self.outages <= 1:
            raise ValueError(f"outages must be in [0, 1], not {self.outages}")


@dataclass(frozen=True)
class Episode:
    """One fleet and the requests it serves; `noise` seeds its predictions and gauges."""

    workload: Workload
    fleet: FleetConfig
    noise: int


def draw(distribution: EpisodeDistribution, seed: SeedSequence) -> Episode:
    """An episode; the same seed gives the same one."""
    shape, system, sizes, requests, noise = seed.spawn(5)
    rng = np.random.default_rng(sizes)
    source = _source(distribution, np.random.default_rng(shape))
    fleet = _fleet(distribution, source, np.random.default_rng(system))
    low, high = distribution.requests
    count = int(rng.integers(low, high + 1)) * len(fleet.replicas)
    rate = rng.uniform(*distribution.load) * source.capacity(fleet)
    workload = source.draw(count, rate, requests)
    return Episode(workload, _with_outage(distribution, fleet, workload, rng), whole_number(noise))


@dataclass(frozen=True)
class Synthetic:
    """Requests of one shape."""

    config: SyntheticConfig
    model: str

    def capacity(self, fleet: FleetConfig) -> float:
        """Requests per second that `fleet` could serve of these."""
        config = replace(self.config, requests=CAPACITY_SAMPLE)
        return capacity(generate(config, seed=0), fleet)

    def draw(self, requests: int, rate: float, seed: SeedSequence) -> Workload:
        """So many requests at that rate."""
        arrivals = self.config.arrivals.at_rate(rate)
        return generate(
            replace(self.config, requests=requests, arrivals=arrivals), whole_number(seed)
        )


@dataclass(frozen=True)
class Trace:
    """The first half of a trace."""

    name: str
    model: str

    def capacity(self, fleet: FleetConfig) -> float:
        """Requests per second that `fleet` could serve of these.

        Raises:
            ValueError: they are too few, or too much alike, to tell.
        """
        found = capacity(slice_count(_first_half(self.name), 0, CAPACITY_SAMPLE), fleet)
        if isnan(found):
            raise ValueError(
                f"the requests of {self.name} are too few or too much alike to train on: what a "
                "fleet can serve of them cannot be measured"
            )
        return found

    def draw(self, requests: int, rate: float, seed: SeedSequence) -> Workload:
        """So many consecutive requests, from anywhere in it, at that rate."""
        trace = _first_half(self.name)
        size = min(requests, len(trace))
        start = int(np.random.default_rng(seed).integers(len(trace) - size + 1))
        return to_rate(slice_count(trace, start, start + size), rate)


@lru_cache
def _first_half(name: str) -> Workload:
    trace = load(name)
    return slice_count(trace, 0, len(trace) // 2)


def _source(distribution: EpisodeDistribution, rng: Generator) -> Synthetic | Trace:
    model = str(rng.choice([SHORT_CONTEXT, LONG_CONTEXT]))
    if distribution.traces and rng.random() < 1 / 3:
        return Trace(str(rng.choice(list(distribution.traces))), LONG_CONTEXT)
    shape: Callable[[Generator], SyntheticConfig] = SHAPES[int(rng.integers(len(SHAPES)))]
    return Synthetic(shape(rng), LONG_CONTEXT if shape is _documents else model)


def _chats(rng: Generator) -> SyntheticConfig:
    """Conversations that re-send their history behind shared system prompts."""
    return SyntheticConfig(
        arrivals=_arrivals(rng),
        prompt=lengths.SHAREGPT_FIRST,
        output=lengths.SHAREGPT_ANSWER,
        sessions=SessionConfig(
            mean_turns=rng.uniform(2, 6),
            think_s=_log_uniform(rng, 5, 60),
            longest=int(_log_uniform(rng, 1500, 3500)),
        ),
        system_prompts=SystemPromptConfig(count=int(rng.integers(2, 33))),
    )


def _single(rng: Generator) -> SyntheticConfig:
    """Requests that share nothing."""
    prompt, output = _log_uniform(rng, 200, 2000), _log_uniform(rng, 30, 400)
    return SyntheticConfig(
        arrivals=_arrivals(rng),
        prompt=LogNormal(mean=prompt, median=prompt * rng.uniform(0.4, 0.9), longest=3000),
        output=LogNormal(mean=output, median=output * rng.uniform(0.4, 0.9), longest=1000),
    )


def _documents(rng: Generator) -> SyntheticConfig:
    """Questions about long texts, a few about each."""
    prompt = _log_uniform(rng, 3000, 16_000)
    output = _log_uniform(rng, 100, 500)
    return SyntheticConfig(
        arrivals=_arrivals(rng),
        prompt=LogNormal(mean=prompt, median=prompt * rng.uniform(0.4, 0.8), longest=100_000),
        output=LogNormal(mean=output, median=output * rng.uniform(0.5, 0.95), longest=2000),
        sessions=SessionConfig(mean_turns=rng.uniform(1, 3), think_s=_log_uniform(rng, 10, 60)),
    )


SHAPES: tuple[Callable[[Generator], SyntheticConfig], ...] = (_chats, _single, _documents)


def _arrivals(rng: Generator) -> Arrivals:
    kind = rng.integers(3)
    if kind == 0:
        return Poisson()
    if kind == 1:
        return Gamma(cv=rng.uniform(1.0, 4.0))
    return MarkovModulated(burst=rng.uniform(2, 6), calm_s=20.0, busy_s=5.0)


def _fleet(
    distribution: EpisodeDistribution, source: Synthetic | Trace, rng: Generator
) -> FleetConfig:
    low, high = distribution.replicas
    n = int(rng.integers(low, high + 1))
    kinds = rng.choice(HARDWARE, size=int(rng.integers(1, 3)), replace=False)
    names = [str(kinds[0])] * n
    for r in range(1, n):
        names[r] = str(rng.choice(kinds))
    return FleetConfig(
        replicas=tuple(ReplicaConfig(name, source.model) for name in names),
        can_hold=True,
        hold_order="shortest",
        gauges=_gauges(rng) if distribution.stale else GaugeConfig(),
        predictor=_predictor(rng),
    )


def _gauges(rng: Generator) -> GaugeConfig:
    return GaugeConfig(
        period_s=_log_uniform(rng, 0.05, 10), lag_s=rng.uniform(0, 2), miss_probability=0.05
    )


def _predictor(rng: Generator) -> PredictorConfig:
    kind = rng.choice(["bucket", "bucket", "oracle", "none"])
    if kind == "oracle":
        return PredictorConfig("oracle", error=rng.uniform(0, 1))
    if kind == "none":
        return PredictorConfig("none")
    return PredictorConfig("bucket", accuracy=rng.uniform(0.5, 1.0))


def _with_outage(
    distribution: EpisodeDistribution, fleet: FleetConfig, workload: Workload, rng: Generator
) -> FleetConfig:
    if rng.random() >= distribution.outages:
        return fleet
    span = workload.arrival_s[-1] - workload.arrival_s[0]
    start, duration = rng.uniform(0, 0.7) * span, max(1.0, rng.uniform(0.05, 0.3) * span)
    replica = int(rng.integers(len(fleet.replicas)))
    return replace(fleet, outages=(Outage(replica, start, duration),))


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
