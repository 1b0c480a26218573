"""Random jobs with due dates for one machine, in classes of how tight these are.

Source: the generator of Potts and Van Wassenhove (A decomposition algorithm for the single machine
total tardiness problem, Operations Research Letters 1, 1982), as Discovering Heuristics with LLMs
for Single-Machine Total Tardiness (arXiv 2510.24013) uses it.
"""

import numpy as np

LONGEST = 100
"""Durations are uniform from 1 to this, rounded down, so that 99 is the longest."""

TIGHTNESS = (0.2, 0.4, 0.6, 0.8)
"""Shares of jobs that will be late, roughly."""

RANGES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Widths of the interval of due dates, as shares of all work."""


def jobs_with_due_dates(
    jobs: int, tightness: float, due_range: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Durations and due dates, int64 (jobs,); tight and wide, some due dates are negative.

    Args:
        tightness: the mean due date is the share of all work that is left from 1.
        due_range: width of the interval of due dates, as a share of all work.
    """
    duration = rng.uniform(1, LONGEST, jobs).astype(np.int64)
    work = duration.sum()
    low, high = (work * (1 - tightness + side * due_range / 2) for side in (-1, 1))
    return duration, rng.uniform(low, high, jobs).astype(np.int64)
