"""Logs of the live router as traces; `test_readers.py` has what all readers share."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from makespan.traces import Request, TraceError, TraceWarning, read
from makespan.traces.readers import recognise
from makespan.traces.readers.served import arrivals, served_lines, unix_seconds

MIDNIGHT = "2026-01-01T00:00:00.000Z"


def line(**changes) -> dict:
    """What the router writes about an answered request."""
    return {
        "format": "makespan-served-1",
        "arrival_s": 0.0,
        "wall": MIDNIGHT,
        "id": "r-1",
        "endpoint": "/v1/chat/completions",
        "model": "",
        "prompt_tokens": 40,
        "output_tokens": 8,
        "predicted_tokens": None,
        "prefix_hashes": [],
        "session": -1,
        "priority": 0,
        "slo_class": "",
        "stream": True,
        "backend": "http://a:8000",
        "policy": "lmetric",
        "choice": "http://a:8000",
        "shadow": {},
        "decision_s": 0.001,
        "held_s": 0.0,
        "attempts": 1,
        "ttft_s": 0.2,
        "e2e_s": 1.5,
        "status": 200,
        "outcome": "finished",
    } | changes


def jsonl(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def put(folder: Path, text: str | bytes) -> Path:
    path = folder / "served.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_every_column_is_read(tmp_path):
    full = {"prefix_hashes": [2**63 - 1, 0], "session": 7, "priority": -2, "slo_class": "chat"}
    path = put(tmp_path, jsonl(line(**full, model="llama"), line(arrival_s=0.25)))
    assert recognise(path) == "served"
    workload = read(path)
    assert list(workload) == [
        Request(0.0, 40, 8, (2**63 - 1, 0), 7, -2, "chat", "llama"),
        Request(0.25, 40, 8),
    ]
    assert workload.name == "served"


def test_lines_in_the_order_of_endings_become_requests_in_the_order_of_arrivals(tmp_path):
    ended = [(3.0, 30), (1.0, 10), (3.0, 31), (2.0, 20)]
    path = put(tmp_path, jsonl(*(line(arrival_s=t, wall=at(t), prompt_tokens=n) for t, n in ended)))
    workload = read(path)
    assert workload.prompt_tokens.tolist() == [10, 20, 30, 31]
    assert workload.arrival_s.tolist() == [0, 1, 2, 2]


def at(seconds: float) -> str:
    """The time of day so many seconds after midnight, cut to milliseconds as in the log."""
    whole = int(seconds * 1000 + 1e-6)
    return f"2026-01-01T00:{whole // 60_000:02}:{whole / 1000 % 60:06.3f}Z"


def test_within_a_run_arrivals_are_as_fine_as_they_were_taken(tmp_path):
    times = [0.1000004, 0.1000008, 0.2009999, 5.0]
    path = put(tmp_path, jsonl(*(line(arrival_s=t, wall=at(t)) for t in times)))
    np.testing.assert_allclose(read(path).arrival_s, np.array(times) - times[0], atol=1e-12)


def test_runs_of_the_router_follow_each_other_by_the_time_of_day(tmp_path):
    first = [line(arrival_s=t, wall=at(10 + t), prompt_tokens=1) for t in (0.5, 0.7504)]
    second = [line(arrival_s=t, wall=at(60 + t), prompt_tokens=2) for t in (0.25, 0.3)]
    workload = read(put(tmp_path, jsonl(*first, *second)))
    assert workload.prompt_tokens.tolist() == [1, 1, 2, 2]
    np.testing.assert_allclose(workload.arrival_s, [0, 0.2504, 49.75, 49.8], atol=1e-6)


def test_a_clock_that_is_slewed_starts_no_new_run():
    arrival_s = np.arange(0, 3600, 0.25)
    wall_s = 1.7e9 + arrival_s * (1 + 500e-6)
    np.testing.assert_array_equal(arrivals(wall_s, arrival_s), arrival_s)


def test_two_routers_that_write_one_log_stand_side_by_side():
    """Their lines alternate, and so do the runs."""
    arrival_s = np.array([0.0, 7.0, 1.0, 8.0])
    wall_s = np.array([100.0, 100.5, 101.0, 101.5])
    np.testing.assert_allclose(arrivals(wall_s, arrival_s), wall_s - 100)


def test_requests_that_were_not_answered_are_left_out_and_counted(tmp_path):
    rows = [
        line(outcome="rejected", status=503, backend=None, choice=None, ttft_s=None),
        line(prompt_tokens=41, arrival_s=0.2),
        line(outcome="cancelled", status=499),
        line(outcome="failed", status=502),
        line(outcome="failed", status=200),
        line(status=400),
    ]
    path = put(tmp_path, jsonl(*rows))
    with pytest.warns(TraceWarning) as caught:
        workload = read(path)
    assert workload.prompt_tokens.tolist() == [41]
    assert [str(warning.message) for warning in caught] == [
        f"{path}: left out 5 of 6 requests, which were not answered in full "
        "(1 rejected, 1 cancelled, 2 failed, 1 with status 400)"
    ]


def test_an_embedding_counts_as_one_token(tmp_path):
    path = put(tmp_path, jsonl(line(endpoint="/v1/embeddings", output_tokens=0)))
    assert read(path).output_tokens.tolist() == [1]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (json.dumps(line())[:-1], "line 3, cut off"),
        (json.dumps(line())[:200], "line 3, cut off"),
        # Cut right behind the brace that closes the shadows' choices.
        (json.dumps(line()).partition(', "decision_s"')[0], "line 3, cut off"),
        ("{", "line 3, cut off"),
        # Cut in a name that a client sent, behind a brace in it.
        (json.dumps(line(id="{a}")).partition('a}"')[0] + "a}", "line 3, cut off"),
    ],
)
def test_a_last_line_that_was_cut_off_is_passed_over(tmp_path, end, said):
    path = put(tmp_path, jsonl(line(), line(arrival_s=0.1)) + end)
    with pytest.warns(TraceWarning, match=said):
        assert len(read(path)) == 2


def test_lines_cut_off_within_the_log_are_counted(tmp_path):
    cut = json.dumps(line())[:99] + "\n"
    path = put(tmp_path, jsonl(line()) + cut + jsonl(line()) + cut + "\n" + jsonl(line()))
    with pytest.warns(TraceWarning, match=r"passed over 2 lines, from line 2 on, cut off"):
        found = list(served_lines(path))
    assert [row.line for row in found] == [1, 3, 6]


@pytest.mark.parametrize("text", ['{"a": ' + "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_what_json_cannot_read_has_its_place(tmp_path, text):
    path = put(tmp_path, jsonl(line()) + text + "\n")
    with pytest.raises(TraceError, match=r":2: not to be read"):
        list(served_lines(path))


def test_a_whole_last_line_needs_no_line_end(tmp_path):
    assert len(read(put(tmp_path, jsonl(line(), line()).rstrip("\n")))) == 2


def test_rotated_logs_are_gzip(tmp_path):
    assert len(read(put(tmp_path, gzip.compress(jsonl(line()).encode())))) == 1


@pytest.mark.parametrize("text", ["2026-01-01T02:00:00+02:00", MIDNIGHT, "2026-01-01T00:00:00Z"])
def test_times_of_day_in_any_zone(text):
    assert unix_seconds(text) == 1767225600


BAD = {
    "another version": (line(format="makespan-served-2"), "format: expected makespan-served-1"),
    "no time": (line(wall="yesterday"), "wall: expected a time like .* found 'yesterday'"),
    "no zone": (line(wall="2026-01-01T00:00:00"), "wall: expected a time like"),
    "number for a time": (line(wall=5), "wall: expected text, found 5"),
    "negative": (line(arrival_s=-1.0), "arrival_s: expected a number >= 0, found -1.0"),
    "not finite": (line(arrival_s=float("nan")), "arrival_s: expected a number, found nan"),
    "fraction": (line(output_tokens=2.5), "output_tokens: expected a whole number >= 0"),
    "too big": (line(prompt_tokens=2**63), "prompt_tokens: expected a whole number below 2"),
    "no list": (line(prefix_hashes=3), "prefix_hashes: expected a list of whole numbers"),
    "negative hash": (line(prefix_hashes=[1, -1]), "prefix_hashes: expected a list"),
    "big hash": (line(prefix_hashes=[2**63]), r"prefix_hashes: expected whole numbers below 2"),
    "no such outcome": (
        line(outcome="won"),
        "outcome: expected finished or failed or cancelled or rejected, found 'won'",
    ),
    "status in words": (line(status="OK"), "status: expected a whole number >= 0, found 'OK'"),
    "number for a name": (line(slo_class=1), "slo_class: expected text, found 1"),
    "absent": ({"format": "makespan-served-1"}, "outcome: is missing; found format"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_a_bad_value_is_named_by_line_and_key(tmp_path, bad, message):
    path = put(tmp_path, jsonl(line(), bad, line()))
    with pytest.raises(TraceError, match=re.escape(f"{path}:2: column ") + message) as caught:
        read(path)
    assert (caught.value.line, caught.value.column) == (2, message.partition(":")[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " is empty"),
        (jsonl(line()) + "[1]\n", ":2: expected a JSON object"),
        (jsonl(line()) + "{1}\n", ":2: not JSON"),
        (jsonl(line()) + "noise\n", ":2: not JSON"),
        (jsonl(line(outcome="failed")), " has no request that was answered"),
        (jsonl({k: v for k, v in line().items() if k != "outcome"}), ":1: column outcome: is miss"),
        (gzip.compress(jsonl(line()).encode() * 99)[:-20], "the gzip data is truncated here"),
    ],
)
def test_a_bad_log_is_one_error(tmp_path, text, message):
    path = put(tmp_path, text)
    with pytest.raises(TraceError, match=re.escape(str(path)) + ".*" + message):
        read(path)
