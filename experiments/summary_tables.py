"""The tables a run prints: latency and service of every policy, 120 columns at most."""

import math
from collections import Counter
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from makespan.experiments.run_config import replica_hardware

WIDTH = 120
"""Columns of a table that does not go to a terminal."""

LATENCY_TITLE = """
Latency: end to end (E2E) and to the first token (TTFT) in s, per later token (TPOT) in ms"""
SERVICE_TITLE = """
Service"""

Estimate = dict[str, float]


def console(file: Any) -> Console:
    """A console that keeps the tables whole in a narrow terminal, or when output is redirected."""
    screen = Console(file=file, highlight=False)
    if screen.width < WIDTH or not screen.is_terminal:
        screen.width = WIDTH
    return screen


def summary(results: dict[str, Any], timing: dict[str, Any]) -> Group:
    """What was run, the latency table, the service table, and how to read them."""
    policies = results["policies"]
    return Group(
        Text(headline(results)),
        Text(LATENCY_TITLE, style="bold"),
        _latency_table(policies),
        Text(SERVICE_TITLE, style="bold"),
        _service_table(policies, timing),
        Text(legend(results), style="dim"),
    )


def headline(results: dict[str, Any]) -> str:
    """One line: the workload, its load, the fleet."""
    workload, config = results["workload"], results["config"]
    known = not math.isnan(workload["load"])
    share = f" ({workload['load']:.0%} of capacity)" if known else ""
    return (
        f"{workload['name']}: {workload['requests']:,} requests, "
        f"{workload['requests_per_s']:.3g} requests/s{share}, "
        f"on {fleet_in_words(config)}, {', '.join(results['models'])}"
    )


def fleet_in_words(config: dict[str, Any]) -> str:
    """Such as `2 x A100 + 1 x H100`."""
    counts = Counter(replica_hardware(config["hardware"], config["replicas"]))
    return " + ".join(f"{count} x {name}" for name, count in counts.items())


def legend(results: dict[str, Any]) -> str:
    """How the figures are defined."""
    interval = results["interval"]
    return (
        f"[low, high]: {interval['level']:.0%} bootstrap interval over {interval['over']}. "
        "SLO: TTFT within 1 s + 62.5 ms per 1,000 prompt tokens, TPOT within 50 ms. "
        "Behind best: mean end-to-end latency over the best policy's on the same workloads. "
        "Imbalance: coefficient of variation of the tokens served by each replica."
    )


def _latency_table(policies: list[dict[str, Any]]) -> Table:
    quantiles = ("mean", "p50", "p95", "p99")
    heads = [f"{name}\n{q}" for name in ("E2E", "TTFT", "TPOT") for q in quantiles]
    table = _table(*heads)
    for policy in policies:
        metrics = policy["metrics"]
        row = [interval(metrics["e2e_mean_s"])]
        row += [number(metrics[f"e2e_{q}_s"]["mean"]) for q in quantiles[1:]]
        row += [number(metrics[f"ttft_{q}_s"]["mean"]) for q in quantiles]
        row += [number(1000 * metrics[f"tpot_{q}_s"]["mean"]) for q in quantiles]
        table.add_row(policy["policy"], *row)
    return table


def _service_table(policies: list[dict[str, Any]], timing: dict[str, Any]) -> Table:
    heads = ("behind\nbest %", "SLO\ngoodput %", "prefix\nhits %", "preemp-\ntions", "rejec-\nted")
    heads += ("failed", "imba-\nlance", "output\ntokens/s", "decision\nus")
    table = _table(*heads)
    for policy in policies:
        metrics = policy["metrics"]
        plain = ("preemptions", "rejected", "failed", "load_imbalance", "tokens_per_s")
        table.add_row(
            policy["policy"],
            interval(policy["behind_best"], scale=100),
            interval(metrics["slo_goodput"], scale=100),
            number(100 * metrics["prefix_hit_rate"]["mean"]),
            *(number(metrics[name]["mean"]) for name in plain),
            number(timing[policy["policy"]]["decision_us"]),
        )
    return table


def interval(estimate: Estimate, scale: float = 1) -> str:
    """`12.3 [11.9, 12.8]`, or the mean alone where there is no interval."""
    mean, low, high = (scale * estimate[key] for key in ("mean", "low", "high"))
    if math.isnan(low):
        return number(mean)
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def number(value: float) -> str:
    """Three significant digits without an exponent; whole numbers from 1,000."""
    if math.isnan(value):
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 3)}f}"


def _table(*heads: str) -> Table:
    """An empty table whose heads, of one or two lines, stand over the last line of their column."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("\npolicy", no_wrap=True)
    for head in heads:
        lines = head if "\n" in head else f"\n{head}"
        table.add_column(lines, justify="right", no_wrap=True)
    return table
