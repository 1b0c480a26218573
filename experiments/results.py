"""Results of a run: metrics of every policy, with intervals, as one plain dict (`results.json`)."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from makespan.envs.llm.replica import served_model
from makespan.experiments import metrics
from makespan.experiments.replay import Cell
from makespan.experiments.scenario import Scenario
from makespan.traces.workload import Workload

CDF_POINTS = 200
"""Points of a latency distribution that a report draws."""

TIMELINE_VALUES = 4800
"""Points of a timeline that a report keeps, over all replicas of one policy."""

DECIDING = "e2e_mean_s"
"""The metric by which policies are ranked, lowest first."""


@dataclass(frozen=True)
class CellSummary:
    """What is kept of a cell once its log is on disk.

    Attributes:
        policy, seed: of the cell.
        metrics: name -> value (`makespan.experiments.metrics.summarise`).
        blocks: name -> interval within this one log; empty unless it is the only seed.
        latencies: name -> float64 (`CDF_POINTS`,), quantiles at equal steps from 0 to 1.
        timeline: `time` (T,) and the gauges (T, N), thinned.
        decisions, decision_s, wall_s: see `Cell`.
    """

    policy: str
    seed: int
    metrics: dict[str, float]
    blocks: dict[str, tuple[float, float]]
    latencies: dict[str, np.ndarray]
    timeline: dict[str, np.ndarray]
    decisions: int
    decision_s: float
    wall_s: float


def summarise(cell: Cell, only_seed: bool) -> CellSummary:
    """Reduce a cell to what the table and the report need."""
    return CellSummary(
        policy=cell.policy,
        seed=cell.seed,
        metrics=metrics.summarise(cell.log, cell.replicas),
        blocks=metrics.over_blocks(cell.log, cell.replicas) if only_seed else {},
        latencies={name: _quantiles(f(cell.log)) for name, f in metrics.LATENCIES.items()},
        timeline=_thinned(cell.timeline, TIMELINE_VALUES // cell.replicas),
        decisions=cell.decisions,
        decision_s=cell.decision_s,
        wall_s=cell.wall_s,
    )


def collect(scenario: Scenario, summaries: Sequence[CellSummary]) -> dict[str, Any]:
    """The results: what was run on what, and every finished policy, best first.

    A policy of which some seeds are missing (an interrupted run) is left out.
    """
    seeds = scenario.config.seed_list
    finished = {
        policy: cells for policy, cells in by_policy(summaries).items() if len(cells) == len(seeds)
    }
    ranked = sorted(finished, key=lambda policy: (_deciding(finished[policy]), policy))
    best = finished[ranked[0]] if ranked else []
    return {
        "versions": _versions(),
        "config": asdict(scenario.config),
        "seeds": seeds,
        "models": sorted({served_model(replica) for replica in scenario.fleet.replicas}),
        "workload": _describe(scenario, scenario.workloads[seeds[0]]),
        "interval": {
            "level": metrics.LEVEL,
            "over": _resampled(scenario),
            "resamples": metrics.RESAMPLES if len(seeds) > 1 else metrics.BLOCK_RESAMPLES,
        },
        "policies": [_policy(policy, finished[policy], best) for policy in ranked],
    }


def timing(summaries: Sequence[CellSummary]) -> dict[str, Any]:
    """Wall-clock figures by policy: microseconds per decision, requests replayed per second."""
    return {
        policy: {
            "decision_us": 1e6 * _total(cells, "decision_s") / max(1, _total(cells, "decisions")),
            "wall_s": _total(cells, "wall_s"),
            "decisions_per_s": _total(cells, "decisions") / max(1e-9, _total(cells, "wall_s")),
        }
        for policy, cells in by_policy(summaries).items()
    }


def by_policy(summaries: Sequence[CellSummary]) -> dict[str, list[CellSummary]]:
    """The cells of each policy, in their order."""
    groups: dict[str, list[CellSummary]] = {}
    for summary in summaries:
        groups.setdefault(summary.policy, []).append(summary)
    return groups


def _policy(policy: str, cells: list[CellSummary], best: list[CellSummary]) -> dict[str, Any]:
    return {
        "policy": policy,
        "metrics": {name: _estimate(name, cells) for name in cells[0].metrics},
        "behind_best": _behind(cells, best),
        "by_seed": {str(cell.seed): cell.metrics for cell in cells},
    }


def _estimate(name: str, cells: list[CellSummary]) -> dict[str, float]:
    """Mean over the seeds of one metric, and its interval."""
    values = np.array([cell.metrics[name] for cell in cells])
    low, high = cells[0].blocks[name] if len(cells) == 1 else metrics.over_seeds(values)
    return {"mean": _mean(values), "low": low, "high": high}


def _behind(cells: list[CellSummary], best: list[CellSummary]) -> dict[str, float]:
    """How much longer mean E2E latency is than the best policy's, as a fraction of the latter.

    Both saw the same workloads, so the comparison is within each seed and its interval is narrower
    than those of the two latencies. One seed gives no interval.
    """
    own, other = (np.array([cell.metrics[DECIDING] for cell in group]) for group in (cells, best))
    excess = own / other - 1
    low, high = metrics.over_seeds(excess) if len(excess) > 1 else (np.nan, np.nan)
    return {"mean": _mean(excess), "low": low, "high": high}


def _deciding(cells: list[CellSummary]) -> float:
    value = _mean(np.array([cell.metrics[DECIDING] for cell in cells]))
    return value if np.isfinite(value) else np.inf


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


def _total(cells: list[CellSummary], name: str) -> float:
    return sum(getattr(cell, name) for cell in cells)


def _describe(scenario: Scenario, workload: Workload) -> dict[str, Any]:
    """The workload of the first seed, and the share of the fleet's capacity that it asks for."""
    return {
        "name": workload.name,
        "requests": len(workload),
        "duration_s": workload.duration_s,
        "requests_per_s": workload.rate,
        "prompt_tokens_mean": float(workload.prompt_tokens.mean()),
        "output_tokens_mean": float(workload.output_tokens.mean()),
        "capacity_requests_per_s": scenario.capacity,
        "load": workload.rate / scenario.capacity,
    }


def _resampled(scenario: Scenario) -> str:
    """What the intervals resample, in words."""
    seeds = len(scenario.config.seed_list)
    if seeds == 1:
        return "blocks of requests of one seed"
    if scenario.source is not None:
        return f"{seeds} seeds of noise and draws on the same requests"
    return f"{seeds} seeds"


def _versions() -> dict[str, str]:
    packages = ("makespan", "numpy", "numba", "simpy", "pyarrow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _quantiles(values: np.ndarray) -> np.ndarray:
    values = values[np.isfinite(values)]
    return np.quantile(values, np.linspace(0, 1, CDF_POINTS)) if len(values) else values


def _thinned(timeline: dict[str, np.ndarray], points: int) -> dict[str, np.ndarray]:
    count = len(timeline["time"])
    rows = np.unique(np.linspace(0, count - 1, min(count, max(points, 60))).astype(np.int64))
    return {name: values[rows] for name, values in timeline.items()}
