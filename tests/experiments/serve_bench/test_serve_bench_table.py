"""What rounds come to, and how it is shown."""

import pytest
from rich.console import Console

from makespan.experiments.serve_bench.table import estimate, screen, summaries

LATENCIES = [
    f"{what}_{q}_ms" for what in ("answer", "first_chunk", "chunk") for q in ("p50", "p99")
]


def a_round(latency, rate, memory=(), errors=None, cpu_us=None):
    figures = dict.fromkeys(LATENCIES, latency) | {"requests_per_s": rate, "chunks_per_s": 2 * rate}
    cpu = {"cpu_us_per_request": cpu_us, "cpu_us_per_chunk": cpu_us and cpu_us / 10}
    others = {"memory_mb": list(memory), "errors": errors or {}, "client_busy": rate / 50_000}
    return figures | cpu | others


def outcome(rounds, left_out=()):
    """As `rounds.bench` gives it."""
    return {
        "cpus": 2,
        "sizes": {"rate": 50.0, "cpu_at": 64, "chunks": 20},
        "systems": {
            name: {"version": "" if name == "direct" else "1.2.3", "rounds": own}
            for name, own in rounds.items()
        },
        "summaries": summaries(rounds),
        "left_out": dict(left_out),
    }


def shown(outcome):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(screen(outcome))
    return capture.get()


ROUNDS = {
    "direct": [a_round(1.0, 10_000.0), a_round(3.0, 40_000.0), a_round(2.0, 20_000.0)],
    "router": [
        a_round(1.5, 5000.0, [(0, 10.0), (100, 20.0)], {"status 503": 2}, 800.0),
        a_round(3.1, 10_000.0, [(0, 11.0)], cpu_us=400.0),
        a_round(3.0, 10_000.0, [(0, 12.0)], {"no answer": 1}, 600.0),
    ],
}


def test_a_round_is_compared_with_the_direct_connection_of_the_same_round():
    found = summaries(ROUNDS)["router"]
    added = found["added_answer_p99_ms"]
    assert added == pytest.approx({"median": 0.5, "low": 0.1, "high": 1.0})
    assert found["share_requests_per_s"] == pytest.approx({"median": 0.5, "low": 0.25, "high": 0.5})
    assert found["chunks_per_s"] == {"median": 20_000.0, "low": 10_000.0, "high": 20_000.0}
    assert found["cpu_us_per_chunk"] == {"median": 60.0, "low": 40.0, "high": 80.0}


def test_memory_after_requests_is_that_of_the_first_round():
    found = summaries(ROUNDS)["router"]
    assert found["memory_mb_after_0"] == {"median": 11.0, "low": 10.0, "high": 12.0}
    assert found["memory_mb_after_100"] == {"median": 20.0, "low": 20.0, "high": 20.0}


def test_the_direct_connection_is_compared_with_nothing():
    assert not [key for key in summaries(ROUNDS)["direct"] if key.startswith(("added", "share"))]


def test_a_round_without_a_figure_has_no_estimate():
    assert estimate([1.0, None]) is None
    failed = ROUNDS | {"router": [a_round(None, 0.0)]}
    found = summaries(failed)["router"]
    assert found["added_chunk_p50_ms"] is None
    assert found["share_chunks_per_s"] == {"median": 0.0, "low": 0.0, "high": 0.0}


def test_the_tables_show_every_router_and_who_was_left_out():
    text = shown(outcome(ROUNDS, {"other-router": "it is not there"}))
    assert "0.500 [0.100, 1.00]" in text  # added latency
    assert "50.0 [25.0, 50.0]" in text  # share
    assert "600 [400, 800]" in text  # CPU time of a request
    assert "60.0 [40.0, 80.0]" in text  # and of a chunk
    assert "11.0 [10.0, 12.0]" in text  # memory at the start
    memory = text[text.index("Memory") :]
    rows = [line.split() for line in memory.splitlines() if line.startswith("router ")]
    assert rows[1][-2:] == ["20.0", "3"]
    assert "router 1.2.3" in text
    assert "left out: other-router: it is not there" in text


def test_the_legend_tells_what_bounds_the_rates():
    text = " ".join(shown(outcome(ROUNDS)).split())
    assert "the rates of the faster routers are lower bounds, while the CPU figures are not" in text
    assert "the client takes up to 80% of a core without a router, in front of a router 20%" in text


def test_the_legend_explains_sglang_router_if_it_is_there():
    sglang = {"direct": ROUNDS["direct"], "sglang-router cache_aware": ROUNDS["router"]}
    assert "Nagle" in shown(outcome(sglang))
    assert "Nagle" not in shown(outcome(ROUNDS))


def test_several_rounds_fit_120_columns():
    wide = {
        "direct": [a_round(0.111 * n, 101_234.0 * n, cpu_us=None) for n in (1, 2, 3)],
        "sglang-router round_robin": [
            a_round(10.11 * n, 101_234.0 / n, [(0, 123.4), (10_000, 1e3)], cpu_us=1111.0 * n)
            for n in (1, 2, 3)
        ],
    }
    text = shown(outcome(wide))
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 120
    assert "202,468 [101,234, 303,702]" in text
