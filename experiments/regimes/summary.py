"""How policies do over all regimes, by mean end-to-end latency.

A ratio is that of two means over the same seeds, so what makes a seed easy or hard cancels out. Its
interval resamples the seeds, the same ones for every policy and regime: regimes share the draws of
a seed. Which rule is the best is decided once, on all seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from makespan.baselines.llm import POLICIES
from makespan.experiments import metrics

REFERENCE = "lmetric"
"""The policy that the worst regime is told against."""

Estimate = dict[str, float]
"""`mean`, and the bounds `low` and `high` of its interval; nan where there is none."""


OWN = "lookahead"
"""What the names of this project's own rules begin with; the others were published."""


def is_rule(policy: str) -> bool:
    """Whether a label is that of a baseline, and not of an agent or of a policy of one's own."""
    return policy in POLICIES and not policy.startswith("agent")


def summarise(
    policies: Sequence[str], regimes: Sequence[str], latency_s: np.ndarray
) -> dict[str, Any]:
    """Every policy over all regimes, lowest latency first, and the rules they are held against.

    Args:
        policies: labels of P policies.
        regimes: names of R regimes.
        latency_s: float64 (P, R, S), mean end-to-end latency at every seed.

    Returns:
        `best_rules`: regime -> the rule with the lowest latency there; `best_published_rules`: the
        same without this project's own; `best_single_rule`: that with the lowest geometric mean
        over regimes, None without rules; `policies`: dicts.
    """
    means = resampled_means(latency_s)
    rules = [k for k, policy in enumerate(policies) if is_rule(policy)]
    best = lowest(means[:, :, 0], rules)
    published = lowest(means[:, :, 0], [k for k in rules if not policies[k].startswith(OWN)])
    single = lowest(_geometric(means[:, :, :1]), rules).repeat(len(regimes))
    reference = np.array([k for k, policy in enumerate(policies) if policy == REFERENCE])
    ratios = [
        relative(means, best),
        relative(means, published),
        relative(means, single),
        relative(means, reference.repeat(len(regimes))),
    ]
    order = np.argsort(_geometric(means[:, :, :1])[:, 0], kind="stable")
    return {
        "best_rules": {regime: policies[k] for regime, k in zip(regimes, best, strict=False)},
        "best_published_rules": {
            regime: policies[k] for regime, k in zip(regimes, published, strict=False)
        },
        "best_single_rule": policies[single[0]] if len(single) else None,
        "policies": [
            {"policy": policies[k]} | _row(regimes, *(ratio[k] for ratio in ratios)) for k in order
        ],
    }


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Means over the seeds (the last axis), then the same of resamples of them.

    float64 (..., 1 + resamples); of a single seed there are no resamples.
    """
    seeds = values.shape[-1]
    if seeds == 1:
        return values
    picks = np.random.default_rng(0).integers(seeds, size=(metrics.RESAMPLES, seeds))
    drawn = (picks[:, :, None] == np.arange(seeds)).sum(axis=1)
    return values @ np.vstack([np.ones(seeds), drawn]).T / seeds


def lowest(values: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """Of each column, the row (one of `rows`) with the lowest value; empty without rows."""
    if not rows:
        return np.zeros(0, np.int64)
    chosen = values[list(rows)]
    return np.asarray(rows)[np.where(np.isnan(chosen), np.inf, chosen).argmin(axis=0)]


def relative(means: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Means (P, R, B) over those of one policy in each regime, int (R,); nan if that is empty."""
    if not len(reference):
        return np.full_like(means, np.nan)
    return means / means[reference, np.arange(means.shape[1])]


def estimate(samples: np.ndarray) -> Estimate:
    """The first of the samples, and an interval from the others where there are any."""
    low = high = np.nan
    if len(samples) > 1:
        low, high = np.quantile(samples[1:], [(1 - metrics.LEVEL) / 2, (1 + metrics.LEVEL) / 2])
    return {"mean": float(samples[0]), "low": float(low), "high": float(high)}


def _row(
    regimes: Sequence[str],
    to_best: np.ndarray,
    to_published: np.ndarray,
    to_single: np.ndarray,
    to_reference: np.ndarray,
) -> dict[str, Any]:
    """The figures of one policy out of its ratios, (R, B) each."""
    return {
        "to_best_rule": _averages(to_best),
        "to_best_published_rule": _averages(to_published),
        "to_best_single_rule": _averages(to_single),
        f"worst_to_{REFERENCE}": _worst(regimes, to_reference),
        "by_regime": dict(zip(regimes, map(estimate, to_best), strict=True)),
    }


def _averages(ratios: np.ndarray) -> dict[str, Estimate]:
    return {
        "geometric": estimate(_geometric(ratios[None])[0]),
        "arithmetic": estimate(ratios.mean(axis=0)),
    }


def _worst(regimes: Sequence[str], ratios: np.ndarray) -> dict[str, Any]:
    """The regime with the largest ratio, and the ratio; None and nan where there are none."""
    if np.isnan(ratios[:, 0]).all():
        return {"regime": None, "ratio": estimate(np.array([np.nan]))}
    worst = int(np.nanargmax(ratios[:, 0]))
    return {"regime": regimes[worst], "ratio": estimate(ratios[worst])}


def _geometric(means: np.ndarray) -> np.ndarray:
    """Geometric mean over the regimes: (P, R, B) to (P, B)."""
    return np.exp(np.log(means).mean(axis=1))
