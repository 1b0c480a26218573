"""The run command, end to end on small workloads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from makespan.experiments import run, run_router, scenario
from makespan.experiments.replay import REPORT_EVERY, Stopwatch
from makespan.experiments.run_config import RunConfig
from makespan.experiments.scenario import capacity, prepare, stream
from makespan.traces import read
from makespan.traces.workload import Workload

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--requests", "60", "--rate", "8", "--replicas", "2", "--policy", "random,least_requests"]
AZURE = ROOT / ".." / "shared" / "data" / "llm" / "AzureLLMInferenceTrace_conv.csv"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


WRITTEN = ["config.toml", "log.parquet", "report.html", "results.json", "timing.json"]


def test_a_run_prints_its_table_and_writes_its_folder(capsys):
    assert run.main([*SMALL, "--name", "small"]) == 0
    printed = capsys.readouterr().out
    assert "least_requests" in printed
    assert "written to runs/small" in printed
    assert files("runs/small") == WRITTEN
    log = pq.read_table("runs/small/log.parquet").to_pandas()
    assert len(log) == 60 * 2 * 3
    results = json.loads(Path("runs/small/results.json").read_text(encoding="utf-8"))
    for policy in results["policies"]:
        rows = log[(log["policy"] == policy["policy"]) & (log["seed"] == 1)]
        latency = (rows["finish_s"] - rows["arrival_s"]).mean()
        assert policy["by_seed"]["1"]["e2e_mean_s"] == pytest.approx(latency)


def test_every_policy_sees_the_same_workload():
    run.main([*SMALL, "--name", "small", "--seeds", "2"])
    log = pq.read_table("runs/small/log.parquet").to_pandas()
    given = ["arrival_s", "prompt_tokens", "predicted_tokens", "session"]
    cells = {
        key: rows[given].to_numpy() for key, rows in log.groupby(["policy", "seed"], observed=True)
    }
    for seed in (0, 1):
        np.testing.assert_array_equal(cells["random", seed], cells["least_requests", seed])
    assert not np.array_equal(cells["random", 0], cells["random", 1])


def test_the_same_seed_gives_the_same_bytes():
    for name in ("first", "second"):
        run.main([*SMALL, "--name", name, "--seeds", "2"])
    for name in ("results.json", "log.parquet", "config.toml"):
        assert Path("runs/first", name).read_bytes() == Path("runs/second", name).read_bytes()


def test_json_stands_alone_on_stdout(capsys):
    assert run.main([*SMALL, "--json", "--seeds", "1", "--out", "elsewhere"]) == 0
    printed = capsys.readouterr().out
    (folder,) = Path("elsewhere").iterdir()
    assert printed == (folder / "results.json").read_text(encoding="utf-8")


def test_a_run_is_repeated_from_its_config_file():
    run.main([*SMALL, "--name", "first", "--seeds", "4,"])
    run.main(["--config", "runs/first/config.toml", "--name", "again"])
    first, again = (Path("runs", name, "results.json").read_bytes() for name in ("first", "again"))
    assert first == again


def test_options_change_what_the_config_file_says():
    run.main([*SMALL, "--name", "first", "--seeds", "1"])
    command = run_router.parse(["--config", "runs/first/config.toml", "--replicas", "3"])
    assert (command.run.replicas, command.run.requests) == (3, 60)


def test_an_interrupted_run_keeps_finished_policies_and_resumes(monkeypatch, capsys):
    arguments = [*SMALL, "--name", "small", "--seeds", "2"]
    run.main(arguments)
    whole = {
        name: Path("runs/small", name).read_bytes() for name in ("results.json", "log.parquet")
    }
    replayed = []

    def interrupted_at_the_fourth(label, seed, *rest):
        replayed.append((label, seed))
        if len(replayed) == 4:
            raise KeyboardInterrupt
        return replay(label, seed, *rest)

    replay = run_router.replay
    monkeypatch.setattr(run_router, "replay", interrupted_at_the_fourth)
    assert run.main(arguments) == 130
    assert "--resume" in capsys.readouterr().err
    assert files("runs/small") == ["cells", *WRITTEN]
    results = json.loads(Path("runs/small/results.json").read_text(encoding="utf-8"))
    assert [policy["policy"] for policy in results["policies"]] == ["random"]
    assert files("runs/small/cells") == ["least_requests-0.npz", "random-0.npz", "random-1.npz"]

    assert run.main([*arguments, "--resume"]) == 0
    assert replayed[4:] == [("least_requests", 1)]
    assert files("runs/small") == WRITTEN
    for name, content in whole.items():
        assert Path("runs/small", name).read_bytes() == content


def test_interrupted_before_any_policy_finished(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_router, "replay", interrupted)
    assert run.main([*SMALL, "--name", "small"]) == 130
    assert files("runs/small") == ["config.toml"]
    assert capsys.readouterr().out == ""


def test_a_policy_of_ones_own_and_a_mixed_fleet(capsys):
    Path("mine.py").write_text("def first(decision): return 0\n", encoding="utf-8")
    arguments = ["--policy", "mine.py:first", "--replicas", "3", "--hardware", "A100,H100"]
    assert run.main([*arguments, "--requests", "20", "--seeds", "1", "--name", "own"]) == 0
    assert "2 x A100 + 1 x H100" in capsys.readouterr().out
    log = pq.read_table("runs/own/log.parquet").to_pandas()
    assert (log["replica"] == 0).all()
    assert (log["policy"] == "first").all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "least_request"], "unknown router policy 'least_request'. Did you mean"),
        (["--hardware", "A1000"], "Did you mean 'A100'"),
        (["--model", "Llama-2-7"], "Did you mean 'Llama-2-7B'"),
        (["--trace", "sharegpt_session"], "Did you mean 'sharegpt_sessions'"),
        (["--trace", "missing.csv"], "missing.csv"),
        (["--trace", "bad.csv"], "bad.csv:3"),
        (["--config", "bad.csv"], "bad.csv"),
        (["--config", "missing.toml"], "missing.toml"),
        (["--replicas", "0"], "--replicas must be at least 1"),
        (["--name", "a/b"], "--name must be the name of a folder"),
        (["--name", ".."], "--name must be the name of a folder"),
        (["--trace", "two.csv", "--load", "0.5"], "too short to measure capacity"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(arguments, message, capsys):
    Path("bad.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,-5,10\n", encoding="utf-8"
    )
    Path("two.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,10,10\n", encoding="utf-8"
    )
    assert run.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not Path("runs").exists()


def test_requests_that_a_trace_reader_leaves_out_are_said_in_a_line(capsys):
    Path("holes.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.99,0,109\n"
        "2023-11-16 18:15:52.22,879,55\n",
        encoding="utf-8",
    )
    assert run.main(["--trace", "holes.csv", "--policy", "random", "--seeds", "1"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: holes.csv: left out 1 of 3 requests")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--polcy", "random"], "--policy"), (["--engine.watermark", "3"], "watermark must be in")],
)
def test_unknown_options_are_answered_by_the_parser(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        run.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_the_file_runs_as_a_script():
    """The folder of the script is first on the module path then: its names must hide no others."""
    command = [sys.executable, str(ROOT / "experiments" / "run.py"), "--env", "llm_router"]
    done = subprocess.run([*command, *SMALL, "--seeds", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "least_requests" in done.stdout


# The scenario.


def test_load_scales_a_trace_to_its_share_of_capacity():
    if not AZURE.exists():
        pytest.skip("the Azure trace is not here")
    half, as_is = (
        prepare(RunConfig(trace=str(AZURE), requests=500, load=load)) for load in (0.5, 0.0)
    )
    assert half.workloads[0].rate == pytest.approx(0.5 * half.capacity)
    assert as_is.workloads[0] is as_is.workloads[1]  # a trace has no other draw
    np.testing.assert_array_equal(as_is.workloads[0].arrival_s, read(AZURE).arrival_s[:500])
    np.testing.assert_array_equal(half.workloads[0].prompt_tokens, as_is.workloads[0].prompt_tokens)


def test_a_synthetic_workload_is_drawn_anew_by_every_seed_near_the_rate():
    drawn = prepare(RunConfig(trace="steady", rate=4.0, requests=2000))
    first, second = drawn.workloads[0], drawn.workloads[1]
    assert not np.array_equal(first.arrival_s, second.arrival_s)
    assert first.rate == pytest.approx(4.0, rel=0.1)
    assert drawn.rate == 4.0


def test_a_synthetic_workload_asks_for_most_of_capacity_by_default(monkeypatch):
    monkeypatch.setattr(scenario, "CAPACITY_REQUESTS", 1000)
    drawn = prepare(RunConfig(trace="steady"))
    assert drawn.rate == pytest.approx(scenario.DEFAULT_LOAD * drawn.capacity)


def steady(requests, prompt=512, output=128):
    return Workload(np.zeros(requests), np.full(requests, prompt), np.full(requests, output))


def test_capacity_adds_up_over_replicas():
    one = capacity(steady(1500), scenario.fleet_config(RunConfig(replicas=1)))
    four = capacity(steady(1500), scenario.fleet_config(RunConfig(replicas=4)))
    mixed = scenario.fleet_config(RunConfig(replicas=3, hardware="A100,H100"))
    fast = capacity(steady(1500), scenario.fleet_config(RunConfig(replicas=1, hardware="H100")))
    assert four == pytest.approx(4 * one)
    assert capacity(steady(1500), mixed) == pytest.approx(2 * one + fast)


def test_a_fleet_keeps_up_below_capacity_and_not_above():
    """Below, the run ends soon after the last arrival; above, a backlog is left to be drained."""

    def overtime(load):
        size = ["--requests", "3000", "--replicas", "1", "--seeds", "1"]
        options = ["--policy", "round_robin", "--load", str(load), "--name", f"load{load}"]
        assert run.main(["--trace", "steady", *size, *options]) == 0
        log = pq.read_table(f"runs/load{load}/log.parquet").to_pandas()
        return log["finish_s"].max() / log["arrival_s"].max() - 1

    assert overtime(0.8) < 0.1
    assert overtime(1.5) > 0.3


def test_capacity_is_unknown_where_nothing_finishes_at_different_times():
    fleet = scenario.fleet_config(RunConfig())
    assert np.isnan(capacity(steady(2), fleet))
    too_long = steady(4, prompt=100_000)
    assert np.isnan(capacity(too_long, fleet))


def test_sources_of_randomness_have_seeds_of_their_own():
    seeds = {stream(seed, source) for seed in range(3) for source in range(3)}
    assert len(seeds) == 9


def test_the_stopwatch_counts_and_reports():
    seen = []
    stopwatch = Stopwatch(lambda decision: decision + 1, seen.append)
    assert [stopwatch(k) for k in range(3 * REPORT_EVERY)] == [*range(1, 3 * REPORT_EVERY + 1)]
    assert seen == [REPORT_EVERY, 2 * REPORT_EVERY, 3 * REPORT_EVERY]
    assert stopwatch.decisions == 3 * REPORT_EVERY
    assert 0 < stopwatch.elapsed_s < 10
