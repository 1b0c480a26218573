"""The rows as Markdown, and as a table on a screen."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.summary_tables import number

COLUMNS = ("what", "source", "reference", "ours", "difference", "aim", "pass")
NUMBERS = COLUMNS[2:6]
"""Columns that are set flush right."""

WIDTH = 100
"""Columns of a table that does not go to a terminal."""

SCREEN_WIDTHS = (9, 8, 10, 6, 7)
"""Of the columns after `what` and `source`."""

VERDICTS = {True: "yes", False: "no", None: "no aim"}


def markdown(rows: Sequence[Row | Missing]) -> str:
    """A table in Markdown, one line per row, with a line end."""
    rule = ["---:" if column in NUMBERS else "---" for column in COLUMNS]
    return "".join(map(_line, (COLUMNS, rule, *map(cells, rows))))


def cells(row: Row | Missing) -> tuple[str, ...]:
    """The texts of a row, one for each of `COLUMNS`."""
    if isinstance(row, Missing):
        return (row.what, row.source, "", "", "", "", f"not run: {row.why}")
    return (
        row.what,
        row.source,
        _with_unit(_value(row.reference, row.unit), row.unit),
        _with_unit(_value(row.ours, row.unit), row.unit),
        _difference(row),
        _aim(row),
        VERDICTS[row.passed],
    )


def console(file: Any) -> Any:
    """A console as wide as the terminal, or `WIDTH` where there is none."""
    from rich.console import Console

    screen = Console(file=file, highlight=False)
    if not screen.is_terminal:
        screen.width = WIDTH
    return screen


def screen(rows: Sequence[Row | Missing]) -> Any:
    """The rows for a console; what several have as their source stands once over them."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_columns([_heads()])]
    for source, group in groupby(rows, lambda row: row.source):
        lines = [line for row in group for line in _screen_lines(row)]
        parts += [Text(f"\n{source}", style="italic"), _columns(lines)]
    return Group(*parts)


def tally(rows: Sequence[Row | Missing]) -> str:
    """How many rows passed, failed, have no aim and were not run."""
    verdicts = Counter("not run" if isinstance(row, Missing) else row.passed for row in rows)
    return (
        f"{verdicts[True]} passed, {verdicts[False]} failed, "
        f"{verdicts[None]} without an aim, {verdicts['not run']} not run"
    )


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def _value(value: float, unit: str) -> str:
    """Three significant digits, an exponent where they would be zeros; counts as they are."""
    if 0 < abs(value) < 5e-4:
        return f"{value:.2g}"
    return f"{value:,.0f}" if not unit and float(value).is_integer() else number(value)


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text


def _difference(row: Row) -> str:
    if not row.in_unit:
        return f"{100 * row.difference:+z.1f} %"
    sign = "+" if row.difference > 0 else ""
    return _with_unit(sign + _value(row.difference, row.unit), row.unit)


def _aim(row: Row) -> str:
    """The largest difference that passes, as `_difference` writes it."""
    if row.aim is None:
        return ""
    if row.in_unit:
        most = "<= " if row.kind == "at_most" else ""
        return most + _with_unit(f"{row.aim:.2g}", row.unit)
    return f"{100 * row.aim:.2g} %"


def _heads() -> tuple[str, ...]:
    return tuple(column for column in COLUMNS if column != "source")


def _screen_lines(row: Row | Missing) -> list[tuple[str, ...]]:
    """What `_columns` shows of a row."""
    if isinstance(row, Missing):
        return [(row.what, "", "", "", "", "not run"), (f"  {row.why}",)]
    what, _, *rest = cells(row)
    return [(what, *rest)]


def _columns(lines: Sequence[tuple[str, ...]]) -> Any:
    """Lines in columns that stand under each other from one table to the next."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 0, 0, 2), expand=True, show_header=False)
    table.add_column(ratio=1)
    for width, column in zip(SCREEN_WIDTHS, _heads()[1:], strict=True):
        flush_right = column in NUMBERS
        table.add_column(justify="right" if flush_right else "left", width=width)
    for line in lines:
        table.add_row(*line)
    return table
