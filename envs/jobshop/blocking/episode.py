"""What an episode of the blocking environment is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence

from makespan.envs.jobshop.blocking.shutdowns import Shutdowns, draw_shutdowns
from makespan.envs.jobshop.ranges import Size, bounds
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.jobshop.uniform import uniform_shop


@dataclass(frozen=True)
class EpisodeConfig:
    """Settings of `BlockingJobShopEnv`, all of them JSON.

    Attributes:
        jobs, machines: their number, or a range `[low, high]` to draw it from.
        shutdown: probability that a machine is shut down before an operation, or a range.
        shutdown_mean: mean length of that, in mean durations.
        max_jobs, max_machines: rows of the observation; 0: as many as there are at most.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    jobs: Size = 10
    machines: Size = 10
    shutdown: float | Sequence[float] = (0.0, 0.2)
    shutdown_mean: float = 1.0
    max_jobs: int = 0
    max_machines: int = 0

    def __post_init__(self) -> None:
        for name in ("jobs", "machines"):
            high, rows = bounds(name, getattr(self, name), 1)[1], getattr(self, f"max_{name}")
            if high > (rows or high):
                raise ValueError(f"{name} must lie in 1..max_{name} ({rows}), not go up to {high}")
        if bounds("shutdown", self.shutdown, 0, float)[1] > 1:
            raise ValueError(f"shutdown must lie in [0, 1], not {self.shutdown}")
        if not 0 < self.shutdown_mean < np.inf:
            raise ValueError(f"shutdown_mean must be positive, not {self.shutdown_mean}")

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the observation: of jobs, of machines."""
        jobs, machines = bounds("jobs", self.jobs, 1)[1], bounds("machines", self.machines, 1)[1]
        return self.max_jobs or jobs, self.max_machines or machines

    def draw(self, seed: SeedSequence) -> tuple[JobShop, Shutdowns]:
        """A shop and its shutdowns."""
        sizes, downs = seed.spawn(2)
        shop = self.draw_shop(sizes)
        return shop, self.draw_shutdowns(shop, downs)

    def draw_shop(self, seed: SeedSequence) -> JobShop:
        """A shop of that size; every job visits every machine once, in random order."""
        rng = np.random.default_rng(seed)
        jobs, machines = (
            int(rng.integers(*bounds(name, getattr(self, name), 1), endpoint=True))
            for name in ("jobs", "machines")
        )
        return uniform_shop(jobs, machines, rng)

    def draw_shutdowns(self, shop: JobShop, seed: SeedSequence) -> Shutdowns:
        """Shutdowns of a probability that is drawn as well."""
        which, when = seed.spawn(2)
        between = bounds("shutdown", self.shutdown, 0, float)
        probability = np.random.default_rng(which).uniform(*between)
        return draw_shutdowns(shop, probability, when, self.shutdown_mean)
