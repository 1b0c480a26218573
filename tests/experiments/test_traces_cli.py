"""`makespan traces ...` as a person meets it."""

import pytest

from makespan.experiments.traces_cli import main
from makespan.traces.catalogue import CATALOGUE
from makespan.traces.synthetic import SYNTHETIC


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*CATALOGUE, *SYNTHETIC))


def test_describe_prints_one_column_per_trace(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,40\n2,300,60\n")
    assert main(["describe", str(path), "sharegpt_sessions", "--requests", "500"]) == 0
    captured = capsys.readouterr()
    rows = {
        cells[0]: cells[1:]
        for cells in (
            [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
            for line in captured.out.splitlines()
        )
    }
    assert rows["trace"] == ["mine", "sharegpt_sessions"]
    assert rows["requests"] == ["2", "500"]
    assert rows["rate, 1/s"][0] == "0.500"
    assert rows["input mean"][0] == "200.0"
    assert rows["output p50"][0] == "50"
    assert rows["prefix hit, endless cache"][0] == "no hashes"
    assert rows["prefix hit, endless cache"][1].endswith("%")
    assert captured.err == ""


def test_left_out_requests_are_reported(tmp_path, capsys):
    path = tmp_path / "vidur.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,1,0\n1,1,1\n")
    assert main(["describe", str(path)]) == 0
    assert f"warning: {path}: left out 1 of 2 requests" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["describe", "gone.csv"], "error: gone.csv: no such file"),
        (["describe", "steadi"], "error: unknown trace 'steadi'. Did you mean 'steady'"),
        (["fetch", "azure-conv-2023", "azur"], "error: unknown trace 'azur'"),
        (["fetch", "azure-conv-2024"], "no SHA-256 to check it by; pass --unverified"),
    ],
)
def test_errors_are_one_line(argv, message, capsys):
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_fetch_reports_file_and_digest(tmp_path, monkeypatch, capsys):
    # Already there, so that nothing has to be downloaded; the digest is real.
    import hashlib
    from dataclasses import replace

    content = b"num_prefill_tokens,num_decode_tokens\n3,4\n"
    entry = replace(CATALOGUE["vidur-arxiv"], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(CATALOGUE, "vidur-arxiv", entry)
    (tmp_path / entry.filename).write_bytes(content)
    assert main(["fetch", "vidur-arxiv", "--to", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"SHA-256 {entry.sha256} (as expected)" in out
    assert "licence MIT" in out
