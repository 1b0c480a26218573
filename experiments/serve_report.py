"""What a log of the live router says about backends and policies: `makespan serve report LOG`."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

import tyro
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from makespan.agents.serve.record import read_log
from makespan.agents.serve.report import Backend, Distribution, Mean, Policy, Report, compare
from makespan.experiments.summary_tables import WIDTH, interval, number
from makespan.experiments.watching import warnings_in_a_line
from makespan.traces import TraceError, TraceWarning


@dataclass(frozen=True)
class ServeReportConfig:
    """Compare the backends and the policies in a log of `makespan serve`.

    Attributes:
        log: the file that was given to --log, plain or gzip.
        json: print the figures as JSON.
    """

    log: tyro.conf.Positional[Path]
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, or 2 for a file that cannot be read."""
    config = tyro.cli(ServeReportConfig, args=argv, prog="makespan serve report")
    with warnings_in_a_line(TraceWarning):
        try:
            report = compare(read_log(config.log))
        except TraceError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    if config.json:
        print(json.dumps(asdict(report), indent=2, allow_nan=False))
    else:
        _console().print(*tables(report), sep="\n")
    return 0


def _console() -> Console:
    """As wide as the terminal; `WIDTH` columns where there is none."""
    screen = Console(highlight=False, markup=False, emoji=False)
    if not screen.is_terminal:
        screen.width = max(screen.width, WIDTH)
    return screen


def tables(report: Report) -> Iterator[RenderableType]:
    """What the command prints: outcomes, backends, a pair of tables per policy, notes."""
    yield Text(headline(report))
    if report.backends:
        yield _title("Backends: time to the first token (TTFT) and end to end (E2E) in s")
        yield _backend_table(report.backends)
    for policy in report.policies:
        yield _title(f"Choices of {policy.name}" + (" and its shadows" if policy.shadows else ""))
        yield _choice_table(policy)
        if policy.shadows:
            yield _title(f"Requests as {policy.name} sent them, by what the shadow would have done")
            yield _group_table(policy)
    for note in report.notes:
        yield Text(f"\n{note}", style="dim")


def headline(report: Report) -> str:
    """One line: how many requests there are, and how they ended."""
    if not report.requests:
        return "The log holds no requests."
    ended = {name: f"{count:,} {name}" for name, count in report.outcomes.items() if count}
    if report.complaints:
        ended["finished"] += f" ({report.complaints:,} with a status other than 200)"
    busy = f"{number(report.busy_s)} s with a request in the router"
    return f"{report.requests:,} requests: {', '.join(ended.values())}; {busy}"


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _backend_table(backends: Sequence[Backend]) -> Table:
    heads = [f"{name}\n{figure}" for name in ("TTFT", "E2E") for figure in ("mean", "p50", "p99")]
    table = _table("\nbackend", "\nrequests", "ans-\nwered", *heads, "output\ntokens/s")
    for backend in backends:
        table.add_row(
            _short(backend.url),
            f"{backend.requests:,}",
            f"{backend.answered:,}",
            *_figures(backend.ttft),
            *_figures(backend.e2e),
            _number(backend.output_tokens_per_s),
        )
    return table


def _choice_table(policy: Policy) -> Table:
    """A column for the policy and for each shadow, the backends below."""
    names = [f"policy\n{policy.name}", *(f"shadow\n{shadow.name}" for shadow in policy.shadows)]
    table = _table("\n", *names)
    for row, cells in _choice_rows(policy).items():
        table.add_row(row, *cells)
    return table


def _choice_rows(policy: Policy) -> dict[str, list[str]]:
    choosers = [policy.choices, *(shadow.choices for shadow in policy.shadows)]
    rows = {"asked, requests": [f"{chooser.requests:,}" for chooser in choosers]}
    if policy.shadows:
        same = [_percent(shadow.agreement) for shadow in policy.shadows]
        rows["same as policy, %"] = ["", *same]
    for name in sorted({name for chooser in choosers for name in chooser.chosen}):
        shares = [
            chooser.chosen.get(name, 0) / chooser.requests if chooser.requests else None
            for chooser in choosers
        ]
        rows[f"{_short(name)}, %"] = [_percent(share) for share in shares]
    rows["most to one backend, %"] = [_percent(chooser.largest_share) for chooser in choosers]
    for figure, value in _policy_rows(policy).items():
        rows[figure] = [value, *[""] * len(policy.shadows)]
    return rows


def _policy_rows(policy: Policy) -> dict[str, str]:
    """Figures that only the policy that chose has."""
    times, held = policy.decision, policy.held
    scaled = [None if value is None else 1000 * value for value in (times.p50_s, times.p99_s)]
    rows = {"decision, p50 ms": _number(scaled[0]), "decision, p99 ms": _number(scaled[1])}
    if held.requests:
        rows |= {"held, requests": f"{held.requests:,}", "held, mean s": _number(held.mean_s)}
    return rows


def _group_table(policy: Policy) -> Table:
    table = _table("\nshadow", "its\nchoice", "\nrequests", "TTFT\nmean", "E2E\nmean")
    for shadow in policy.shadows:
        for name, group in (("same", shadow.agree), ("other", shadow.disagree)):
            table.add_row(
                shadow.name, name, f"{group.requests:,}", _mean(group.ttft), _mean(group.e2e)
            )
    return table


def _table(first: str, *heads: str) -> Table:
    """An empty table: text on the left, which folds in a narrow terminal, numbers on the right."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", overflow="fold")
    return table


def _short(url: str) -> str:
    return url.removeprefix("http://")


def _figures(times: Distribution) -> list[str]:
    return [_number(value) for value in (times.mean_s, times.p50_s, times.p99_s)]


def _mean(mean: Mean) -> str:
    figures = {"mean": mean.mean_s, "low": mean.low_s, "high": mean.high_s}
    return interval({name: nan if value is None else value for name, value in figures.items()})


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
