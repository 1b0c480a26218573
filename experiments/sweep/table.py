"""The results of a grid as one table, 120 columns at most."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from makespan.experiments.regimes.table import short, span
from makespan.experiments.summary_tables import fleet_in_words, interval

COLUMNS = {
    "E2E mean s": ("e2e_mean_s", 1),
    "E2E p99 s": ("e2e_p99_s", 1),
    "TTFT mean s": ("ttft_mean_s", 1),
    "SLO goodput %": ("slo_goodput", 100),
}
"""Head of a column -> metric, and the factor to its unit."""

LABEL, BEHIND, FIGURE = 30, 20, 16
"""Columns of a policy's name before it is broken, and of figures with their intervals."""

LEGEND = """\
Behind best: mean end-to-end (E2E) latency over the best policy's, on the same workloads seed by
seed. TTFT: time to the first token. SLO: TTFT within 1 s + 62.5 ms per 1,000 prompt tokens, and a
mean of 50 ms per later token."""


def screen(outcome: dict[str, Any]) -> Group:
    """The fleet, the policies by trace and load, and how to read them.

    Args:
        outcome: see `makespan.experiments.sweep.evaluation.collect`.
    """
    config, workloads = outcome["config"], outcome["workloads"]
    seeds = ", ".join(map(str, config["seeds"]))
    parts = [Text(f"{fleet_in_words(config)}, seeds {seeds}")]
    for workload in workloads:
        parts += [Text(f"\n{workload['trace']}, load {workload['load']}", style="bold")]
        parts += [_table(workload["policies"], _label_width(workloads))]
    return Group(*parts, Text(f"\n{_legend(workloads)}", style="dim"))


def _label_width(workloads: list[dict[str, Any]]) -> int:
    labels = [row["policy"] for workload in workloads for row in workload["policies"]]
    return min(LABEL, max(map(len, labels), default=0))


def _table(policies: list[dict[str, Any]], label: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("policy", width=label)
    table.add_column("behind best %", justify="right", no_wrap=True, min_width=BEHIND)
    for head in COLUMNS:
        table.add_column(head, justify="right", no_wrap=True, min_width=FIGURE)
    for policy in policies:
        table.add_row(*_row(policy))
    return table


def _row(policy: dict[str, Any]) -> list[str]:
    figures = policy["metrics"]
    return [
        policy["policy"],
        interval(policy["behind_best"], scale=100),
        *(span(figures[name], short, scale) for name, scale in COLUMNS.values()),
    ]


def _legend(workloads: list[dict[str, Any]]) -> str:
    intervals = [found["interval"] for found in workloads if found["interval"]]
    if not intervals:
        return LEGEND
    over = " or ".join(dict.fromkeys(found["over"] for found in intervals))
    return f"In brackets: {intervals[0]['level']:.0%} bootstrap interval over {over}.\n{LEGEND}"


def trials_screen(trials: list[dict[str, Any]]) -> Table:
    """The trials of a tuning."""
    names = list(trials[0]["settings"])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in (*names, "steps", "best tuning score"):
        table.add_column(head, justify="right")
    for row in trials:
        settings = (_setting(row["settings"][name]) for name in names)
        table.add_row(*settings, f"{row['steps']:,}", f"{row['best']:.4f}")
    return table


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
