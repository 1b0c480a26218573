"""What an episode on one machine is drawn from."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import SeedSequence

from makespan.envs.jobshop.single.simulator import REVEALS, Reveals
from makespan.traces.jobshop.single_machine import MachineJobs, exponential_jobs
from makespan.traces.jobshop.tardiness import RANGES, TIGHTNESS, jobs_with_due_dates

Objective = Literal["flow", "tardiness"]

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class EpisodeConfig:
    """Settings of `makespan/SingleMachine-v0`; see there.

    Raises:
        ValueError: one is out of range, or does not go with another; the message names it.
    """

    types: int = 2
    jobs: int = 10
    means: tuple[float, float] = (0.1, 1.0)
    operations: int = 1
    rate: float = 0.0
    reveals: Reveals = "nothing"
    preemptive: bool = False
    review: float = 0.0
    objective: Objective = "flow"

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", tuple(self.means))
        for name in ("types", "jobs", "operations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("rate", "review"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be finite and at least 0, not {getattr(self, name)}")
        if len(self.means) != 2 or not 0 < self.means[0] <= self.means[1] < np.inf:
            raise ValueError(f"means must be a range of positive numbers, not {self.means}")
        for name, known in (("reveals", REVEALS), ("objective", OBJECTIVES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, not {getattr(self, name)}")
        if self.review and not self.preemptive:
            raise ValueError("review needs preemptive=True: nothing can change before the end")
        plain = self.types == self.operations == 1 and self.rate == 0
        if self.objective == "tardiness" and not plain:
            raise ValueError("objective tardiness needs types=1, operations=1 and rate=0")

    @property
    def rows(self) -> int:
        """Jobs of an episode."""
        return self.types * self.jobs

    def draw(self, seed: SeedSequence) -> MachineJobs:
        """New jobs."""
        of_class, of_jobs = seed.spawn(2)
        rng = np.random.default_rng(of_class)
        if self.objective == "flow":
            low, high = np.log(self.means)
            means = np.exp(rng.uniform(low, high, self.types))
            return exponential_jobs(
                means.tolist(), self.jobs, of_jobs, operations=self.operations, rate=self.rate
            )
        tightness, due_range = rng.choice(TIGHTNESS), rng.choice(RANGES)
        generator = np.random.default_rng(of_jobs)
        duration, due = jobs_with_due_dates(self.jobs, tightness, due_range, generator)
        return MachineJobs.of(duration.tolist(), due=due.tolist())
