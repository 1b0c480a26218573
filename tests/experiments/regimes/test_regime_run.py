"""The comparison over regimes from the command line, on cells of a few requests."""

import json
from pathlib import Path

import pytest

from makespan.envs.llm.config import PredictorConfig
from makespan.experiments import run, run_router
from makespan.experiments.regimes import compare, suite, table, traffic
from makespan.experiments.regimes.cells import CellFile, cores, measure, measure_all
from makespan.experiments.regimes.regime import SUITES
from makespan.experiments.run_config import RunConfig
from makespan.traces import catalogue

SMALL = ["--policy", "random,lmetric", "--trace", "regimes", "--requests", "12", "--seeds", "2"]
REGIMES = SUITES["regimes"]
FEW = [regime for regime in REGIMES if regime.load == 1.0 and regime.fleet == "mixed"]
CELLS = len(FEW) * 2 * 2
WRITTEN = ["cells", "config.toml", "regimes.md", "results.json"]


def only(regimes, monkeypatch):
    monkeypatch.setitem(suite.SUITES, "regimes", regimes)


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """The cells that are measured: of few regimes, capacity known roughly, in this process.

    The folder is the test's own, and no trace was fetched.
    """
    only(FEW, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(traffic, "CAPACITY_REQUESTS", 100)
    measured = []

    def in_this_process(cells, processes):
        for cell in cells:
            measured.append(cell.key)
            yield cell, measure(cell)

    monkeypatch.setattr(compare, "measure_all", in_this_process)
    return measured


def text_of(name, folder="runs/small"):
    return Path(folder, name).read_text(encoding="utf-8")


def files(folder="runs/small"):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_run_prints_one_table_and_writes_its_folder(monkeypatch, capsys):
    only(REGIMES, monkeypatch)
    assert run.main([*SMALL, "--name", "small"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 120
    assert "24 regimes" in lines[0]
    titles = [k for k, line in enumerate(lines) if line.startswith(tuple(r.name for r in REGIMES))]
    assert len(titles) == 24
    assert lines.index("Over all regimes") < titles[0]
    assert sum(line.startswith("lmetric ") for line in lines) == 25
    assert files() == WRITTEN
    assert len(text_of("cells/metrics.jsonl").splitlines()) == 24 * 2 * 2


def test_results_hold_every_regime_policy_and_seed():
    run.main([*SMALL, "--name", "small"])
    results = json.loads(text_of("results.json"))
    assert results["seeds"] == [0, 1]
    assert [regime["regime"] for regime in results["regimes"]] == [r.name for r in FEW]
    for regime in results["regimes"]:
        assert regime["requests_per_s"] == regime["load"] * regime["capacity_requests_per_s"]
        assert {row["policy"] for row in regime["policies"]} == {"random", "lmetric"}
        for row in regime["policies"]:
            values = [row["by_seed"][seed]["e2e_mean_s"] for seed in ("0", "1")]
            assert row["metrics"]["e2e_mean_s"]["mean"] == pytest.approx(sum(values) / 2)
    capacity = {r["capacity_requests_per_s"] for r in results["regimes"]}
    assert len(capacity) == len(FEW)


def test_policies_face_the_same_requests():
    small = RunConfig(trace="regimes", policy="random,lmetric", requests=12, seeds="2")
    opened = suite.open_suite(small, run_router.Command(small, name="small").folder, resume=False)
    first, second, third, _ = opened.cells(FEW[0])
    assert (first.policy, second.policy, third.seed) == ("random", "lmetric", 1)
    assert (first.traffic, first.rate, first.seed) == (second.traffic, second.rate, second.seed)
    assert [len(cell.fleet.replicas) for cell in opened.all_cells] == [4] * CELLS


def test_in_one_fleet_a_replica_fails_while_requests_arrive():
    config = RunConfig(trace="unseen", policy="lmetric", requests=12, seeds="1")
    opened = suite.open_suite(config, run_router.Command(config, name="small").folder, resume=False)
    failing = [regime for regime in opened.regimes if regime.fleet == "failing"]
    assert len(failing) == 3
    for regime in opened.regimes:
        outages = opened.cells(regime)[0].fleet.outages
        assert len(outages) == (regime in failing)
        for outage in outages:
            assert outage.start_s + outage.duration_s == pytest.approx(
                0.5 * 12 / opened.rate(regime)
            )


def test_traces_that_are_not_here_are_stood_in_for_and_the_table_says_so(capsys):
    run.main([*SMALL, "--name", "small"])
    printed = capsys.readouterr().out
    for said in (printed, text_of("regimes.md")):
        assert "azure: synthetic azure_conv stands in for the trace (makespan" in said
        assert "makespan traces fetch mooncake-conversation" in said
        assert "windows" not in said
    workloads = json.loads(text_of("results.json"))["workloads"]
    assert workloads["azure"]["stands_in_for"] == "azure-conv-2023"
    assert workloads["sessions"]["stands_in_for"] is None
    assert printed.count("(synthetic azure_conv stands in)") == 1


def azure_trace(folder, outputs):
    """A trace of as many requests as there are lengths of output."""
    Path(folder).mkdir()
    rows = [f"2023-11-16 18:{k // 60:02}:{k % 60:02}.0,99,{n}" for k, n in enumerate(outputs)]
    Path(folder, "AzureLLMInferenceTrace_conv.csv").write_text(
        "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n", encoding="utf-8"
    )


def test_a_trace_out_of_a_folder_is_named(capsys):
    azure_trace("data", range(10, 130))
    assert run.main([*SMALL, "--data", "data", "--name", "small"]) == 0
    printed = capsys.readouterr().out
    assert "second half, AzureLLMInferenceTrace_conv.csv" in printed
    assert "windows overlap" in printed.replace("\n", " ")
    assert 'data = "data"' in text_of("config.toml")


def test_the_markdown_has_a_row_for_every_policy_and_regime():
    run.main([*SMALL, "--name", "small"])
    rows = [line for line in text_of("regimes.md").splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 2 + 2 + len(FEW) * 2
    for row in rows[4:]:
        assert row.count("|") == 10
    assert sum(row.startswith("| azure mixed 1.0 |") for row in rows) == 2


def test_json_stands_alone_on_stdout(capsys):
    assert run.main([*SMALL, "--json", "--out", "elsewhere"]) == 0
    (folder,) = Path("elsewhere").iterdir()
    assert folder.name.startswith("llm_router-regimes-")
    assert capsys.readouterr().out == text_of("results.json", str(folder))


def test_a_run_is_repeated_from_its_config_file():
    run.main([*SMALL, "--name", "small"])
    run.main(["--config", "runs/small/config.toml", "--name", "again"])
    assert text_of("results.json") == text_of("results.json", "runs/again")


def test_an_interrupted_run_keeps_its_cells_and_resumes(quick, monkeypatch, capsys):
    run.main([*SMALL, "--name", "small"])
    whole = {name: text_of(name) for name in WRITTEN[1:]}
    one_by_one = compare.measure_all

    def interrupted(cells, processes):
        for count, finished in enumerate(one_by_one(cells, processes)):
            if count == 9:
                raise KeyboardInterrupt
            yield finished

    monkeypatch.setattr(compare, "measure_all", interrupted)
    assert run.main([*SMALL, "--name", "small"]) == 130
    captured = capsys.readouterr()
    assert "--resume" in captured.err
    assert "2 of 3 regimes" in captured.out
    assert len(json.loads(text_of("results.json"))["regimes"]) == 2

    monkeypatch.setattr(compare, "measure_all", one_by_one)
    quick.clear()
    assert run.main([*SMALL, "--name", "small", "--resume"]) == 0
    assert len(quick) == CELLS - 9
    assert {name: text_of(name) for name in whole} == whole
    quick.clear()
    assert run.main([*SMALL, "--name", "small", "--resume"]) == 0
    assert quick == []
    assert {name: text_of(name) for name in whole} == whole


def test_interrupted_before_any_regime_is_finished(monkeypatch, capsys):
    def interrupted(cells, processes):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(compare, "measure_all", interrupted)
    assert run.main([*SMALL, "--name", "small"]) == 130
    assert capsys.readouterr().out == ""
    assert files() == ["config.toml"]


def test_a_new_run_forgets_the_old_cells(quick):
    run.main([*SMALL, "--name", "small"])
    quick.clear()
    run.main([*SMALL, "--name", "small"])
    assert len(quick) == CELLS


def test_cells_on_other_requests_are_not_kept(quick, monkeypatch):
    """A trace that was fetched since the run was interrupted takes the stand-in's place."""
    run.main([*SMALL, "--name", "small"])
    path = Path("runs/small/cells/metrics.jsonl")
    lines = path.read_text(encoding="utf-8").replace("synthetic azure_conv", "the trace")
    path.write_text(lines, encoding="utf-8")
    quick.clear()
    assert run.main([*SMALL, "--name", "small", "--resume"]) == 0
    assert len(quick) == CELLS / 3


def test_cells_are_kept_to_the_last_digit_and_half_lines_are_not(tmp_path):
    kept = CellFile(tmp_path / "cells" / "metrics.jsonl")
    assert kept.read() == {}
    key = ("azure mixed 0.5", "random", 3, "a trace")
    kept.append(key, {"e2e_mean_s": 0.1 + 0.2, "tpot_mean_s": float("nan")})
    with kept.path.open("a", encoding="utf-8") as file:
        file.write('["azure mixed 0.5", "lmet')
    assert kept.read()[key] == pytest.approx(
        {"e2e_mean_s": 0.1 + 0.2, "tpot_mean_s": float("nan")}, rel=0, nan_ok=True
    )
    other = (*key[:2], 4, key[3])
    kept.append(other, {"e2e_mean_s": 1.0})
    assert list(kept.read()) == [key, other]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SMALL, "--load", "0.8"], "--load is fixed"),
        ([*SMALL, "--tensor-parallel", "2"], "--tensor-parallel is fixed"),
        (["--policy", "all", "--hardware", "H100"], "--hardware is fixed"),
        ([*SMALL, "--data", "short"], "AzureLLMInferenceTrace_conv.csv is too short to measure"),
        ([*SMALL, "--data", "nowhere"], "--data: nowhere is not a folder"),
        (["--data", "."], "--data is for the comparison over regimes"),
        (["--trace", "regimes", "--policy", "lmetrics"], "Did you mean 'lmetric'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(arguments, message, capsys):
    azure_trace("short", [10] * 60)
    assert run.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not Path("runs").exists()


# What the command line means.


@pytest.mark.parametrize(
    ("arguments", "trace", "seeds"),
    [
        ([], "sharegpt_sessions", 3),
        (["--policy", "all"], "regimes", 10),
        (["--policy=all", "--seeds", "4"], "regimes", 4),
        (["--policy", "all", "--trace", "steady"], "steady", 3),
        (["--policy", "lmetric"], "sharegpt_sessions", 3),
        (["--policy", "lmetric", "--trace", "regimes"], "regimes", 10),
    ],
)
def test_all_policies_and_no_trace_are_the_comparison_over_regimes(arguments, trace, seeds):
    config = run_router.parse(arguments).run
    assert (config.trace, len(config.seed_list)) == (trace, seeds)


def test_the_trace_of_a_config_file_is_kept(tmp_path):
    (tmp_path / "config.toml").write_text('trace = "steady"\n', encoding="utf-8")
    config = run_router.parse(["--config", "config.toml", "--policy", "all"]).run
    assert (config.trace, config.policy) == ("steady", "all")


# Processes.


OWN = "def by_prediction(decision): return int(decision.request.predicted_tokens) % 4\n"


def test_two_processes_give_the_same_bytes_as_one(monkeypatch, capsys):
    Path("mine.py").write_text(OWN, encoding="utf-8")
    monkeypatch.setattr(compare, "measure_all", measure_all)
    only(FEW[1:], monkeypatch)
    config = RunConfig(
        trace="regimes",
        policy="random,mine.py:by_prediction",
        requests=12,
        seeds="2",
        predictor=PredictorConfig(kind="oracle", error=0.5),
    )
    for processes in (1, 2):
        folder = run_router.Command(config, name=f"by{processes}").folder
        opened = suite.open_suite(config, folder, resume=False)
        assert compare.compare(opened, as_json=False, processes=processes) == 0
    assert "by_prediction" in capsys.readouterr().out
    for name in WRITTEN[1:]:
        assert text_of(name, "runs/by1") == text_of(name, "runs/by2")
    ways = [
        sorted(text_of("cells/metrics.jsonl", f"runs/by{processes}").splitlines())
        for processes in (1, 2)
    ]
    assert ways[0] == ways[1]
    assert len(ways[0]) == 2 * 2 * 2


def test_there_is_at_least_one_core():
    assert cores() >= 1


# The table.


def test_spans():
    estimate = {"mean": 0.0781, "low": 0.0669, "high": 0.15}
    assert table.span(estimate, table.short) == ".078 [.067-.150]"
    assert table.span(estimate, table.short, 100) == "7.81 [6.69-15.0]"
    assert table.span(dict.fromkeys(estimate, 0.0), table.short) == "0"
    assert table.short(12345.6) == "12346"
    alone = {"mean": 1.0, "low": float("nan"), "high": float("nan")}
    assert table.span(alone, table.ratio) == "1.000"
    assert [table.ratio(value) for value in (0.98765, 12.345, 170.4)] == ["0.988", "12.3", "170"]


def test_rules_that_were_not_run_are_not_named(capsys):
    Path("mine.py").write_text("def last(decision): return 3\n", encoding="utf-8")
    arguments = ["--policy", "mine.py:last", "--trace", "regimes", "--requests", "12"]
    assert run.main([*arguments, "--seeds", "3,"]) == 0
    printed = capsys.readouterr().out
    assert "12 requests, seeds 3" in printed
    assert "the same over the best single rule, the rule" in " ".join(printed.split())
    assert "best rule lmetric" not in printed
    assert "[low-high]" not in printed
