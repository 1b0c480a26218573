"""Random job shops of the kind that most of the literature trains and tests on."""

import numpy as np

from makespan.traces.jobshop.instance import JobShop

DURATIONS = (1, 99)
"""Shortest and longest operation, as Taillard's (European Journal of Operational Research 64)."""


def uniform_shop(
    jobs: int,
    machines: int,
    rng: np.random.Generator,
    durations: tuple[int, int] = DURATIONS,
) -> JobShop:
    """A shop in which every job visits every machine once, in a random order.

    Args:
        durations: the shortest and the longest; all between are as likely.

    Raises:
        ValueError: there are no jobs, no machines, or no durations.
    """
    if jobs < 1 or machines < 1:
        raise ValueError(f"needs jobs and machines, not {jobs} and {machines}")
    low, high = durations
    if not 0 <= low <= high:
        raise ValueError(f"durations must be from 0 and not falling, not {low} to {high}")
    order = rng.permuted(np.tile(np.arange(machines), (jobs, 1)), axis=1)
    return JobShop(
        machines=machines,
        first_operation=np.arange(0, jobs * machines + 1, machines),
        first_option=np.arange(jobs * machines + 1),
        machine=order.ravel(),
        duration=rng.integers(low, high + 1, jobs * machines),
        name=f"{jobs}x{machines}",
    )
