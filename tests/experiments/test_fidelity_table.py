"""Rows of the fidelity table, and how they are written."""

import io
import math
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from makespan.experiments.fidelity import table
from makespan.experiments.fidelity.row import Missing, Row


def row(reference, ours, aim, kind: Any = "relative", unit=""):
    return Row("what", "source", reference, ours, aim, kind, unit)


@pytest.mark.parametrize(
    ("checked", "texts"),
    [
        (row(100.0, 104.96, 0.05, unit="s"), ("100 s", "105 s", "+5.0 %", "5 %", "yes")),
        (row(100.0, 105.04, 0.05, unit="s"), ("100 s", "105 s", "+5.0 %", "5 %", "no")),
        (
            row(12.0, 11.9, 0.0449, "interval", "ms"),
            ("12.0 ms", "11.9 ms", "-0.8 %", "4.5 %", "yes"),
        ),
        (row(340712, 340712, 0.0, "absolute"), ("340,712", "340,712", "0", "0", "yes")),
        (row(340712, 340711, 0.0, "absolute"), ("340,712", "340,711", "-1", "0", "no")),
        (row(1.0, 0.9983, 0.01, "absolute"), ("1", "0.998", "-0.002", "0.01", "yes")),
        (row(0.0, 2.9e-15, 1e-9, "absolute"), ("0", "2.9e-15", "+2.9e-15", "1e-09", "yes")),
        (row(1.0, 0.743, None, "absolute"), ("1", "0.743", "-0.257", "", "no aim")),
        (row(3.0, 3.0 - 1e-9, 0.05, unit="s"), ("3.00 s", "3.00 s", "+0.0 %", "5 %", "yes")),
        (row(13.0, 12.0, 0.0, "at_most", "%"), ("13.0 %", "12.0 %", "-1.00 %", "<= 0 %", "yes")),
        (row(13.0, 13.1, 0.0, "at_most", "%"), ("13.0 %", "13.1 %", "+0.100 %", "<= 0 %", "no")),
        (row(3.0, math.nan, 0.05), ("3", "-", "+nan %", "5 %", "no")),
    ],
)
def test_texts_of_a_row(checked, texts):
    assert table.cells(checked) == ("what", "source", *texts)


@pytest.mark.parametrize(("ours", "passed"), [(1.04, True), (1.06, False), (0.94, False)])
def test_whether_a_row_passed_is_a_plain_bool(ours, passed):
    # What asks `is False` would take a numpy value for a pass.
    assert row(np.float64(1.0), np.float64(ours), np.float64(0.05)).passed is passed


ROWS = [
    Row("steps | all", "vLLM", 10, 10, 0.0, "absolute"),
    Row("latency", "a run", 2.0, 3.0, 0.05, unit="s"),
    Row("its spread", "a run", 2.0, 3.0, None, unit="s"),
    Missing("more", "a run", "it is not here: make it"),
]


def test_markdown():
    assert table.markdown(ROWS).splitlines() == [
        "| what | source | reference | ours | difference | aim | pass |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
        r"| steps \| all | vLLM | 10 | 10 | 0 | 0 | yes |",
        "| latency | a run | 2.00 s | 3.00 s | +50.0 % | 5 % | no |",
        "| its spread | a run | 2.00 s | 3.00 s | +50.0 % |  | no aim |",
        "| more | a run |  |  |  |  | not run: it is not here: make it |",
    ]


def test_tally():
    assert table.tally(ROWS) == "1 passed, 1 failed, 1 without an aim, 1 not run"


@pytest.mark.parametrize("width", [70, 100])
def test_on_a_screen_sources_stand_over_their_rows(width):
    written = io.StringIO()
    Console(file=written, width=width).print(table.screen(ROWS))
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert lines.count("a run") == 1
    assert lines.index("vLLM") < lines.index("a run")
    told = "\n".join(lines[lines.index("a run") :])
    assert "latency" in told
    assert "it is not here: make it" in " ".join(told.split())
    assert "…" not in told


def test_where_there_is_no_terminal_the_width_is_that_of_a_page():
    assert table.console(io.StringIO()).width == table.WIDTH
