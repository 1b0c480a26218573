"""Rules for total tardiness on one machine, against the paper that found two of them."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from makespan.baselines.jobshop.tardiness import RULES, edd, optimal, tardiness
from makespan.experiments.fidelity.row import Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.jobshop.tardiness import RANGES, TIGHTNESS, jobs_with_due_dates

JOBS = 20
OF_EACH_CLASS = 40
"""Instances of each of the 20 classes, as in the paper."""

COUNTED = 680
"""Of the paper's 800 instances, those whose least tardiness is not 0 (its released data)."""

Z = 2.576
"""Half the width of a 99 % interval, in standard errors."""

SOURCE = "arXiv 2510.24013"

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


EXAMPLE = np.array([10, 11, 10, 10, 11, 10]), np.array([15, 11, 13, 11, 12, 11])
"""Durations and due dates of the paper's worked example."""

IN_EXAMPLE = {"mddc": 141, "mdd": 144}
"""Rule -> total tardiness there."""


def rows(_: Sources) -> Iterator[Row]:
    """The worked example, and the mean gap of each rule."""
    for rule, total in IN_EXAMPLE.items():
        ours = tardiness(*EXAMPLE, RULES[rule](*EXAMPLE))
        what = f"total tardiness in the worked example, 6 jobs, {rule}"
        yield Row(what, SOURCE, total, ours, 0, "absolute")
    for rule, published in PUBLISHED.items():
        yield _mean_gap(rule, published)


def _mean_gap(rule: str, published: float) -> Row:
    """On other instances of the generator than the paper's.

    Both means are of a sample, so the interval is that of their difference; the spread of the
    paper's is taken to be that of ours.
    """
    found = gaps()[rule]
    error = float(found.std(ddof=1)) * np.sqrt(1 / len(found) + 1 / COUNTED)
    return Row(
        f"mean gap to the least total tardiness, {JOBS} jobs, {rule}",
        f"{SOURCE}, on other instances of its generator; inside the 99 % interval of the "
        f"difference of two means, of {COUNTED} and {len(found)}",
        published,
        float(found.mean()),
        Z * error / published,
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
                if not tardiness(duration, due, edd(duration, due)):
                    continue  # and it is late if anything has to be
                least = tardiness(duration, due, optimal(duration, due))
                for rule in PUBLISHED:
                    total = tardiness(duration, due, RULES[rule](duration, due))
                    found[rule].append(100 * (total / least - 1))
    return {rule: np.array(values) for rule, values in found.items()}
