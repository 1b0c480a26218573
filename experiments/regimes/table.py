"""The comparison over regimes as text: on a screen, 120 columns, and as Markdown."""

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from makespan.experiments.regimes.summary import REFERENCE, Estimate
from makespan.experiments.summary_tables import WIDTH, number

COLUMNS = {
    "E2E mean s": ("e2e_mean_s", 1),
    "E2E p99 s": ("e2e_p99_s", 1),
    "TTFT mean s": ("ttft_mean_s", 1),
    "TTFT p99 s": ("ttft_p99_s", 1),
    "SLO goodput %": ("slo_goodput", 100),
    "rejected": ("rejected", 1),
}
"""Head of a column -> metric, and the factor to its unit."""

LEGEND = """\
Best rule: the baseline with the lowest mean end-to-end (E2E) latency; learned agents are no rules.
To best rule: mean E2E latency over that of the regime's best rule, averaged over the regimes.
Published: the same over the best rule that others published, with their constants or tuned ones.
Single: the same over {single}, the rule with the lowest geometric mean over the regimes.
Worst to {reference}: the largest ratio to {reference}, and its regime.
TTFT: time to the first token. SLO: TTFT within 1 s + 62.5 ms per 1,000 prompt tokens, and a mean
of 50 ms per later token."""

INTERVAL = (
    "[low-high]: {level:.0%} bootstrap interval over the seeds, which every policy shares{windows}."
)

SINGLE = "the best single rule"
"""What stands for its name where no rule was run."""

WINDOWS = " (of a trace, each takes a window, and windows overlap)"

Outcome = dict[str, Any]
"""See `makespan.experiments.regimes.outcome.collect`."""

Rows = list[list[str]]


def screen(outcome: Outcome) -> Group:
    """All of it for a console: what was run, the summary, the regimes, how to read them."""
    parts = [Text(introduction(outcome)), Text("\nOver all regimes", style="bold")]
    parts += map(Text, _aligned(_screen_summary(outcome["summary"])))
    groups = [_regime_rows(regime) for regime in outcome["regimes"]]
    lines = iter(_aligned([["policy", *COLUMNS], *(row for rows in groups for row in rows)]))
    heads = next(lines)
    for regime, rows in zip(outcome["regimes"], groups, strict=True):
        parts += [Text(f"\n{_title(outcome, regime)}", style="bold"), Text(heads)]
        parts += [Text(next(lines)) for _ in rows]
    return Group(*parts, Text("\n" + textwrap.fill(legend(outcome), WIDTH), style="dim"))


def markdown(outcome: Outcome) -> str:
    """The same as Markdown, one table for the summary and one for all regimes."""
    summary, regimes = outcome["summary"], outcome["regimes"]
    ratios = {row["policy"]: row["by_regime"] for row in summary["policies"]}
    rows = [
        [regime["regime"], *cells, span(ratios[cells[0]][regime["regime"]], ratio)]
        for regime in regimes
        for cells in _regime_rows(regime)
    ]
    heads = ["regime", "policy", *COLUMNS, "E2E to best rule"]
    what, *sources = introduction(outcome).splitlines()
    return "\n\n".join(
        [
            what,
            "\n".join(f"- {source.strip()}" for source in sources),
            _markdown_table(_markdown_summary(summary), left=1),
            _markdown_table([heads, *rows], left=2),
            f"{legend(outcome)}\n",
        ]
    )


def introduction(outcome: Outcome) -> str:
    """What was run: the regimes, then a line for every workload and fleet."""
    there, all_of_them = len(outcome["regimes"]), outcome["of_regimes"]
    count = f"{there}" if there == all_of_them else f"{there} of {all_of_them}"
    lines = [
        f"{count} regimes, workload x fleet x load (share of capacity): {outcome['model']}, "
        f"{outcome['requests']:,} requests, seeds {_numbers(outcome['seeds'])}"
    ]
    lines += [f"  {name}: {_source(found)}" for name, found in outcome["workloads"].items()]
    lines += [f"  {name}: {_counted(cards)}" for name, cards in outcome["fleets"].items()]
    return "\n".join(lines)


def legend(outcome: Outcome) -> str:
    """How the figures are defined, in one paragraph."""
    single = outcome["summary"]["best_single_rule"] or SINGLE
    parts = [LEGEND.format(single=single, reference=REFERENCE)]
    if len(outcome["seeds"]) > 1:
        files = [found["file"] for found in outcome["workloads"].values()]
        level = outcome["interval"]["level"]
        parts.insert(0, INTERVAL.format(level=level, windows=WINDOWS if any(files) else ""))
    return " ".join(" ".join(parts).split())


def span(estimate: Estimate, text: Callable[[float], str], scale: float = 1) -> str:
    """`12.3 [11.9-12.8]`, or the mean alone where the interval is nothing more."""
    mean, low, high = (scale * estimate[key] for key in ("mean", "low", "high"))
    if math.isnan(low) or low == high:
        return text(mean)
    return f"{text(mean)} [{text(low)}-{text(high)}]"


def short(value: float) -> str:
    """Three significant digits, without the zero before the point and commas: 120 columns."""
    text = number(value).replace(",", "")
    return text[1:] if text.startswith("0.") else text


def ratio(value: float) -> str:
    """Three digits after the point, fewer from 10."""
    return f"{value:.3f}" if value < 10 else number(value)


def _counted(cards: Sequence[str]) -> str:
    """`2 x A100, H100, L40S`."""
    return ", ".join(
        f"{count} x {name}" if count > 1 else name for name, count in Counter(cards).items()
    )


def _numbers(seeds: list[int]) -> str:
    """`0-9`, or the numbers one by one where some are left out."""
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _source(found: dict[str, Any]) -> str:
    if trace := found["stands_in_for"]:
        return f"{found['requests_from']} stands in for the trace (makespan traces fetch {trace})"
    return f"{found['what']}, {found['requests_from']}"


def _title(outcome: Outcome, regime: dict[str, Any]) -> str:
    best = outcome["summary"]["best_rules"].get(regime["regime"])
    found = outcome["workloads"][regime["workload"]]
    return (
        f"{regime['regime']}: {regime['requests_per_s']:.3g} requests/s"
        + (f", best rule {best}" if best else "")
        + (f" ({found['requests_from']} stands in)" if found["stands_in_for"] else "")
    )


def _regime_rows(regime: dict[str, Any]) -> Rows:
    """Policy, then a cell for each of `COLUMNS`; best policy first."""
    return [
        [row["policy"]]
        + [span(row["metrics"][name], short, scale) for name, scale in COLUMNS.values()]
        for row in regime["policies"]
    ]


def _screen_summary(summary: dict[str, Any]) -> Rows:
    """Heads in two lines, and the policies; two of the means without their intervals."""
    rows = [
        ["", "to best rule", "", "published", "single", "worst", ""],
        ["policy", "geo. mean", "arith.", "geo. mean", "geo.", f"to {REFERENCE}", "in"],
    ]
    for row in summary["policies"]:
        arithmetic = ratio(row["to_best_rule"]["arithmetic"]["mean"])
        best, published, _ = _geometric(row)
        to_single = ratio(row["to_best_single_rule"]["geometric"]["mean"])
        rows.append([row["policy"], best, arithmetic, published, to_single, *_worst(row)])
    return rows


def _markdown_summary(summary: dict[str, Any]) -> Rows:
    single = summary["best_single_rule"] or SINGLE
    means = [f"to {rule}" for rule in ("best rule", "best published rule", single)]
    rows = [["policy", *means, f"worst to {REFERENCE}", "in"]]
    return rows + [[row["policy"], *_geometric(row), *_worst(row)] for row in summary["policies"]]


def _geometric(row: dict[str, Any]) -> list[str]:
    """Geometric means over the regimes, to the best rule, the best published and a single one."""
    references = ("to_best_rule", "to_best_published_rule", "to_best_single_rule")
    return [span(row[name]["geometric"], ratio) for name in references]


def _worst(row: dict[str, Any]) -> list[str]:
    worst = row[f"worst_to_{REFERENCE}"]
    itself = row["policy"] == REFERENCE
    return [span(worst["ratio"], ratio), "-" if itself else worst["regime"] or "-"]


def _aligned(rows: Rows) -> list[str]:
    """Columns under each other, flush right but for the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _markdown_table(rows: Rows, left: int) -> str:
    """The first row holds the heads; the first `left` columns are set flush left."""
    heads, *others = rows
    rule = ["---" if column < left else "---:" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *others))
