"""The router's log: what is written is read back, whatever happens to the file in between."""

import errno
import gzip
import json
import resource
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve.record import Log, Served, read_log, to_json, utc
from makespan.agents.serve.status import Outcome
from makespan.traces import TraceError, TraceWarning
from makespan.traces.readers.served import FORMAT, OUTCOMES

SERVED = Served(
    arrival_s=1.25,
    wall="2026-01-01T00:00:01.250Z",
    id="r-1",
    endpoint="/v1/completions",
    model="llama",
    prompt_tokens=40,
    output_tokens=8,
    policy="lmetric",
    choice="http://a:8000",
    e2e_s=1.5,
    status=200,
    outcome="finished",
)

FULL = Path("/dev/full")
"""A device whose every write fails as on a full disk."""

words = st.text(max_size=8)
seconds = st.floats(0, 1e9)
whole = st.integers(0, 2**63 - 1)
requests = st.builds(
    Served,
    arrival_s=seconds,
    wall=st.floats(0, 4e9).map(utc),
    id=words,
    endpoint=words,
    model=words,
    prompt_tokens=whole,
    output_tokens=whole,
    predicted_tokens=st.none() | seconds,
    prefix_hashes=st.lists(whole, max_size=4).map(tuple),
    session=st.integers(-1, 2**62),
    priority=st.integers(-(2**62), 2**62),
    slo_class=words,
    stream=st.booleans(),
    backend=st.none() | words,
    policy=words,
    choice=st.none() | words,
    shadow=st.dictionaries(words, words, max_size=3),
    decision_s=seconds,
    held_s=seconds,
    attempts=whole,
    ttft_s=st.none() | seconds,
    e2e_s=seconds,
    status=st.integers(0, 999),
    outcome=st.sampled_from(get_args(Outcome)),
)


@given(st.lists(requests, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("log") / "served.jsonl"
    with Log(path) as log:
        for served in found:
            log.write(served)
    assert list(read_log(path)) == found
    assert log.lost == 0


def test_a_line_holds_the_format_and_the_fields_in_order():
    line = to_json(SERVED)
    assert list(json.loads(line)) == ["format", *(field.name for field in fields(Served))]
    assert json.loads(line)["format"] == FORMAT
    assert "\n" not in to_json(replace(SERVED, model="two\nlines"))


def test_the_router_and_the_reader_know_the_same_outcomes():
    assert get_args(Outcome) == OUTCOMES


@pytest.mark.parametrize(
    ("status", "outcome", "answered"),
    [(200, "finished", True), (400, "finished", False), (200, "cancelled", False)],
)
def test_only_a_whole_answer_without_complaint_counts_as_one(status, outcome, answered):
    assert replace(SERVED, status=status, outcome=outcome).answered is answered


def test_times_of_day_are_utc_with_milliseconds():
    assert utc(1767225600.0625) == "2026-01-01T00:00:00.062Z"


def test_every_line_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    path = tmp_path / "served.jsonl"
    with Log(path) as log:
        for count in (1, 2):
            log.write(SERVED)
            assert path.read_text(encoding="ascii") == (to_json(SERVED) + "\n") * count


def test_a_later_run_goes_on_with_the_log(tmp_path):
    path = tmp_path / "served.jsonl"
    for name in ("first", "second"):
        with Log(path) as log:
            log.write(replace(SERVED, id=name))
    assert [served.id for served in read_log(path)] == ["first", "second"]


def test_a_log_that_ends_in_a_cut_line_goes_on_in_a_new_one(tmp_path):
    path = tmp_path / "served.jsonl"
    path.write_text(to_json(SERVED) + "\n" + to_json(SERVED)[:50], encoding="ascii")
    with Log(path) as log:
        log.write(replace(SERVED, id="after"))
        log.write(replace(SERVED, id="last"))
    with pytest.warns(TraceWarning, match="passed over line 2, cut off"):
        assert [served.id for served in read_log(path)] == ["r-1", "after", "last"]
    assert path.read_text(encoding="ascii").count("\n") == 4


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_once_and_counted(caplog):
    with Log(FULL) as log:
        for _ in range(3):
            log.write(SERVED)
    assert log.lost == 3
    (message,) = caplog.messages
    assert str(FULL) in message
    assert "No space left" in message


@contextmanager
def room_for(size: int):
    """No file of this process can grow beyond `size` bytes: the rest is not written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_line_that_fits_only_in_part_spoils_no_other(tmp_path, caplog):
    path = tmp_path / "served.jsonl"
    with Log(path) as log:
        log.write(replace(SERVED, id="before"))
        with room_for(path.stat().st_size + 60):
            log.write(replace(SERVED, id="half"))
            log.write(replace(SERVED, id="none"))
        log.write(replace(SERVED, id="after"))
    assert log.lost == 2
    assert len(caplog.messages) == 1
    with pytest.warns(TraceWarning, match="passed over line 2"):
        assert [served.id for served in read_log(path)] == ["before", "after"]


@pytest.mark.parametrize(
    "wrong", [{"e2e_s": float("nan")}, {"prefix_hashes": np.arange(2)}, {"session": np.int64(3)}]
)
def test_what_is_no_json_is_lost_and_said_and_stops_nothing(tmp_path, caplog, wrong):
    path = tmp_path / "served.jsonl"
    with Log(path) as log:
        log.write(replace(SERVED, **wrong))
        log.write(SERVED)
    assert log.lost == 1
    assert len(caplog.messages) == 1
    assert list(read_log(path)) == [SERVED]


def test_a_closed_log_stops_nothing(tmp_path):
    with Log(tmp_path / "served.jsonl") as log:
        pass
    log.write(SERVED)
    log.close()
    assert log.lost == 1


def test_reopening_leaves_what_was_moved_away(tmp_path):
    path, moved = tmp_path / "served.jsonl", tmp_path / "served.jsonl.1"
    with Log(path) as log:
        log.write(replace(SERVED, id="old"))
        path.rename(moved)
        log.write(replace(SERVED, id="still old"))
        log.reopen()
        log.write(replace(SERVED, id="new"))
    assert [served.id for served in read_log(moved)] == ["old", "still old"]
    assert [served.id for served in read_log(path)] == ["new"]


def test_a_log_that_cannot_be_reopened_goes_on_where_it_was(tmp_path, caplog):
    path, moved = tmp_path / "served.jsonl", tmp_path / "moved"
    with Log(path) as log:
        path.rename(moved)
        path.mkdir()
        log.reopen()
        log.write(SERVED)
    assert "cannot be opened again: Is a directory" in caplog.text
    assert list(read_log(moved)) == [SERVED]
    assert log.lost == 0


@pytest.mark.parametrize(("name", "code"), [("", errno.EISDIR), ("no/such/folder", errno.ENOENT)])
def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path, name, code):
    path = tmp_path / name
    with pytest.raises(ValueError, match=f"the log {path} cannot be written: ") as caught:
        Log(path)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == code


def test_an_empty_log_has_no_requests(tmp_path):
    Log(tmp_path / "served.jsonl").close()
    assert list(read_log(tmp_path / "served.jsonl")) == []


def test_a_rotated_log_is_gzip(tmp_path):
    path = tmp_path / "served.jsonl.2.gz"
    path.write_bytes(gzip.compress(to_json(SERVED).encode() + b"\n"))
    assert list(read_log(path)) == [SERVED]


@pytest.mark.parametrize("name", ["", "missing.jsonl"])
def test_a_log_that_cannot_be_read_is_one_error(tmp_path, name):
    with pytest.raises(TraceError, match="cannot be read"):
        read_log(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("id", 5, "expected text, found 5"),
        ("backend", 5, "expected text, found 5"),
        ("choice", ["a"], "expected text"),
        ("stream", 1, "expected true or false, found 1"),
        ("shadow", [], "expected an object whose values are text"),
        ("shadow", {"a": None}, "expected an object whose values are text"),
        ("ttft_s", -0.5, "expected a number >= 0, found -0.5"),
        ("predicted_tokens", "many", "expected a number, found 'many'"),
        ("e2e_s", None, "expected a number, found None"),
        ("attempts", -1, "expected a whole number >= 0, found -1"),
        ("wall", "noon", "expected a time like"),
        ("outcome", "lost", "expected finished or"),
        ("format", "other", "expected makespan-served-1, found 'other'"),
    ],
)
def test_a_bad_value_is_named_by_file_line_and_key(tmp_path, key, value, message):
    path = tmp_path / "served.jsonl"
    bad = json.dumps(json.loads(to_json(SERVED)) | {key: value})
    path.write_text(f"{to_json(SERVED)}\n{bad}\n", encoding="utf-8")
    with pytest.raises(TraceError, match=f"{path}:2: column {key}: {message}"):
        list(read_log(path))


@pytest.mark.parametrize("key", [field.name for field in fields(Served)])
def test_every_key_must_be_there(tmp_path, key):
    path = tmp_path / "served.jsonl"
    values = json.loads(to_json(SERVED))
    del values[key]
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")
    with pytest.raises(TraceError, match=f"{path}:1: column {key}: is missing"):
        list(read_log(path))
