"""What an episode of the routing environment is drawn from: a fleet and a workload."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.random import SeedSequence

from makespan.envs.core.registry import unknown_name
from makespan.envs.llm.config import FleetConfig, Outage, PredictorConfig, ReplicaConfig
from makespan.traces.catalogue import load
from makespan.traces.synthetic import SYNTHETIC, synthetic
from makespan.traces.transform import slice_count, to_rate
from makespan.traces.workload import Workload

Reward = Literal["latency", "goodput"]
Predictor = Literal["none", "oracle", "bucket", "class_mean"]


def whole_number(seed: SeedSequence) -> int:
    """An integer that stands for `seed`, for what takes no sequence."""
    return int(seed.generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class EpisodeConfig:
    """Settings of `LLMRouterEnv`, all of them JSON.

    Attributes:
        replicas: number of replicas, or a range `[low, high]` to draw it from.
        hardware: of all replicas, or several names that they take in turn; hardware files too.
        model: the model that is served; empty: a hardware file's own, else Llama-2-7B.
        workload: name of a synthetic workload, or path or catalogue name of a trace, of which every
            episode gets another window.
        rate: requests per second; 0: that of the workload.
        requests: requests per episode; a shorter trace is taken whole.
        max_replicas: rows of the observation.
        hold: whether requests can be held in the router.
        reward: `latency` or `goodput`.
        predictor: kind of output-length prediction, see `PredictorConfig`.
        outages: `[replica, start_s, duration_s]` of each failure.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    replicas: int | Sequence[int] = 4
    hardware: str | Sequence[str] = "A100"
    model: str = ""
    workload: str = "azure_conv"
    rate: float = 12.0
    requests: int = 1000
    max_replicas: int = 8
    hold: bool = False
    reward: Reward = "latency"
    predictor: Predictor = "bucket"
    outages: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        self._check_fleet()
        if self.requests < 1:
            raise ValueError(f"requests must be at least 1, not {self.requests}")
        if not 0 <= self.rate < np.inf:
            raise ValueError(f"rate must be finite and not negative, not {self.rate}")
        for name, known in (("reward", get_args(Reward)), ("predictor", get_args(Predictor))):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)

    def _check_fleet(self) -> None:
        if isinstance(self.replicas, Sequence) and len(self.replicas) != 2:
            raise ValueError(f"replicas must be a number or a range of two, not {self.replicas}")
        low, high = self.replica_range
        if not 1 <= low <= high <= self.max_replicas:
            raise ValueError(
                f"replicas must lie in 1..max_replicas ({self.max_replicas}), not {self.replicas}"
            )
        if len(self.hardware) == 0:
            raise ValueError("hardware must name at least one kind")
        for replica, *_ in self.outages:
            if replica >= high:
                raise ValueError(f"outages name replica {replica}, of {high} counted from 0")

    @property
    def replica_range(self) -> tuple[int, int]:
        """Least and greatest number of replicas."""
        if isinstance(self.replicas, Sequence):
            low, high = self.replicas
            return low, high
        return self.replicas, self.replicas

    def fleet(self, seed: SeedSequence) -> FleetConfig:
        """The fleet of one episode."""
        low, high = self.replica_range
        n = int(np.random.default_rng(seed).integers(low, high + 1))
        names = [self.hardware] if isinstance(self.hardware, str) else self.hardware
        return FleetConfig(
            replicas=tuple(ReplicaConfig(names[r % len(names)], self.model) for r in range(n)),
            predictor=PredictorConfig(self.predictor),
            can_hold=self.hold,
            outages=tuple(Outage(int(r), *when) for r, *when in self.outages if r < n),
        )

    def draw(self, seed: SeedSequence) -> Workload:
        """The workload of one episode."""
        if self.workload in SYNTHETIC:
            return synthetic(self.workload, self.requests, self.rate, whole_number(seed))
        return self._window(np.random.default_rng(seed))

    @cached_property
    def _trace(self) -> Workload:
        trace = load(self.workload)
        return to_rate(trace, self.rate) if self.rate else trace

    def _window(self, rng: np.random.Generator) -> Workload:
        """As many consecutive requests of the trace as an episode has, from anywhere in it."""
        size = min(self.requests, len(self._trace))
        start = int(rng.integers(len(self._trace) - size + 1))
        return slice_count(self._trace, start, start + size)
