"""A grid on a Ray cluster of two nodes: what a sequential run gives, whatever dies on the way."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from makespan.experiments import run
from makespan.experiments.sweep import command, evaluation
from makespan.experiments.sweep.grid import measure

GRID = """
policies = ["round_robin", "power_of_two", "cache_aware"]
traces = ["sharegpt_sessions", "azure_conv"]
loads = [0.8]
seeds = [0, 4]
requests = 40
replicas = 2
settings.cache_aware.balance_abs = [8, 32]
"""
CELLS = (2 + 2) * 2 * 1 * 2
WRITTEN = ["config.toml", "results.json", "rows.jsonl"]

PATIENCE_S = 120


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sweep(address, text=GRID, name="small", *options):
    Path(f"{name}.toml").write_text(text, encoding="utf-8")
    return command.main([f"{name}.toml", "--address", address, *options])


def text_of(name, folder="runs/small"):
    return Path(folder, name).read_text(encoding="utf-8")


def rows(folder="runs/small"):
    return [json.loads(line) for line in text_of("rows.jsonl", folder).splitlines()]


def one_after_the_other(grid, cells):
    """Every cell in this process."""
    for cell in cells:
        scenario = grid.scenarios[cell.trace, cell.load]
        workload = scenario.workloads[cell.seed]
        yield cell, measure(workload, scenario.fleet, cell.variant.make, cell.seed)


def test_two_nodes_give_the_rows_of_a_sequential_run(cluster, monkeypatch, capsys):
    assert sweep(cluster) == 0
    printed = capsys.readouterr().out
    monkeypatch.setattr(evaluation, "measure_all", one_after_the_other)
    assert sweep(cluster, GRID, "sequential") == 0
    for name in WRITTEN:
        assert text_of(name) == text_of(name, "runs/sequential")
    assert capsys.readouterr().out == printed.replace("runs/small", "runs/sequential")
    lines = [text_of("cells/metrics.jsonl", f"runs/{name}") for name in ("small", "sequential")]
    assert sorted(lines[0].splitlines()) == sorted(lines[1].splitlines())
    found = [(r["trace"], r["policy"], *r["settings"].values(), r["seed"]) for r in rows()]
    assert len(set(found)) == len(found) == CELLS


def test_a_row_is_what_makespan_run_measures(cluster):
    """The draws of a policy and the noise of predictions are the same, too."""
    text = 'policies = ["power_of_two", "lookahead"]\ntraces = ["azure_conv"]\nloads = [1.2]\n'
    assert sweep(cluster, text + "seeds = [0, 4]\nrequests = 200\nreplicas = 3\n") == 0
    options = ["--trace", "azure_conv", "--load", "1.2", "--seeds", "0,4", "--replicas", "3"]
    policies = ["--policy", "power_of_two,lookahead"]
    run.main([*options, *policies, "--requests", "200", "--name", "alone"])
    found = json.loads(text_of("results.json", "runs/alone"))["policies"]
    by_seed = {policy["policy"]: policy["by_seed"] for policy in found}
    for row in rows():
        expected = by_seed[row["policy"]][str(row["seed"])]
        assert {name: row[name] for name in expected} == expected


DIES_ONCE = """
import os, signal
from pathlib import Path

class DiesOnce:
    def __init__(self, seed):
        attempts = Path({folder!r}, str(seed))
        attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
        if attempts.read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, decision):
        return 0
"""


def test_a_worker_that_is_killed_is_replaced_and_no_row_is_lost_or_doubled(cluster):
    Path("attempts").mkdir()
    source = DIES_ONCE.format(folder=str(Path("attempts").resolve()))
    Path("mine.py").write_text(source, encoding="utf-8")
    text = """
    policies = ["round_robin", "mine.py:DiesOnce"]
    traces = ["azure_conv"]
    seeds = [0, 1]
    requests = 40
    """
    assert sweep(cluster, text) == 0
    assert [path.read_text() for path in Path("attempts").iterdir()] == ["xx", "xx"]
    found = [(row["policy"], row["seed"]) for row in rows()]
    assert found == [(p, s) for s in (0, 1) for p in ("round_robin", "DiesOnce")]
    assert len(text_of("cells/metrics.jsonl").splitlines()) == len(found)
    assert all(row["failed"] == row["unfinished"] == 0 for row in rows())


SLOW = """
import time
from pathlib import Path

class Slow:
    def __init__(self, seed):
        with Path({log!r}).open("a") as file:
            print(seed, file=file)
        time.sleep(0.5)

    def __call__(self, decision):
        return 0
"""


def test_a_sweep_whose_driver_is_killed_goes_on_where_it_stopped(cluster, capsys):
    log = Path("measured").resolve()
    Path("mine.py").write_text(SLOW.format(log=str(log)), encoding="utf-8")
    text = 'policies = ["random", "mine.py:Slow"]\ntraces = ["azure_conv"]\nrequests = 40\n'
    text += "seeds = [0, 1, 2, 3, 4, 5]\n"
    assert sweep(cluster, text, "whole") == 0
    log.unlink()

    Path("small.toml").write_text(text, encoding="utf-8")
    program = "import sys; from makespan.experiments.cli import main; sys.exit(main())"
    arguments = ["sweep", "small.toml", "--address", cluster]
    driver = subprocess.Popen([sys.executable, "-c", program, *arguments])
    kept = Path("runs/small/cells/metrics.jsonl")
    patience = time.monotonic() + PATIENCE_S
    while not (kept.exists() and len(kept.read_text().splitlines()) >= 4):
        assert time.monotonic() < patience
        assert driver.poll() is None
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    before = {tuple(json.loads(line)[:4]) for line in kept.read_text().splitlines()}
    assert 4 <= len(before) < 12
    assert not Path("runs/small/results.json").exists()
    capsys.readouterr()

    wait_for_quiet(log)
    log.unlink()
    assert sweep(cluster, text) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert sweep(cluster, text, "small", "--resume") == 0
    for name in WRITTEN:
        assert text_of(name) == text_of(name, "runs/whole")
    lines = kept.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len({tuple(json.loads(line)[:4]) for line in lines}) == 12
    slow = sum(key[1] == "Slow" for key in before)
    assert len(log.read_text().splitlines()) == 6 - slow


def wait_for_quiet(log):
    """Until the workers of a driver that was killed are gone."""
    length = -1
    while length != (length := len(log.read_text())):
        time.sleep(1.5)


def test_a_policy_that_fails_is_named_and_what_is_finished_is_kept(cluster, capsys):
    Path("mine.py").write_text("def broken(decision): return 1 / 0\n", encoding="utf-8")
    text = 'policies = ["random", "mine.py:broken"]\nrequests = 40\nseeds = [0]\nloads = [0.5]\n'
    assert sweep(cluster, text) == 1
    captured = capsys.readouterr()
    message = "error: broken on sharegpt_sessions, load 0.5, seed 0: ZeroDivisionError"
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_interrupted_it_shows_what_is_finished_and_resumes(cluster, monkeypatch, capsys):
    def interrupted(grid, cells):
        for count, finished in enumerate(one_after_the_other(grid, cells)):
            if count == 9:
                raise KeyboardInterrupt
            yield finished

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "measure_all", interrupted)
        assert sweep(cluster) == 130
    captured = capsys.readouterr()
    assert "--resume goes on" in captured.err
    assert "sharegpt_sessions, load 0.8" in captured.out
    assert len(rows()) == 9
    assert sweep(cluster, GRID, "small", "--resume", "--json") == 0
    assert capsys.readouterr().out == text_of("results.json")
    assert len(rows()) == CELLS
