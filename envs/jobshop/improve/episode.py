"""What an episode of improvement begins with: a job shop, and a schedule made by a rule."""

from dataclasses import dataclass

import numpy as np

from makespan.envs.jobshop.generation import generate
from makespan.envs.jobshop.ranges import Size, bounds
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.benchmarks import BENCHMARKS, benchmark
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.jobshop.uniform import uniform_shop


@dataclass(frozen=True)
class EpisodeConfig:
    """Settings of `JobShopImproveEnv`, all of them JSON.

    Attributes:
        jobs, machines: of random shops; a number, or a range `[low, high]` to draw it from.
        instance: name of a published one to take instead, such as `ta01`.
        steps: of an episode.
        max_operations: rows of the observation; 0: as many as the settings ask for.
        max_moves: swaps that can be chosen from.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    jobs: Size = 15
    machines: Size = 15
    instance: str = ""
    steps: int = 500
    max_operations: int = 0
    max_moves: int = 32

    def __post_init__(self) -> None:
        for name in ("jobs", "machines"):
            self._range(name)
        for name, least in (("steps", 1), ("max_operations", 0), ("max_moves", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.instance:
            benchmark(self.instance)
        if 0 < self.max_operations < self._operations:
            raise ValueError(f"max_operations must be 0 or {self._operations} at least")

    def _range(self, name: str) -> tuple[int, int]:
        return bounds(name, getattr(self, name), 2)

    @property
    def _operations(self) -> int:
        if self.instance:
            known = BENCHMARKS[self.instance]
            return known.jobs * known.machines
        return self._range("jobs")[1] * self._range("machines")[1]

    @property
    def rows(self) -> int:
        """Of the observation, one for each operation."""
        return self.max_operations or self._operations

    def shop(self, rng: np.random.Generator) -> JobShop:
        """The job shop of one episode."""
        if self.instance:
            return benchmark(self.instance)
        jobs, machines = (
            int(rng.integers(low, high + 1)) for low, high in map(self._range, ("jobs", "machines"))
        )
        return uniform_shop(jobs, machines, rng)


def first_schedule(shop: JobShop) -> Schedule:
    """Where the search begins, as in L2S (Zhang et al., ICLR 2024).

    Of all jobs' next operations, the one with the least flow due date per work remaining is put
    into the first gap that is long enough; the lowest number of equal jobs.

    Raises:
        ValueError: operations have a choice of machines.
    """
    if shop.is_flexible:
        raise ValueError("only schedules without a choice of machines are improved")
    priority = np.empty(shop.operations)
    for begin, end in zip(shop.first_operation[:-1], shop.first_operation[1:], strict=True):
        duration = shop.duration[begin:end].astype(np.float64)
        through = duration.cumsum()
        left = through[-1] - through + duration
        priority[begin:end] = through / np.maximum(left, 1e-9)
    return generate(shop, priority, "insert")
