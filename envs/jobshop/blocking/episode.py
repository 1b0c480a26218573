"""What an episode of the blocking environment is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, SeedSequence

from makespan.envs.jobshop.blocking.shutdowns import Shutdowns, draw_shutdowns
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.jobshop.uniform import uniform_shop

Range = int | float | Sequence[int] | Sequence[float]
"""A number, or `[low, high]` to draw one from."""


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

    jobs: int | Sequence[int] = 10
    machines: int | Sequence[int] = 10
    shutdown: float | Sequence[float] = (0.0, 0.2)
    shutdown_mean: float = 1.0
    max_jobs: int = 0
    max_machines: int = 0

    def __post_init__(self) -> None:
        for name in ("jobs", "machines"):
            low, high = bounds(name, getattr(self, name))
            rows = getattr(self, f"max_{name}")
            if not 1 <= low <= high <= (rows or high):
                raise ValueError(f"{name} must lie in 1..max_{name} ({rows}), not {low} to {high}")
        low, high = bounds("shutdown", self.shutdown)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"shutdown must lie in [0, 1], not {low} to {high}")
        if not 0 < self.shutdown_mean < np.inf:
            raise ValueError(f"shutdown_mean must be positive, not {self.shutdown_mean}")

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the observation: of jobs, of machines."""
        jobs, machines = bounds("jobs", self.jobs)[1], bounds("machines", self.machines)[1]
        return self.max_jobs or int(jobs), self.max_machines or int(machines)

    def draw(self, seed: SeedSequence) -> tuple[JobShop, Shutdowns]:
        """A shop and its shutdowns."""
        sizes, downs = seed.spawn(2)
        shop = self.draw_shop(sizes)
        return shop, self.draw_shutdowns(shop, downs)

    def draw_shop(self, seed: SeedSequence) -> JobShop:
        """A shop of that size; every job visits every machine once, in random order."""
        rng = np.random.default_rng(seed)
        jobs, machines = (_whole(bounds(n, getattr(self, n)), rng) for n in ("jobs", "machines"))
        return uniform_shop(jobs, machines, rng)

    def draw_shutdowns(self, shop: JobShop, seed: SeedSequence) -> Shutdowns:
        """Shutdowns of a probability that is drawn as well."""
        which, when = seed.spawn(2)
        probability = np.random.default_rng(which).uniform(*bounds("shutdown", self.shutdown))
        return draw_shutdowns(shop, probability, when, self.shutdown_mean)


def bounds(name: str, value: Range) -> tuple[float, float]:
    """Least and greatest value.

    Raises:
        ValueError: it is neither a number nor a range of two.
    """
    if not isinstance(value, Sequence):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} must be a number or a range of two, not {value}")
    return value[0], value[1]


def _whole(between: tuple[float, float], rng: Generator) -> int:
    low, high = between
    return int(rng.integers(int(low), int(high) + 1))
