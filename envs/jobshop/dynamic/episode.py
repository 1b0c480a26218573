"""What an episode of the dynamic job shop is drawn from: a shop and its conditions."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import SeedSequence

from makespan.envs.core.registry import unknown_name
from makespan.envs.jobshop.dynamic.config import AfterRepair, Conditions
from makespan.traces.jobshop.arrivals import with_arrivals, with_due_dates
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.jobshop.uniform import uniform_shop

Objective = Literal["makespan", "flow", "tardiness"]


def whole_number(seed: SeedSequence) -> int:
    """An integer that stands for `seed`, for what takes no sequence."""
    return int(seed.generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class DynamicEpisode:
    """Settings of `DynamicJobShopEnv`, all of them JSON.

    Attributes:
        jobs: number of jobs, at least 2.
        machines: number of machines, each of which every job visits once.
        utilisation: share of time for which arriving jobs keep machines busy; 0: all jobs are there
            at the start.
        availability: share of its time that a machine is up.
        mean_repair: mean time of a repair, in mean durations of operations.
        after_repair: whether an interrupted operation goes on (`resume`) or begins once more
            (`repeat`).
        spread: standard deviation of a true duration as a share of the planned one (lognormal).
        tightness: jobs are due this multiple of their work after their release; 0: never.
        objective: `makespan`, `flow` or `tardiness`.
        max_candidates: waiting jobs that an observation has room for.
        max_machines: machines that it has room for.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    jobs: int = 20
    machines: int = 10
    utilisation: float = 0.0
    availability: float = 0.9
    mean_repair: float = 2.0
    after_repair: AfterRepair = "resume"
    spread: float = 0.2
    tightness: float = 2.0
    objective: Objective = "makespan"
    max_candidates: int = 20
    max_machines: int = 10

    def __post_init__(self) -> None:
        if self.jobs < 2:
            raise ValueError(f"jobs must be at least 2, not {self.jobs}")
        if not 1 <= self.machines <= self.max_machines:
            limit = f"1..max_machines ({self.max_machines})"
            raise ValueError(f"machines must lie in {limit}, not {self.machines}")
        if self.max_candidates < 2:
            raise ValueError(f"max_candidates must be at least 2, not {self.max_candidates}")
        for name in ("utilisation", "tightness"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be finite, at least 0, not {getattr(self, name)}")
        if self.objective not in get_args(Objective):
            raise unknown_name("objective", self.objective, get_args(Objective))
        self._conditions(mean_duration=1.0)

    def shop(self, seed: SeedSequence) -> JobShop:
        """The jobs of one episode."""
        operations, arrivals = map(np.random.default_rng, seed.spawn(2))
        shop = uniform_shop(self.jobs, self.machines, operations)
        if self.utilisation:
            shop = with_arrivals(shop, self.utilisation, arrivals)
        return with_due_dates(shop, self.tightness) if self.tightness else shop

    def conditions(self, shop: JobShop) -> Conditions:
        """What can go wrong with them; repairs are as long as `shop` makes them."""
        return self._conditions(float(shop.duration.mean()))

    def _conditions(self, mean_duration: float) -> Conditions:
        return Conditions.with_availability(
            self.availability, self.mean_repair * mean_duration, self.after_repair, self.spread
        )
