"""`makespan serve report`, and the replay of a log by `makespan run`."""

import json
import re
from dataclasses import asdict

import pyarrow.parquet as pq
import pytest

from makespan.agents.serve.record import Log, Served, read_log, utc
from makespan.agents.serve.report import compare
from makespan.experiments import run
from makespan.experiments.serve_report import main
from makespan.traces import read

A, B = "http://a:8000", "http://vllm-with-a-long-name.default.svc.cluster.local:8000"


def served(k: int, **changes) -> Served:
    values = {
        "arrival_s": 0.5 * k,
        "wall": utc(1.7e9 + 0.5 * k),
        "id": f"r-{k}",
        "endpoint": "/v1/chat/completions",
        "model": "llama",
        "prompt_tokens": 100 + k,
        "output_tokens": 5 + k,
        "prefix_hashes": (11, 12, 13),
        "session": k % 3,
        "stream": True,
        "backend": (A, B)[k % 2],
        "policy": "least_requests",
        "choice": (A, B)[k % 2],
        "shadow": {"lookahead_hold": A, "lmetric": "hold"},
        "attempts": 1,
        "ttft_s": 0.25,
        "e2e_s": 2.0,
        "status": 200,
        "outcome": "finished",
    }
    return Served(**values | changes)


@pytest.fixture
def path(tmp_path):
    """A log of 40 answered requests and a failed one."""
    path = tmp_path / "served.jsonl"
    with Log(path) as log:
        for k in reversed(range(40)):
            log.write(served(k))
        log.write(served(40, outcome="failed", status=502, ttft_s=None))
    return path


def lines_of(capsys) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("columns", [80, 120])
def test_in_a_terminal_names_fold_and_numbers_stay_whole(path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert main([str(path)]) == 0
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in lines_of(capsys)]
    assert max(map(len, lines)) <= columns
    assert not any("\u2026" in line for line in lines)
    begun = next(k for k, line in enumerate(lines) if line.startswith("vllm-with"))
    name = "".join(line.split(" ")[0] for line in lines[begun : lines.index("", begun)])
    assert f"http://{name}" == B
    assert ["a:8000", "21", "20", *["0.250"] * 3, *["2.00"] * 3, "21.8"] in map(str.split, lines)


def test_the_figures_are_in_the_tables(path, capsys):
    assert main([str(path)]) == 0
    lines = lines_of(capsys)
    assert lines[0].startswith("41 requests: 40 finished, 1 failed; 22.0 s with a request")
    cells = [line.split() for line in lines]
    # 20 answers with 5 + 7 + ... tokens at A in 22 s.
    assert ["a:8000", "21", "20", *["0.250"] * 3, *["2.00"] * 3, "21.8"] in cells
    assert ["same", "as", "policy,", "%", "51.2", "0.0"] in cells
    assert ["a:8000,", "%", "51.2", "100.0", "0.0"] in cells
    assert ["hold,", "%", "0.0", "0.0", "100.0"] in cells
    pair = ["0.250", "[0.250,", "0.250]", "2.00", "[2.00,", "2.00]"]
    assert ["lookahead_hold", "same", "21", *pair] in cells
    assert ["lmetric", "other", "41", *pair] in cells
    assert any("nothing here is a latency of a shadow" in line for line in lines)


def test_json_holds_the_same_report(path, capsys):
    assert main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == asdict(compare(read_log(path)))


def test_an_empty_log(tmp_path, capsys):
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert main([str(path)]) == 0
    assert lines_of(capsys) == ["The log holds no requests."]


def test_a_log_without_shadows_or_answers(tmp_path, capsys):
    path = tmp_path / "served.jsonl"
    with Log(path) as log:
        log.write(served(0, status=400, shadow={}, held_s=0.5))
        log.write(served(1, outcome="rejected", status=503, backend=None, choice=None, ttft_s=None))
    assert main([str(path)]) == 0
    lines = lines_of(capsys)
    assert "1 finished (1 with a status other than 200), 1 rejected" in lines[0]
    cells = [line.split() for line in lines]
    assert ["a:8000", "1", "0", *["-"] * 6, "0"] in cells
    assert ["held,", "requests", "1"] in cells
    assert "Choices of least_requests" in lines
    assert lines[-1].startswith("No shadow policy was asked")


def test_names_are_printed_as_they_are(tmp_path, capsys):
    path = tmp_path / "served.jsonl"
    with Log(path) as log:
        log.write(served(0, policy="[red]:smile:", shadow={"[/]": A}))
    assert main([str(path)]) == 0
    lines = lines_of(capsys)
    assert "Choices of [red]:smile: and its shadows" in lines
    assert ["[red]:smile:", "[/]"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("{}\n", ":1: column format: is missing"), ("x\n", ":1: not JSON")],
)
def test_a_bad_file_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "served.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert main([str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {path}")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_cut_line_is_one_warning(path, capsys):
    path.write_bytes(path.read_bytes()[:-30])
    assert main([str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"warning: {path}: passed over line 41, cut off\n"
    assert captured.out.startswith("40 requests")


def test_a_log_is_replayed(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--trace", str(path), "--policy", "least_requests", "--replicas", "2"]
    assert run.main([*arguments, "--seeds", "1", "--name", "again"]) == 0
    assert "left out 1 of 41 requests" in capsys.readouterr().err
    log = pq.read_table("runs/again/log.parquet").to_pandas()
    assert log["arrival_s"].tolist() == [0.5 * k for k in range(40)]
    assert log["prompt_tokens"].tolist() == [100 + k for k in range(40)]
    assert log["output_tokens"].tolist() == [5 + k for k in range(40)]


def test_the_replayed_requests_are_those_of_the_log(path):
    with pytest.warns(UserWarning, match="left out 1 of 41"):
        workload = read(path)
    answered = sorted((s for s in read_log(path) if s.answered), key=lambda s: s.arrival_s)
    for request, record in zip(workload, answered, strict=True):
        assert request.arrival_s == record.arrival_s
        assert request.prefix_hashes == record.prefix_hashes
        for name in ("prompt_tokens", "output_tokens", "session", "priority", "model"):
            assert getattr(request, name) == getattr(record, name)
