"""Jobs that come over time, and due dates by the work of a job.

All times are whole numbers, as everywhere in job shops; with durations of 50 on average the
rounding of arrivals and due dates is not seen.
"""

from dataclasses import replace

import numpy as np

from makespan.traces.jobshop.instance import JobShop


def job_work(shop: JobShop) -> np.ndarray:
    """float64 (jobs,): work of each job; of operations with a choice, the mean of the options."""
    options = np.diff(shop.first_option)
    mean = np.add.reduceat(shop.duration, shop.first_option[:-1]) / options
    return np.add.reduceat(mean, shop.first_operation[:-1])


def with_arrivals(shop: JobShop, utilisation: float, rng: np.random.Generator) -> JobShop:
    """The same jobs, which come one after the other as a Poisson process.

    Args:
        utilisation: share of its time that a machine is busy on average, were jobs to come so for
            ever and machines never down; the mean time between jobs follows from their work.

    Raises:
        ValueError: the utilisation is not positive.
    """
    if not 0 < utilisation < np.inf:
        raise ValueError(f"the utilisation must be positive, not {utilisation}")
    between = job_work(shop).mean() / (shop.machines * utilisation)
    release = np.cumsum(rng.exponential(between, shop.jobs)).round().astype(np.int64)
    return replace(shop, release=release)


def with_due_dates(shop: JobShop, tightness: float) -> JobShop:
    """The same jobs, due a multiple of their work after they are released.

    Source: the total-work-content rule (TWK) of Conway, Maxwell and Miller, Theory of Scheduling
    (1967), chapter 11.

    Args:
        tightness: the multiple; 1 leaves no time to wait.

    Raises:
        ValueError: the multiple is not positive.
    """
    if not 0 < tightness < np.inf:
        raise ValueError(f"the tightness must be positive, not {tightness}")
    allowance = (tightness * job_work(shop)).round().astype(np.int64)
    return replace(shop, due=shop.release + allowance)
