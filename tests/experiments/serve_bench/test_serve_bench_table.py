"""What rounds come to, and how it is shown."""

import pytest
from rich.console import Console

from makespan.experiments.serve_bench.table import estimate, screen, summaries

LATENCIES = [
    f"{what}_{q}_ms" for what in ("answer", "first_chunk", "chunk") for q in ("p50", "p99")
]


def a_round(latency, rate, memory=(), errors=None):
    figures = dict.fromkeys(LATENCIES, latency) | {"requests_per_s": rate, "chunks_per_s": 2 * rate}
    return figures | {"memory_mb": list(memory), "errors": errors or {}}


ROUNDS = {
    "direct": [a_round(1.0, 10_000.0), a_round(3.0, 40_000.0), a_round(2.0, 20_000.0)],
    "router": [
        a_round(1.5, 5000.0, [(0, 10.0), (100, 20.0)], {"status 503": 2}),
        a_round(3.1, 10_000.0, [(0, 11.0), (100, 30.0)]),
        a_round(3.0, 10_000.0, [(0, 12.0), (100, 40.0)], {"no answer": 1}),
    ],
}


def test_a_round_is_compared_with_the_direct_connection_of_the_same_round():
    found = summaries(ROUNDS)["router"]
    added = found["added_answer_p99_ms"]
    assert added == pytest.approx({"median": 0.5, "low": 0.1, "high": 1.0})
    assert found["share_requests_per_s"] == pytest.approx({"median": 0.5, "low": 0.25, "high": 0.5})
    assert found["chunks_per_s"] == {"median": 20_000.0, "low": 10_000.0, "high": 20_000.0}
    assert found["memory_mb_after_100"] == {"median": 30.0, "low": 20.0, "high": 40.0}


def test_the_direct_connection_is_compared_with_nothing():
    assert not [key for key in summaries(ROUNDS)["direct"] if key.startswith(("added", "share"))]


def test_a_round_without_a_figure_has_no_estimate():
    assert estimate([1.0, None]) is None
    failed = ROUNDS | {"router": [a_round(None, 0.0)]}
    found = summaries(failed)["router"]
    assert found["added_chunk_p50_ms"] is None
    assert found["share_chunks_per_s"] == {"median": 0.0, "low": 0.0, "high": 0.0}


def test_the_tables_show_every_router_and_who_was_left_out():
    outcome = {
        "cpus": 2,
        "sizes": {"rate": 20.0},
        "systems": {
            "direct": {"version": "", "rounds": ROUNDS["direct"]},
            "router": {"version": "1.2.3", "rounds": ROUNDS["router"]},
        },
        "summaries": summaries(ROUNDS),
        "left_out": {"other-router": "it is not there"},
    }
    console = Console(width=120)
    with console.capture() as capture:
        console.print(screen(outcome))
    shown = capture.get()
    assert "0.500 [0.100, 1.00]" in shown  # added latency
    assert "50.0 [25.0, 50.0]" in shown  # share
    assert "30.0 [20.0, 40.0]" in shown  # memory
    memory = shown[shown.index("Memory") :]
    assert [line.split()[-1] for line in memory.splitlines() if line.startswith("router ")][1:] == [
        "3"
    ]
    assert "router 1.2.3" in shown
    assert "left out: other-router: it is not there" in shown
    assert "..." not in shown.replace("\N{HORIZONTAL ELLIPSIS}", "...")
    assert max(map(len, shown.splitlines())) <= 120
