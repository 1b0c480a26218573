"""What the rounds come to, median [lowest, highest], and the tables that show it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from makespan.experiments.summary_tables import number

LATENCIES = {
    "answer": "whole answer",
    "first_chunk": "first chunk",
    "chunk": "each chunk",
}
"""Latency -> head of its columns."""

RATES = {"requests_per_s": "requests/s", "chunks_per_s": "chunks/s"}

Rounds = Sequence[Mapping[str, Any]]
Estimate = dict[str, float]
"""`median`, `low`, `high` of the rounds."""


def summaries(rounds: Mapping[str, Rounds]) -> dict[str, dict[str, Estimate | None]]:
    """Every figure of every system, and how it compares with the direct connection's.

    The latencies of a router have beside them what it adds to a percentile of the direct
    connection in the same round; rates have the share of the direct connection's.
    """
    direct = rounds["direct"]
    return {name: summary(own, direct, name != "direct") for name, own in rounds.items()}


def summary(own: Rounds, direct: Rounds, compare: bool) -> dict[str, Estimate | None]:
    """The figures of one system; None for one that some round could not measure."""
    latencies = [f"{what}_{q}_ms" for what in LATENCIES for q in ("p50", "p99")]
    found = {key: estimate([each[key] for each in own]) for key in (*latencies, *RATES)}
    if compare:
        pairs = list(zip(own, direct, strict=False))
        found |= {f"added_{key}": _of_pairs(pairs, key, _difference) for key in latencies}
        found |= {f"share_{key}": _of_pairs(pairs, key, _ratio) for key in RATES}
    for index, (requests, _) in enumerate(own[0]["memory_mb"]):
        found[f"memory_mb_after_{requests}"] = estimate([r["memory_mb"][index][1] for r in own])
    return found


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """Median and range; None if a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"median": statistics.median(known), "low": min(known), "high": max(known)}


def screen(outcome: Mapping[str, Any]) -> Any:
    """Everything for a console."""
    from rich.console import Group
    from rich.text import Text

    rate = outcome["sizes"]["rate"]
    at_rate = f"ms, at {rate:g} requests/s: direct, and what a router adds to it"
    tables = {
        f"Latency of whole answers and to the first chunk, {at_rate}": _latency_table(
            outcome, "answer", "first_chunk"
        ),
        f"From server to client, {at_rate}": _latency_table(outcome, "chunk"),
        "At saturation, and the share of what the direct connection carries": _rate_table(outcome),
        "Memory of the router's processes in MiB, and requests that failed": _memory_table(outcome),
    }
    parts: list[Any] = []
    for title, table in tables.items():
        parts += [Text(f"\n{title}", style="bold"), table]
    parts += [Text(f"left out: {name}: {why}") for name, why in outcome["left_out"].items()]
    return Group(*parts, Text(legend(outcome), style="dim"))


def legend(outcome: Mapping[str, Any]) -> str:
    """How the figures are to be read."""
    rounds = len(outcome["systems"]["direct"]["rounds"])
    versions = {
        f"{name.split()[0]} {system['version']}"
        for name, system in outcome["systems"].items()
        if system["version"]
    }
    return (
        f"\nMedian [lowest, highest] of the rounds, {rounds} of the direct connection. Servers, "
        f"client and router share the {outcome['cpus']} processors of this machine. At the low "
        "rate these are mostly idle. At saturation a router has what the other two leave to it, "
        "and carries less than on processors of its own. " + ", ".join(sorted(versions))
    )


def _latency_table(outcome: Mapping[str, Any], *latencies: str) -> Any:
    keys = [(what, q) for what in latencies for q in ("p50", "p99")]
    table = _table(*(f"{LATENCIES[what]}\n{q}" for what, q in keys))
    for name, found in outcome["summaries"].items():
        added = "" if name == "direct" else "added_"
        table.add_row(name, *(_text(found[f"{added}{what}_{q}_ms"]) for what, q in keys))
    return table


def _rate_table(outcome: Mapping[str, Any]) -> Any:
    table = _table(*(head for name in RATES.values() for head in (f"\n{name}", "% of\ndirect")))
    for name, found in outcome["summaries"].items():
        cells = [
            text
            for rate in RATES
            for text in (_text(found[rate]), _text(found.get(f"share_{rate}"), percent))
        ]
        table.add_row(name, *cells)
    return table


def _memory_table(outcome: Mapping[str, Any]) -> Any:
    routers = {name: r["rounds"] for name, r in outcome["systems"].items() if name != "direct"}
    marks = [asked for rounds in routers.values() for asked, _ in rounds[0]["memory_mb"]]
    marks = sorted(set(marks))
    heads = [f"after\n{mark:,}" if mark else "\nat the start" for mark in marks]
    table = _table(*heads, "\nfailed")
    for name, result in outcome["systems"].items():
        found = outcome["summaries"][name]
        failed = sum(sum(each["errors"].values()) for each in result["rounds"])
        cells = [_text(found.get(f"memory_mb_after_{mark}")) for mark in marks]
        table.add_row(name, *cells, f"{failed:,}")
    return table


def _of_pairs(pairs: Sequence[Any], key: str, compare: Any) -> Estimate | None:
    return estimate([compare(own[key], direct[key]) for own, direct in pairs])


def _difference(own: float | None, direct: float | None) -> float | None:
    return None if own is None or direct is None else own - direct


def _ratio(own: float | None, direct: float | None) -> float | None:
    return own / direct if own is not None and direct else None


def percent(share: float) -> str:
    """Per cent with a decimal."""
    return f"{100 * share:.1f}"


def _text(found: Estimate | None, write: Callable[[float], str] = number) -> str:
    if found is None:
        return "-"
    median, low, high = (write(found[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} [{low}, {high}]"


def _table(*heads: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("\nrouter", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table
