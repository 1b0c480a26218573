"""The checks of all worlds: they pass, the README shows what they say, and they can fail."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from makespan.experiments.fidelity import (
    constraint_bench,
    jobshop,
    llm,
    published,
    queueing,
    recorded_run,
    table,
)
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.scheduler import checks
from makespan.experiments.fidelity.sources import Sources

CHECKS = llm.CHECKS | jobshop.CHECKS

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "llm"
HERE = Sources(data=DATA if DATA.is_dir() else None)

ELSEWHERE = {checks.against_vllm: checks.STEPS, checks.jumping: checks.JUMPS}
"""Checks that take long, and that `tests/vllm` makes in its own way, with what their row says."""

MARKERS = ("<!-- fidelity -->", "<!-- end of fidelity -->")


@functools.cache
def rows_of(check):
    return list(check(HERE))


@pytest.fixture
def rows(request):
    found = rows_of(request.param)
    if isinstance(found[0], Missing):
        pytest.skip(f"{found[0].what}: {found[0].why}")
    return found


here = pytest.mark.parametrize(
    "rows",
    [pytest.param(check, id=name) for name, check in CHECKS.items() if check not in ELSEWHERE],
    indirect=True,
)


def readme_lines():
    """The lines of the table in the README."""
    text = (ROOT / "README.md").read_text()
    return text.split(MARKERS[0])[1].split(MARKERS[1])[0].strip().splitlines()


@here
def test_it_passes(rows):
    assert [row for row in rows if row.passed is False] == []


@here
def test_the_readme_shows_it(rows):
    fresh = table.markdown(rows).splitlines()
    shown = readme_lines()
    assert shown[:2] == fresh[:2]
    assert [line for line in fresh if line not in shown] == []


def test_the_readme_shows_every_check_and_nothing_else():
    shown = [line.split(" | ")[0].removeprefix("| ") for line in readme_lines()[2:]]
    assert set(ELSEWHERE.values()) <= set(shown)
    found = [rows_of(check) for check in CHECKS.values() if check not in ELSEWHERE]
    if not any(isinstance(rows[0], Missing) for rows in found):
        assert len(shown) == sum(map(len, found)) + len(ELSEWHERE)


def test_the_readme_shows_nothing_that_failed_or_was_not_run():
    verdicts = {line.rsplit(" | ", 1)[1] for line in readme_lines()[2:]}
    assert verdicts <= {"yes |", "no aim |"}


def test_the_document_shows_the_feasibility_curves():
    pytest.importorskip("ortools")
    shown = (ROOT / "docs" / "jobshop.md").read_text()
    assert constraint_bench.curve_table("everything") in shown


@pytest.mark.parametrize("name", CHECKS)
def test_where_nothing_is_here_a_check_says_so_or_runs(name):
    check = CHECKS[name]
    if check in (checks.against_vllm, recorded_run.rows, published.traces):
        (row,) = check(Sources())
        assert isinstance(row, Missing)
        assert row.why
    else:
        assert check in ELSEWHERE or all(isinstance(row, Row) for row in rows_of(check))


def test_a_file_that_is_not_there_is_named(tmp_path):
    (row,) = recorded_run.rows(Sources(data=tmp_path))
    assert isinstance(row, Missing)
    assert f"{recorded_run.META}, " in row.why
    assert str(tmp_path) in row.why


# The formula itself, by hand: M/M/1 waits rho / (mu - lambda), M/M/2 at load 1 waits 1 / (3 mu).
@pytest.mark.parametrize(
    ("arrivals", "service", "servers", "wait"),
    [(0.5, 1.0, 1, 1.0), (0.8, 1.0, 1, 4.0), (1.0, 1.0, 2, 1 / 3)],
)
def test_erlangs_formula(arrivals, service, servers, wait):
    assert queueing.erlang_wait(arrivals, service, servers) == pytest.approx(wait)


def test_a_wait_that_is_too_long_fails(monkeypatch):
    monkeypatch.setattr(queueing, "REQUESTS", 10_000)
    fair = queueing.mean_wait(1, 0.5)
    assert fair.passed
    assert not replace(fair, ours=fair.ours * (1 + 2.5 * (fair.aim or 0))).passed
    monkeypatch.setattr(queueing, "STEP_S", 2 * queueing.STEP_S)  # as the formula has it
    assert not queueing.mean_wait(1, 0.5).passed


RUN = {
    "queued_ts": [5.0, 5.5],
    "first_token_ts": [6.0, 7.5],
    "last_token_ts": [8.0, 7.5],
    "input_toks": [10, 20],
    "output_toks": [5, 1],
}
META = {
    "kv_cache": {"num_gpu_blocks": 99, "block_size": 16, "gpu_memory_utilization": 0.9},
    "engine_kwargs": {"max_num_seqs": 4, "max_num_batched_tokens": 64, "max_model_len": 128},
}


def write_run(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text(
        "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
    )
    return path


def test_a_recorded_run_is_read_in_order_of_arrival(tmp_path):
    backwards = {name: column[::-1] for name, column in RUN.items()}
    run = recorded_run.read_run(write_run(tmp_path / "run.jsonl", backwards))
    assert run["queued_ts"].tolist() == [0.0, 0.5]
    assert run["output_toks"].tolist() == [5, 1]


def test_latencies_by_hand():
    columns = (np.array(RUN[name]) for name in (*recorded_run.TIMES, "output_toks"))
    found = recorded_run.latencies(*columns)
    assert found["TTFT"].tolist() == [1.0, 2.0]
    assert found["TPOT"].tolist() == [500.0]
    assert found["E2E"].tolist() == [3.0, 2.0]


def test_the_engine_of_a_recorded_run(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text(json.dumps(META))
    engine = recorded_run.read_engine(path)
    assert (engine.kv_blocks, engine.max_num_seqs, engine.max_model_len) == (99, 4, 128)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kv_cache": {}, "engine_kwargs": {}}'])
def test_bad_metadata_is_named(tmp_path, text):
    path = tmp_path / "meta.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"meta\.json: no metadata of a run"):
        recorded_run.read_engine(path)


@pytest.mark.parametrize("column", RUN)
def test_a_bad_value_of_a_run_is_named_by_line_and_key(tmp_path, column):
    path = write_run(tmp_path / "run.jsonl", RUN | {column: [RUN[column][0], "x"]})
    with pytest.raises(ValueError, match=rf"run\.jsonl:2: column {column}: .* found 'x'"):
        recorded_run.read_run(path)


def test_an_empty_run_is_named(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("")
    with pytest.raises(ValueError, match=r"run\.jsonl: .*empty"):
        recorded_run.read_run(path)


@pytest.fixture
def recorded():
    lacks = HERE.lacks(*recorded_run.FILES)
    if lacks:
        pytest.skip(lacks)
    return DATA


@pytest.mark.parametrize("profile", ["", recorded_run.PROFILE], ids=["fitted", "measured"])
def test_the_recorded_run_is_of_the_kind_that_tells(recorded, profile):
    run = recorded_run.read_run(recorded / recorded_run.RUN)
    engine = recorded_run.read_engine(recorded / recorded_run.META)
    log = recorded_run.replay(run, engine, str(recorded / profile) if profile else "")
    assert log["preemptions"].sum() > 100


def test_another_run_fails(recorded, tmp_path):
    for name in recorded_run.FILES:
        shutil.copy(recorded / name, tmp_path)
    path = tmp_path / recorded_run.RUN
    run = recorded_run.read_run(path)
    # As if the card had been half as fast.
    slower = {
        name: column * (2 if name in recorded_run.TIMES[1:] else 1) for name, column in run.items()
    }
    write_run(path, {name: column.tolist() for name, column in slower.items()})
    found = recorded_run.rows(Sources(data=tmp_path))
    assert sum(isinstance(row, Row) and row.passed is False for row in found) >= 6


def test_steps_that_differ_are_counted():
    assert checks.differing(["a", "b", "c"], ["a", "x"]) == 2
    assert checks.differing(["a"], ["a"]) == 0


def test_largest_difference_of_two_logs():
    log = {"finish_s": np.array([1.0, 2.0, np.nan]), "preemptions": np.array([0, 1, 0])}
    late = log | {"finish_s": np.array([1.0, 2.5, np.nan])}
    assert checks.largest_difference(log, log) == 0
    assert checks.largest_difference(late, log) == 0.25
    assert checks.largest_difference(log | {"preemptions": np.array([0, 1, 1])}, log) == np.inf
    assert checks.largest_difference(log | {"finish_s": np.array([1.0, 2.0, 3.0])}, log) == np.inf


def test_an_engine_that_differs_from_what_vllm_did_fails(monkeypatch):
    honest = checks.outcome
    (entry, *others) = checks.golden.entries()
    monkeypatch.setattr(checks.golden, "entries", lambda: [entry])
    monkeypatch.setattr(checks, "outcome", lambda case: honest(case) | {"preemptions": -1})
    (row,) = checks.against_golden(Sources())
    assert (row.passed, row.ours, row.reference) == (False, 0, entry["steps"])
    assert len(others) == len(checks.golden.SEEDS) - 1
