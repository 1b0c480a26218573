"""The JSON of the status page."""

import json
from dataclasses import replace
from math import inf, nan
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve import breaker
from makespan.agents.serve.status import DECISIONS, HOLD, WINDOW, BackendState, Status, Window

A = BackendState("http://a:8000", True, "", "closed", 3, 900, 1_200, 2.0, 1.0, 0.25, 0.05)
B = replace(A, url="http://b:8000", up=False, why="unhealthy", breaker="half-open", in_flight=4)


def status() -> Status:
    return Status("lmetric", ["agent"], old_after_s=10.0, now=100.0)


def test_the_snapshot_is_the_document_that_the_page_reads():
    router = status()
    router.decision(100.5, "r-1", 640, A.url, {"agent": HOLD}, 0.00025)
    router.chosen(A.url)
    router.error(A.url)
    router.retried()
    router.ended("finished")
    router.answered(A.url, "finished", 0.05, 2.0)
    assert router.snapshot(101.0, [A, B], held=2, queued=5, draining=False) == {
        "policy": "lmetric",
        "shadow": ["agent"],
        "uptime_s": 1.0,
        "old_after_s": 10.0,
        "held": 2,
        "queued": 5,
        "in_flight": 7,
        "draining": False,
        "totals": {
            "requests": 1,
            "finished": 1,
            "failed": 0,
            "cancelled": 0,
            "rejected": 0,
            "retries": 1,
        },
        "decision_ms": {"p50": 0.25, "p99": 0.25},
        "backends": [
            {
                "url": A.url,
                "up": True,
                "why": "",
                "breaker": "closed",
                "in_flight": 3,
                "prefill_tokens": 900,
                "decode_tokens": 1_200,
                "running": 2.0,
                "waiting": 1.0,
                "kv_usage": 0.25,
                "gauge_age_s": 0.05,
                "chosen": 1,
                "served": 1,
                "errors": 1,
                "ttft_ms": {"p50": 50.0, "p99": 50.0},
                "e2e_ms": {"p50": 2_000.0, "p99": 2_000.0},
            },
            {
                "url": B.url,
                "up": False,
                "why": "unhealthy",
                "breaker": "half-open",
                "in_flight": 4,
                "prefill_tokens": 900,
                "decode_tokens": 1_200,
                "running": 2.0,
                "waiting": 1.0,
                "kv_usage": 0.25,
                "gauge_age_s": 0.05,
                "chosen": 0,
                "served": 0,
                "errors": 0,
                "ttft_ms": {"p50": None, "p99": None},
                "e2e_ms": {"p50": None, "p99": None},
            },
        ],
        "decisions": [
            {
                "t": 0.5,
                "id": "r-1",
                "prompt_tokens": 640,
                "choice": A.url,
                "shadow": {"agent": HOLD},
                "ms": 0.25,
            }
        ],
    }


@pytest.mark.parametrize("unknown", [nan, inf])
def test_what_is_unknown_is_null(unknown: float):
    state = replace(A, running=unknown, waiting=unknown, kv_usage=unknown, gauge_age_s=unknown)
    text = json.dumps(status().snapshot(100.0, [state], 0, 0, False), allow_nan=False)
    (backend,) = json.loads(text)["backends"]
    names = ("running", "waiting", "kv_usage", "gauge_age_s")
    assert [backend[name] for name in names] == [None] * 4


def test_numbers_of_numpy_become_json():
    counts: Any = np.array([3, 900, 1_200, 7, 1])
    state = replace(
        A,
        up=np.array([True])[0],
        in_flight=counts[0],
        prefill_tokens=counts[1],
        decode_tokens=counts[2],
        kv_usage=np.float32(0.25),
    )
    router = status()
    router.decision(100.0, "r", counts[3], A.url, {}, np.float64(1e-3))
    text = json.dumps(router.snapshot(100.0, [state], counts[4], counts[3], False), allow_nan=False)
    assert json.loads(text) == {
        **status().snapshot(100.0, [A], 1, 7, False),
        "decision_ms": {"p50": 1.0, "p99": 1.0},
        "decisions": [
            {"t": 0.0, "id": "r", "prompt_tokens": 7, "choice": A.url, "shadow": {}, "ms": 1.0}
        ],
    }


def test_the_newest_decisions_come_first_and_old_ones_go():
    router = status()
    for number in range(DECISIONS + 5):
        router.decision(100.0 + number, str(number), 1, A.url, {}, 1e-4)
    decisions = router.snapshot(200.0, [A], 0, 0, False)["decisions"]
    assert [decision["id"] for decision in decisions] == [str(n) for n in range(24, 4, -1)]


def test_the_snapshot_is_not_changed_by_what_comes_later():
    router = status()
    before = router.snapshot(101.0, [A], 0, 0, False)
    text = json.dumps(before)
    router.decision(101.0, "later", 1, A.url, {}, 1e-4)
    router.ended("failed")
    router.answered(A.url, "finished", 0.1, 0.2)
    assert json.dumps(before) == text


def test_times_that_are_none_are_not_kept():
    router = status()
    router.answered(A.url, "finished", 0.2, 4.0)
    router.answered(A.url, "finished", None, 6.0)
    router.answered(A.url, "failed", None, None)
    (backend,) = router.snapshot(100.0, [A], 0, 0, False)["backends"]
    assert backend["served"] == 2
    assert backend["ttft_ms"] == {"p50": 200.0, "p99": 200.0}
    assert backend["e2e_ms"] == {"p50": 4_000.0, "p99": 6_000.0}


def test_states_of_breakers_are_those_of_the_breaker():
    assert get_type_hints(BackendState)["breaker"] is breaker.State


def test_a_removed_backend_starts_anew():
    router = status()
    router.chosen(A.url)
    router.answered(A.url, "finished", 0.1, 1.0)
    router.removed(A.url)
    router.removed("http://never:1")
    (backend,) = router.snapshot(100.0, [A], 0, 0, False)["backends"]
    assert (backend["chosen"], backend["served"], backend["ttft_ms"]["p50"]) == (0, 0, None)


def test_a_window_of_no_values_has_no_percentiles():
    assert Window().percentiles_ms() == {"p50": None, "p99": None}


def test_percentiles_are_of_the_last_values_by_nearest_rank():
    window = Window()
    for _ in range(WINDOW):
        window.add(1e6)
    for value in range(1, WINDOW + 1):
        window.add(value)
    assert window.percentiles_ms() == {"p50": 500e3, "p99": 990e3}


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=2 * WINDOW + 10))
def test_a_window_keeps_what_a_list_would(values: list[float]):
    window = Window()
    for value in values:
        window.add(value)
    ordered = np.sort(values[-WINDOW:])
    expected = np.percentile(ordered, [50, 99], method="inverted_cdf") * 1e3
    found = window.percentiles_ms()
    assert [found["p50"], found["p99"]] == [round(value, 3) for value in expected.tolist()]
