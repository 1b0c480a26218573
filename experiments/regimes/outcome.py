"""Results of the comparison over regimes, as one plain dict (`results.json`)."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from makespan.experiments import metrics
from makespan.experiments.regimes.cells import Cell, Key, Metrics
from makespan.experiments.regimes.regime import FLEETS, MODEL, Regime
from makespan.experiments.regimes.suite import Suite
from makespan.experiments.regimes.summary import Estimate, summarise
from makespan.experiments.regimes.traffic import Traffic
from makespan.experiments.results import DECIDING

PACKAGES = ("makespan", "numpy", "numba", "simpy")

BySeed = dict[int, Metrics]
"""What one policy did in one regime at every seed."""


def collect(suite: Suite, measured: Mapping[Key, Metrics]) -> dict[str, Any]:
    """The results: what was run on what, the summary over regimes, and every regime.

    A regime of which some cells are missing (an interrupted run) is left out.
    """
    whole = [
        regime
        for regime in suite.regimes
        if all(cell.key in measured for cell in suite.cells(regime))
    ]
    figures = {regime: by_policy(suite.cells(regime), measured) for regime in whole}
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "config": asdict(suite.config),
        "seeds": suite.config.seed_list,
        "requests": suite.requests,
        "model": MODEL,
        "of_regimes": len(suite.regimes),
        "fleets": {name: FLEETS[name] for name in suite.fleets},
        "workloads": {name: _workload(found) for name, found in suite.traffic.items()},
        "interval": {"level": metrics.LEVEL, "over": "seeds", "resamples": metrics.RESAMPLES},
        "summary": _summary(suite.policies, figures) if whole else None,
        "regimes": [_regime(suite, regime, figures[regime]) for regime in whole],
    }


def by_policy(cells: Sequence[Cell], measured: Mapping[Key, Metrics]) -> dict[str, BySeed]:
    """The metrics of the cells of one regime, by policy and seed."""
    groups: dict[str, BySeed] = {}
    for cell in cells:
        groups.setdefault(cell.policy, {})[cell.seed] = measured[cell.key]
    return groups


def _workload(found: Traffic) -> dict[str, Any]:
    return {
        "what": found.kind.words,
        "requests_from": found.origin,
        "file": found.file.name if found.file else None,
        "stands_in_for": found.kind.public if found.stands_in else None,
    }


def _summary(
    policies: Sequence[str], figures: Mapping[Regime, Mapping[str, BySeed]]
) -> dict[str, Any]:
    latency_s = [
        [[values[DECIDING] for values in regime[policy].values()] for regime in figures.values()]
        for policy in policies
    ]
    return summarise(policies, [regime.name for regime in figures], np.array(latency_s))


def _regime(suite: Suite, regime: Regime, figures: Mapping[str, BySeed]) -> dict[str, Any]:
    """One regime, its policies best first."""
    policies = [_policy(policy, by_seed) for policy, by_seed in figures.items()]
    return {
        "regime": regime.name,
        **asdict(regime),
        "capacity_requests_per_s": suite.capacity[regime.workload, regime.fleet],
        "requests_per_s": suite.rate(regime),
        "policies": sorted(policies, key=_latency),
    }


def _policy(policy: str, by_seed: BySeed) -> dict[str, Any]:
    names = next(iter(by_seed.values()))
    return {
        "policy": policy,
        "metrics": {name: _estimate([m[name] for m in by_seed.values()]) for name in names},
        "by_seed": by_seed,
    }


def _estimate(values: Sequence[float]) -> Estimate:
    """Mean over the seeds that have a value, and its interval where there are several seeds."""
    known = np.array([value for value in values if np.isfinite(value)])
    low, high = metrics.over_seeds(known) if len(values) > 1 else (np.nan, np.nan)
    return {"mean": float(known.mean()) if len(known) else np.nan, "low": low, "high": high}


def _latency(policy: Mapping[str, Any]) -> float:
    mean = policy["metrics"][DECIDING]["mean"]
    return mean if np.isfinite(mean) else np.inf
