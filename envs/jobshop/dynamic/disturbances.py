"""The random numbers of a run: how long operations take, and when machines are down.

Neither depends on what a policy does.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf, log1p, sqrt

import numpy as np

from makespan.envs.jobshop.dynamic.config import Conditions

Downtimes = Iterable[tuple[float, float]]
"""When one machine is down: (from, to), in order of time."""


def true_per_planned(
    conditions: Conditions, operations: int, rng: np.random.Generator
) -> np.ndarray:
    """float64 (operations,): by how much each takes longer than planned; 1 on average."""
    spread = conditions.spread
    if spread == 0:
        return np.ones(operations)
    if conditions.distribution == "uniform":
        return rng.uniform(1 - sqrt(3) * spread, 1 + sqrt(3) * spread, operations)
    sigma = sqrt(log1p(spread**2))
    return rng.lognormal(-(sigma**2) / 2, sigma, operations)


def breakdowns(conditions: Conditions, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """The downtimes of one machine, without end; none if it never breaks down."""
    time = 0.0
    while conditions.mean_up < inf:
        failed = time + rng.exponential(conditions.mean_up)
        time = failed + rng.exponential(conditions.mean_repair)
        yield failed, time


def check_downtimes(downtimes: Sequence[Downtimes], machines: int) -> list[list[tuple]]:
    """The same as lists.

    Raises:
        ValueError: there is not one for each machine, or one is not in order of time or has no
            end.
    """
    if len(downtimes) != machines:
        raise ValueError(f"needs downtimes of each of {machines} machines, not {len(downtimes)}")
    checked = [list(intervals) for intervals in downtimes]
    for machine, intervals in enumerate(checked):
        moments = [0.0, *(moment for interval in intervals for moment in interval)]
        if moments != sorted(moments) or any(start == end for start, end in intervals):
            raise ValueError(f"downtimes of machine {machine} must be in order of time")
        if not np.isfinite(moments).all():
            raise ValueError(f"downtimes of machine {machine} must be finite")
    return checked
