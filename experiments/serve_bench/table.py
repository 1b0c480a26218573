"""What the rounds come to, median [lowest, highest], and the tables that show it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from makespan.experiments.serve_bench.measure import difference
from makespan.experiments.summary_tables import number

LATENCIES = {
    "answer": "whole answer",
    "first_chunk": "first chunk",
    "chunk": "each chunk",
}
"""Latency -> head of its columns."""

CARRIED = {"request": "Whole answers", "chunk": "Streamed chunks"}
"""What is carried at saturation -> what a table calls it."""

RATES = tuple(f"{what}s_per_s" for what in CARRIED)
CPU = tuple(f"cpu_us_per_{what}" for what in CARRIED)

SHARED = """\
Servers, client and router share the {cpus} processors of this machine. At the low rate these are \
mostly idle. At saturation a router has what the other two leave to it: the rates of the faster \
routers are lower bounds, while the CPU figures are not."""
CPU_TIME = """\
CPU: user and system time of the router's processes, with {cpu_at} requests or streams under way. \
That of a chunk has its share of the whole request, which has {chunks} chunks."""
NOTES = {
    "sglang-router": """\
sglang-router leaves Nagle's algorithm on: chunks of streamed answers, the first above all, wait \
for an ACK that the client, like any on Linux, delays by some 40 ms. The others set TCP_NODELAY."""
}
"""Name of a router -> what explains its figures."""

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
    found = {key: estimate([each[key] for each in own]) for key in (*latencies, *RATES, *CPU)}
    if compare:
        pairs = list(zip(own, direct, strict=False))
        found |= {f"added_{key}": _of_pairs(pairs, key, difference) for key in latencies}
        found |= {f"share_{key}": _of_pairs(pairs, key, _ratio) for key in RATES}
    # Rounds after the first measure memory at the start only.
    for mark, _ in own[0]["memory_mb"]:
        marked = [mb for each in own for asked, mb in each["memory_mb"] if asked == mark]
        found[f"memory_mb_after_{mark}"] = estimate(marked)
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
        **{
            f"{title} at saturation, and the CPU time of the router": _rate_table(outcome, what)
            for what, title in CARRIED.items()
        },
        "Memory of the router's processes in MiB, and requests that failed": _memory_table(outcome),
    }
    parts: list[Any] = []
    for title, table in tables.items():
        parts += [Text(f"\n{title}", style="bold"), table]
    parts += [Text(f"left out: {name}: {why}") for name, why in outcome["left_out"].items()]
    return Group(*parts, Text(legend(outcome), style="dim"))


def legend(outcome: Mapping[str, Any]) -> str:
    """How the figures are to be read."""
    systems, sizes = outcome["systems"], outcome["sizes"]
    rounds = len(systems["direct"]["rounds"])
    versions = {
        f"{name.split()[0]} {system['version']}"
        for name, system in systems.items()
        if system["version"]
    }
    lines = [
        f"\nMedian [lowest, highest] of the rounds, {rounds} of the direct connection; "
        "memory after requests is that of the first.",
        SHARED.format(cpus=outcome["cpus"]),
        CPU_TIME.format(**sizes),
        busy_client(systems),
        *(note for name, note in NOTES.items() if any(each.startswith(name) for each in systems)),
        ", ".join(sorted(versions)),
    ]
    return "\n".join(filter(None, lines))


def busy_client(systems: Mapping[str, Any]) -> str:
    """Whether the client is what bounds the rates."""
    busy = {name: max(r["client_busy"] for r in found["rounds"]) for name, found in systems.items()}
    direct = busy.pop("direct")
    routed = f", in front of a router {max(busy.values()):.0%}" if busy else ""
    return f"At saturation the client takes up to {direct:.0%} of a core without a router{routed}."


def _latency_table(outcome: Mapping[str, Any], *latencies: str) -> Any:
    keys = [(what, q) for what in latencies for q in ("p50", "p99")]
    table = _table(*(f"{LATENCIES[what]}\n{q}" for what, q in keys))
    for name, found in outcome["summaries"].items():
        added = "" if name == "direct" else "added_"
        table.add_row(name, *(_text(found[f"{added}{what}_{q}_ms"]) for what, q in keys))
    return table


def _rate_table(outcome: Mapping[str, Any], what: str) -> Any:
    table = _table(f"\n{what}s/s", "% of\ndirect", f"CPU\nus/{what}")
    for name, found in outcome["summaries"].items():
        rate, share = found[f"{what}s_per_s"], found.get(f"share_{what}s_per_s")
        table.add_row(name, _text(rate), _text(share, percent), _text(found[f"cpu_us_per_{what}"]))
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
