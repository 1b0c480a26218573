"""`makespan traces list|fetch|describe`: public traces and what is in any trace."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from makespan.experiments.watching import warnings_in_a_line
from makespan.traces import TraceWarning
from makespan.traces.catalogue import CATALOGUE, FetchError, cache_folder, load, source
from makespan.traces.catalogue import fetch as fetch_source
from makespan.traces.statistics import Lengths, Statistics
from makespan.traces.statistics import describe as statistics_of
from makespan.traces.synthetic import SYNTHETIC


def list_() -> None:
    """List the public traces and the named synthetic workloads."""
    public = Table(title="Public traces (makespan traces fetch NAME)")
    public.add_column("name", no_wrap=True)
    for column in ("licence", "SHA-256", "here", "what"):
        public.add_column(column)
    for name, entry in CATALOGUE.items():
        here = "yes" if (cache_folder() / entry.filename).exists() else "no"
        digest = "known" if entry.sha256 else "unknown"
        public.add_row(name, entry.licence, digest, here, entry.note)
    made = Table(title="Synthetic workloads")
    made.add_column("name", no_wrap=True)
    made.add_column("what")
    for name, config in SYNTHETIC.items():
        made.add_row(name, (config.__doc__ or "").split("\n")[0])
    Console().print(public, made)


def fetch(
    names: Annotated[list[str], tyro.conf.Positional],
    *,
    to: Path | None = None,
    unverified: bool = False,
) -> None:
    """Download public traces from their publishers and check them.

    Args:
        names: names from `makespan traces list`.
        to: folder to keep them in; by default the user's cache folder, where --trace NAME looks.
        unverified: accept a file whose SHA-256 the catalogue does not know; prints what it is.
    """
    # All names are looked up before anything is downloaded.
    for entry in [source(name) for name in names]:
        file, digest = fetch_source(entry, to, unverified=unverified, progress=True)
        checked = "as expected" if entry.sha256 else "not checked: the catalogue has none"
        print(f"{file}\n  SHA-256 {digest} ({checked})\n  licence {entry.licence}")


def describe(
    traces: Annotated[list[str], tyro.conf.Positional],
    *,
    requests: int = 2000,
    rate: float = 0.0,
    seed: int = 0,
) -> None:
    """Print the statistics of traces.

    Args:
        traces: files, names of fetched public traces, or names of synthetic workloads.
        requests: length of synthetic workloads.
        rate: requests per second of synthetic workloads and of traces without arrival times;
            0: the default of each.
        seed: of what is drawn.
    """
    table = Table()
    table.add_column("trace", no_wrap=True)
    rows = {}
    for name in traces:
        workload = load(name, requests=requests, rate=rate, seed=seed)
        table.add_column(workload.name, justify="right", overflow="fold")
        for row, value in _figures(statistics_of(workload)).items():
            rows.setdefault(row, []).append(value)
    for row, values in rows.items():
        table.add_row(row, *values)
    Console().print(table)


def _figures(statistics: Statistics) -> dict[str, str]:
    figures = {
        "requests": f"{statistics.requests:,}",
        "span, s": f"{statistics.span_s:,.1f}",
        "rate, 1/s": f"{statistics.rate:.3f}",
        "IAT CV": f"{statistics.iat_cv:.3f}",
    }
    for name, lengths in (("input", statistics.prompt), ("output", statistics.output)):
        figures |= _length_figures(name, lengths)
    figures["sessions"] = f"{statistics.sessions:,}"
    hit = statistics.prefix_hit
    figures["prefix hit, endless cache"] = f"{hit:.1%}" if hit == hit else "no hashes"
    return figures


def _length_figures(name: str, lengths: Lengths) -> dict[str, str]:
    return {
        f"{name} mean": f"{lengths.mean:.1f}",
        f"{name} p50": f"{lengths.p50:.0f}",
        f"{name} p95": f"{lengths.p95:.0f}",
        f"{name} p99": f"{lengths.p99:.0f}",
        f"{name} max": f"{lengths.max}",
    }


def main(argv: list[str]) -> int:
    """Run one subcommand; 0, or 1 after one line on stderr that says what is wrong."""
    commands = {"list": list_, "fetch": fetch, "describe": describe}
    with warnings_in_a_line(TraceWarning):
        try:
            tyro.extras.subcommand_cli_from_dict(commands, prog="makespan traces", args=argv)
        except (ValueError, FetchError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0
