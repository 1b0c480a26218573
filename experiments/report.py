"""`report.html`: one file that opens offline, with the plots that people look at.

The page is `report_page.html`; this module makes its data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from makespan.experiments import report_page, summary_tables
from makespan.experiments.configuration import to_toml
from makespan.experiments.results import CellSummary, by_policy
from makespan.experiments.run_config import RunConfig, replica_hardware

PAGE = Path(__file__).with_name("report_page.html")

BEST_SHOWN = 4
"""How many of the best policies the distributions show at first."""

LANDMARKS = ("round_robin", "least_requests", "random")
"""Policies that everybody knows, shown at first beside the best."""


def render(
    config: RunConfig,
    results: dict[str, Any],
    timing: dict[str, Any],
    summaries: Sequence[CellSummary],
) -> str:
    """The page as text.

    Args:
        config: of the run.
        results: `makespan.experiments.results.collect`; at least one policy.
        timing: `makespan.experiments.results.timing`.
        summaries: the cells of the policies in `results`.
    """
    title = f"Router policies on {results['workload']['name']}"
    return report_page.fill(PAGE, title, _data(config, results, timing, summaries))


def _data(
    config: RunConfig,
    results: dict[str, Any],
    timing: dict[str, Any],
    summaries: Sequence[CellSummary],
) -> dict[str, Any]:
    cells = by_policy(summaries)
    ranked = [policy["policy"] for policy in results["policies"]]
    return {
        "headline": summary_tables.headline(results),
        "verdict": verdict(results),
        "legend": summary_tables.legend(results) + " Click a column to sort by it.",
        "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "config": to_toml(config),
        "hardware": replica_hardware(config.hardware, config.replicas),
        "tables": [LATENCY_COLUMNS, SERVICE_COLUMNS],
        "policies": [_row(policy, timing) for policy in results["policies"]],
        "shown": shown_first(ranked),
        "latencies": {policy: _latencies(cells[policy]) for policy in ranked},
        "timelines": {policy: _timeline(cells[policy][0]) for policy in ranked},
    }


def verdict(results: dict[str, Any]) -> str:
    """One sentence: the best policy, and those that this run cannot tell from it."""
    best, *others = results["policies"]
    mean = summary_tables.interval(best["metrics"]["e2e_mean_s"])
    sentence = f"{best['policy']} has the lowest mean end-to-end latency: {mean} s."
    if len(results["seeds"]) == 1 or not others:
        return sentence
    close = [other["policy"] for other in others if other["behind_best"]["low"] <= 0]
    if not close:
        return f"{sentence} On the same workloads every other policy is slower beyond chance."
    return f"{sentence} This run cannot tell it from {', '.join(close)}."


def shown_first(ranked: Sequence[str]) -> list[str]:
    """The policies a reader sees before choosing: the best, the well known, the last."""
    wanted = {*ranked[:BEST_SHOWN], *LANDMARKS, *ranked[-1:]}
    return [policy for policy in ranked if policy in wanted]


def _column(metric: str, label: str, scale: float = 1, interval: bool = False) -> dict[str, Any]:
    return {"metric": metric, "label": label, "scale": scale, "interval": interval}


def _latency_columns(kind: str, scale: float) -> list[dict[str, Any]]:
    quantiles = [_column(f"{kind}_{q}_s", q, scale) for q in ("p50", "p95", "p99")]
    return [_column(f"{kind}_mean_s", "mean", scale, interval=True), *quantiles]


LATENCY_COLUMNS = [
    {"name": "end-to-end [s]", "columns": _latency_columns("e2e", 1)},
    {"name": "TTFT [s]", "columns": _latency_columns("ttft", 1)},
    {"name": "TPOT [ms]", "columns": _latency_columns("tpot", 1000)},
]
"""Groups of columns of the first table: metric, label, factor, and whether its interval shows."""

SERVICE_COLUMNS = [
    {
        "name": "service",
        "columns": [
            _column("behind_best", "behind best [%]", 100, interval=True),
            _column("slo_goodput", "SLO goodput [%]", 100, interval=True),
            _column("prefix_hit_rate", "prefix hits [%]", 100, interval=True),
            _column("tokens_per_s", "output tokens/s", interval=True),
            _column("load_imbalance", "imbalance"),
            _column("preemptions", "preemptions"),
            _column("rejected", "rejected"),
            _column("failed", "failed"),
            _column("decision_us", "decision [us]"),
        ],
    },
]
"""The same of the second table."""


def _row(policy: dict[str, Any], timing: dict[str, Any]) -> dict[str, Any]:
    """The policy's metrics, with the two that are kept elsewhere."""
    microseconds = timing[policy["policy"]]["decision_us"]
    extra = {
        "behind_best": policy["behind_best"],
        "decision_us": {"mean": microseconds, "low": np.nan, "high": np.nan},
    }
    return {"policy": policy["policy"], "metrics": policy["metrics"] | extra}


def _latencies(cells: Sequence[CellSummary]) -> dict[str, list[float]]:
    """Quantiles of each latency at equal steps, averaged over the seeds that have any."""
    averaged = {}
    for name in cells[0].latencies:
        curves = [cell.latencies[name] for cell in cells if len(cell.latencies[name])]
        averaged[name] = _short(np.mean(curves, axis=0)) if curves else []
    return averaged


def _timeline(cell: CellSummary) -> dict[str, list[Any]]:
    gauges = ("running", "waiting", "kv_usage")
    series = {name: [_short(column) for column in cell.timeline[name].T] for name in gauges}
    return {"time": _short(cell.timeline["time"]), **series}


def _short(values: np.ndarray) -> list[float]:
    """Four significant digits, which is what a screen shows."""
    return [float(f"{value:.4g}") for value in values]
