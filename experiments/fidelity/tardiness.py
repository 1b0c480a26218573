"""Rules for total tardiness on one machine, against the paper that found two of them."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from makespan.baselines.jobshop.tardiness import RULES, optimal, tardiness
from makespan.experiments.fidelity.row import Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.jobshop.tardiness import RANGES, TIGHTNESS, jobs_with_due_dates

JOBS = 20
OF_EACH_CLASS = 10
"""Instances of each of the 20 classes; the paper has 40."""

Z = 2.576
"""Half the width of a 99 % interval, in standard errors of a mean."""

PUBLISHED = {
    "edd": 46.61,
    "eddc": 12.83,
    "mdd": 1.86,
    "mddc": 1.70,
    "psk": 1.77,
    "augmented_mdd": 1.21,
    "augmented_mddc": 0.79,
}
"""Rule -> mean gap to the least total tardiness in %, where that is not 0; arXiv 2510.24013, table
2 and the one of augmented rules, n = 20."""


def rows(_: Sources) -> Iterator[Row]:
    """Mean gap of each rule, on other instances of the same generator."""
    for rule, published in PUBLISHED.items():
        found = gaps()[rule]
        half_width = Z * float(found.std(ddof=1)) / np.sqrt(len(found))
        yield Row(
            f"mean gap to the least total tardiness, {JOBS} jobs, {rule}",
            f"arXiv 2510.24013, on other instances of its generator; inside the 99 % interval of "
            f"{len(found)}",
            published,
            float(found.mean()),
            half_width / published,
            "interval",
            "%",
        )


@cache
def gaps() -> dict[str, np.ndarray]:
    """Rule -> gaps in %, float64 (instances whose least tardiness is not 0,)."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {rule: [] for rule in PUBLISHED}
    for due_range in RANGES:
        for tightness in TIGHTNESS:
            for _ in range(OF_EACH_CLASS):
                duration, due = jobs_with_due_dates(JOBS, tightness, due_range, rng)
                least = tardiness(duration, due, optimal(duration, due))
                for rule in PUBLISHED if least else ():
                    total = tardiness(duration, due, RULES[rule](duration, due))
                    found[rule].append(100 * (total / least - 1))
    return {rule: np.array(values) for rule, values in found.items()}
