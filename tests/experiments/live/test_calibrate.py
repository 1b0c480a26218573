"""`makespan calibrate` against a server that answers like vLLM."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
from fake_vllm import FakeVLLM

from makespan.envs.llm.hardware_file import read_hardware
from makespan.experiments import calibrate
from makespan.experiments.run import main as run


@contextmanager
def in_a_thread(server):
    """Serve while the block runs; the URL."""
    ready, stop, urls = threading.Event(), threading.Event(), []

    async def serve():
        async with server.serving() as url:
            urls.append(url)
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(10)
    try:
        yield urls[0]
    finally:
        stop.set()
        thread.join()


def test_a_server_becomes_hardware_to_run_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with in_a_thread(FakeVLLM(max_model_len=1024)) as url:
        assert calibrate.main(["--url", url, "--seconds", "10"]) == 0
    engine = read_hardware(tmp_path / "org-fake.toml").engine
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (6, 100)
    assert (engine.kv_blocks, engine.block_size, engine.max_model_len) == (101, 16, 1024)
    printed = capsys.readouterr()
    assert "101 KV blocks of 16 tokens" in printed.out
    assert "makespan run --hardware org-fake.toml --engine.no-enable-prefix-caching" in printed.out
    assert "ms outside the engine" in printed.out
    assert printed.err == ""
    options = ["--requests", "50", "--seeds", "1", "--policy", "round_robin", "--trace", "steady"]
    assert run(["--hardware", "org-fake.toml", *options]) == 0
    assert "4 x org-fake.toml, org/fake" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "localhost:8000"], "--url must begin with http:// or https://"),
        (["--url", "http://127.0.0.1:9", "--seconds", "0"], "--seconds must be positive"),
        (["--url", "http://127.0.0.1:9", "--out", "x.json"], "--out must end in .toml"),
    ],
)
def test_bad_options_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        calibrate.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_one_line(capsys):
    assert calibrate.main(["--url", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no answer from http://127.0.0.1:9/v1/models")
    assert error.count("\n") == 1


def test_too_little_time_is_refused_and_nothing_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with in_a_thread(FakeVLLM()) as url:
        assert calibrate.main(["--url", url, "--seconds", "0.2"]) == 2
    assert "too few points for a fit: 0 of 8 prefill" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_overwritten(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    server = FakeVLLM()
    with in_a_thread(server) as url:
        assert calibrate.main(["--url", url, "--out", str(path)]) == 2
    assert f"{path} exists" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert server.lengths == []  # found out before anything was measured


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (FakeVLLM(extra=3), "is serving 3 requests"),
        (FakeVLLM(status=404), "refuses: 404"),
        (FakeVLLM(short=1), "were asked for"),
    ],
)
def test_a_server_that_does_not_do_is_told_apart(server, message, tmp_path, capsys):
    with in_a_thread(server) as url:
        out = str(tmp_path / "new.toml")
        assert calibrate.main(["--url", url, "--seconds", "5", "--out", out]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_another_version_is_a_warning_in_a_line(tmp_path, capsys):
    with in_a_thread(FakeVLLM(version="0.19.0")) as url:
        out = str(tmp_path / "new.toml")
        assert calibrate.main(["--url", url, "--seconds", "0.2", "--out", out]) == 2
    assert capsys.readouterr().err.startswith(f"warning: {url} runs vLLM 0.19.0; ")


def test_interrupted_it_writes_nothing(tmp_path, monkeypatch, capsys):
    async def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "calibrate", interrupted)
    with in_a_thread(FakeVLLM()) as url:
        assert calibrate.main(["--url", url, "--out", str(tmp_path / "new.toml")]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was written\n"
    assert list(tmp_path.iterdir()) == []
