"""Results of a comparison: gaps of every policy, with intervals, as one plain dict."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from makespan.experiments.jobshop.cell import Cell
from makespan.experiments.jobshop.config import JobShopConfig
from makespan.experiments.jobshop.instances import Instance
from makespan.traces.jobshop.benchmarks import BOUNDS_DATE

LEVEL = 0.95
"""Confidence level of every interval."""

CURVE_POINTS = 80
"""Points of a curve of the best so far."""

Estimate = dict[str, float]
"""`mean`, `low` and `high`."""


def collect(
    config: JobShopConfig, instances: Sequence[Instance], cells: Sequence[Cell]
) -> dict[str, Any]:
    """The results: what was run on what, and every policy that is finished, smallest gap first.

    Args:
        cells: all those of every policy that is finished.
    """
    groups, best = by_policy(cells), references(instances, cells)
    gaps = {policy: _gaps(own, instances, best) for policy, own in groups.items()}
    average = {policy: _averaged(gap, instances)["mean"] for policy, gap in gaps.items()}
    ranked = sorted(gaps, key=lambda policy: (np.nan_to_num(average[policy], nan=np.inf), policy))
    return {
        "versions": _versions(),
        "config": asdict(config),
        "bounds_date": BOUNDS_DATE,
        "interval": {"level": LEVEL, "over": "instances"},
        "sizes": sizes_of(instances),
        "instances": [_describe(instance, best[instance.name]) for instance in instances],
        "policies": [
            {"policy": policy}
            | _figures(gaps[policy], gaps[ranked[0]], instances)
            | {"makespan": _makespans(groups[policy])}
            for policy in ranked
        ],
    }


def _figures(gap: np.ndarray, best: np.ndarray, instances: Sequence[Instance]) -> dict[str, Any]:
    """Of one policy, from its gaps and those of the best policy, (instances, seeds)."""
    behind = gap.mean(axis=1) - best.mean(axis=1)
    return {
        "gap": _averaged(gap, instances),
        "gap_by_size": {size: _averaged(gap, instances, size) for size in sizes_of(instances)},
        "behind_best": _averaged(behind[:, None], instances),
        "at_best_known": _reached(gap),
    }


def timing(instances: Sequence[Instance], cells: Sequence[Cell]) -> dict[str, Any]:
    """What the wall clock says, by policy: seconds per instance and the gap over time, of all job
    shops and of each size."""
    best = references(instances, cells)
    return {
        "cores": os.cpu_count(),
        "policies": {
            policy: {
                "all": _times(own, best),
                "by_size": {
                    size: _times([c for c in own if c.instance.size == size], best)
                    for size in sizes_of(instances)
                },
            }
            for policy, own in by_policy(cells).items()
        },
    }


def _times(cells: Sequence[Cell], best: Mapping[str, float]) -> dict[str, Any]:
    seconds = float(np.mean([cell.seconds for cell in cells]))
    return {"seconds": seconds, "curve": gap_over_time(cells, best)}


def sizes_of(instances: Sequence[Instance]) -> list[str]:
    """Those of the instances, by jobs and machines."""
    return sorted({i.size for i in instances}, key=lambda size: [*map(int, size.split("x"))])


def by_policy(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each policy, in their order."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.policy, []).append(cell)
    return groups


def references(instances: Sequence[Instance], cells: Sequence[Cell]) -> dict[str, float]:
    """The makespan that gaps of each instance are to: the best known, or the best of this run."""
    found = _makespans(cells)
    return {i.name: i.known.upper if i.known else _least(found.get(i.name, [])) for i in instances}


def gap_to(best: float, makespan: np.ndarray) -> np.ndarray:
    """As shares; in units of time where nothing takes any."""
    return (makespan - best) / (best or 1)


def gap_over_time(cells: Sequence[Cell], best: Mapping[str, float]) -> dict[str, list[float]]:
    """Mean gap of the best schedules so far, from the moment at which all cells have one."""
    curves = [
        (cell.curve[:, 0], gap_to(best[cell.instance.name], cell.curve[:, 1])) for cell in cells
    ]
    if not all(len(seconds) for seconds, _ in curves):
        return {"seconds": [], "gap": []}
    first = max(max(seconds[0] for seconds, _ in curves), 1e-6)
    last = max(first, *(cell.seconds for cell in cells))
    # Rounding must not leave anybody without a schedule.
    moments = np.unique(np.geomspace(first, last, CURVE_POINTS).clip(first, last))
    so_far = [gap[np.searchsorted(s, moments, "right") - 1] for s, gap in curves]
    return {"seconds": moments.tolist(), "gap": np.mean(so_far, axis=0).tolist()}


def interval_of_mean(groups: Sequence[np.ndarray]) -> Estimate:
    """The mean of the means of the groups, each the same weight, and its interval.

    Student's t with the degrees of freedom of Welch (The generalization of Student's problem,
    Biometrika 34, 1947) and Satterthwaite; for one group it is the usual one. A group of one has no
    interval.
    """
    from scipy.stats import t

    mean = float(np.mean([group.mean() for group in groups]))
    if min(map(len, groups)) < 2 or not np.isfinite(mean):
        return {"mean": mean, "low": np.nan, "high": np.nan}
    share = np.array([group.var(ddof=1) / len(group) for group in groups]) / len(groups) ** 2
    if share.sum() == 0:
        return {"mean": mean, "low": mean, "high": mean}
    freedom = share.sum() ** 2 / sum(share**2 / [len(group) - 1 for group in groups])
    width = float(t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(share.sum()))
    return {"mean": mean, "low": mean - width, "high": mean + width}


def _averaged(gap: np.ndarray, instances: Sequence[Instance], only: str = "") -> Estimate:
    """Over instances within each size, then over sizes; or of one size only."""
    by_instance = gap.mean(axis=1)
    of_size = np.array([instance.size for instance in instances])
    sizes = [only] if only else sizes_of(instances)
    return interval_of_mean([by_instance[of_size == size] for size in sizes])


def _gaps(
    cells: Sequence[Cell], instances: Sequence[Instance], best: Mapping[str, float]
) -> np.ndarray:
    """float64 (instances, seeds), as a share; one column for what draws nothing."""
    found = _makespans(cells)
    return np.array([gap_to(best[i.name], np.array(found[i.name])) for i in instances])


def _makespans(cells: Sequence[Cell]) -> dict[str, list[float]]:
    """Instance -> the makespans of its cells, in their order."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        found.setdefault(cell.instance.name, []).append(cell.makespan)
    return found


def _reached(gap: np.ndarray) -> float:
    """Instances whose schedule is no longer than the reference, mean over the seeds."""
    return float((gap <= 0).mean(axis=1).sum())


def _least(makespans: Sequence[float]) -> float:
    finite = [makespan for makespan in makespans if np.isfinite(makespan)]
    return min(finite, default=float("nan"))


def _describe(instance: Instance, reference: float) -> dict[str, Any]:
    known = instance.known
    return {
        "name": instance.name,
        "size": instance.size,
        "jobs": instance.shop.jobs,
        "machines": instance.shop.machines,
        "operations": instance.shop.operations,
        "reference": reference,
        "published": known is not None,
        "lower": known.lower if known else instance.shop.lower_bound(),
    }


def _versions() -> dict[str, str]:
    packages = ("makespan", "numpy", "numba")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
