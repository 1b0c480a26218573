"""Run folder, results, tables and report, on made-up cells whose figures are known."""

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from makespan.envs.llm.fleet import STATUS
from makespan.experiments import report, results, run_folder, summary_tables
from makespan.experiments.replay import Cell
from makespan.experiments.router_folder import RouterFolder
from makespan.experiments.run_config import RunConfig
from makespan.experiments.scenario import Scenario, fleet_config
from makespan.traces.synthetic import synthetic

REPLICAS = 2


def made_up_cell(policy, seed, latency_s, requests=40):
    """Requests a second apart, alternating between two replicas, that all take `latency_s`."""
    arrival_s = np.arange(float(requests))
    log = {
        "arrival_s": arrival_s,
        "sent_s": arrival_s,
        "first_token_s": arrival_s + latency_s / 2,
        "finish_s": arrival_s + latency_s,
        "prompt_tokens": np.full(requests, 100),
        "output_tokens": np.full(requests, 11),
        "cached_tokens": np.full(requests, 25),
        "predicted_tokens": np.full(requests, np.nan),
        "replica": np.arange(requests) % REPLICAS,
        "preemptions": np.zeros(requests, np.int64),
        "attempts": np.ones(requests, np.int64),
        "status": np.zeros(requests, np.int8),
        "session": np.full(requests, -1),
        "slo_class": np.zeros(requests, np.int64),
        "priority": np.zeros(requests, np.int64),
    }
    gauges = {name: np.ones((50, REPLICAS)) for name in ("running", "waiting", "kv_usage")}
    timeline = {"time": np.linspace(0, 40, 50), **gauges}
    return Cell(policy, seed, REPLICAS, log, timeline, requests, 0.002, 0.5)


def collected(latencies, seeds="2"):
    """Results, timing and summaries; `latencies` gives each policy's latency at each seed."""
    config = RunConfig(trace="steady", requests=50, rate=5.0, seeds=seeds, replicas=REPLICAS)
    scenario = Scenario(config, fleet_config(config), None)
    # Measuring the capacity is the scenario's business, and tested there.
    scenario.__dict__["capacity"] = 10.0
    summaries = [
        results.summarise(made_up_cell(policy, seed, latency), len(config.seed_list) == 1)
        for policy, by_seed in latencies.items()
        for seed, latency in zip(config.seed_list, by_seed, strict=False)
    ]
    return results.collect(scenario, summaries), results.timing(summaries), summaries, config


def test_policies_are_ranked_by_mean_latency():
    outcome, *_ = collected({"slow": (4.0, 6.0), "quick": (1.0, 3.0), "same": (2.0, 2.0)})
    assert [policy["policy"] for policy in outcome["policies"]] == ["quick", "same", "slow"]
    estimate = outcome["policies"][0]["metrics"]["e2e_mean_s"]
    assert estimate == pytest.approx({"mean": 2.0, "low": 1.0, "high": 3.0})


def test_the_distance_to_the_best_is_taken_within_each_seed():
    """Twice as slow at either seed: the factor is certain although the latencies are not."""
    outcome, *_ = collected({"quick": (1.0, 3.0), "slow": (2.0, 6.0)})
    assert outcome["policies"][0]["behind_best"] == {"mean": 0, "low": 0, "high": 0}
    behind = outcome["policies"][1]["behind_best"]
    assert behind == pytest.approx({"mean": 1.0, "low": 1.0, "high": 1.0})


def test_results_keep_every_seed_apart_too():
    outcome, *_ = collected({"quick": (1.0, 3.0)})
    by_seed = outcome["policies"][0]["by_seed"]
    assert [by_seed[seed]["e2e_p99_s"] for seed in ("0", "1")] == pytest.approx([1.0, 3.0])


def test_results_describe_the_run():
    outcome, *_ = collected({"quick": (1.0, 3.0)})
    assert outcome["seeds"] == [0, 1]
    assert outcome["config"]["trace"] == "steady"
    assert outcome["versions"].keys() >= {"python", "makespan", "numpy"}
    workload = outcome["workload"]
    assert workload["requests"] == 50
    assert workload["prompt_tokens_mean"] == 512
    assert workload["load"] == pytest.approx(workload["requests_per_s"] / 10)


def test_one_seed_gets_its_intervals_from_blocks():
    outcome, *_ = collected({"quick": (1.0,), "slow": (2.0,)}, seeds="1")
    assert outcome["interval"]["over"] == "blocks of requests of one seed"
    quick, slow = outcome["policies"]
    assert quick["metrics"]["e2e_mean_s"] == pytest.approx({"mean": 1.0, "low": 1.0, "high": 1.0})
    assert slow["behind_best"]["mean"] == pytest.approx(1.0)
    assert np.isnan(slow["behind_best"]["low"])


def test_a_policy_without_all_its_seeds_is_left_out():
    outcome, *_ = collected({"whole": (2.0, 2.0), "broken_off": (1.0,)})
    assert [policy["policy"] for policy in outcome["policies"]] == ["whole"]
    assert collected({"broken_off": (1.0,)})[0]["policies"] == []


def test_a_policy_that_finishes_nothing_comes_last():
    cell = made_up_cell("lost", 0, 1.0)
    rejected = np.full(40, STATUS.index("rejected"), np.int8)
    lost = dataclasses.replace(cell, log=cell.log | {"status": rejected})
    config = RunConfig(trace="steady", requests=50, rate=5.0, seeds="1", replicas=REPLICAS)
    scenario = Scenario(config, fleet_config(config), None)
    scenario.__dict__["capacity"] = np.nan
    summaries = [results.summarise(c, True) for c in (lost, made_up_cell("slow", 0, 99.0))]
    outcome, timing = results.collect(scenario, summaries), results.timing(summaries)
    assert [policy["policy"] for policy in outcome["policies"]] == ["slow", "lost"]
    assert "capacity" not in summary_tables.headline(outcome)
    assert json.loads(run_folder.to_json(outcome))["policies"][1]["metrics"]["e2e_p50_s"] == {
        "mean": None,
        "low": None,
        "high": None,
    }
    assert "lost" in report.render(config, outcome, timing, summaries)


def test_timing():
    _, timing, *_ = collected({"quick": (1.0, 3.0)})
    assert timing["quick"] == pytest.approx(
        {"decision_us": 50.0, "wall_s": 1.0, "decisions_per_s": 80.0}
    )


def test_timelines_are_thinned_evenly_and_keep_both_ends():
    cell = made_up_cell("quick", 0, 1.0)
    times = np.arange(5000.0)
    gauges = {name: np.stack([times, times], 1) for name in ("running", "waiting", "kv_usage")}
    timeline = results.summarise(
        dataclasses.replace(cell, timeline={"time": times, **gauges}), False
    ).timeline
    assert len(timeline["time"]) == results.TIMELINE_VALUES // REPLICAS
    assert (timeline["time"][0], timeline["time"][-1]) == (0, 4999)
    np.testing.assert_array_equal(timeline["waiting"][:, 1], timeline["time"])


# The printed tables.


def printed(latencies, seeds="2"):
    outcome, timing, *_ = collected(latencies, seeds)
    file = io.StringIO()
    summary_tables.console(file).print(summary_tables.summary(outcome, timing))
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00012, "0.000"),
        (0.0123, "0.012"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (12.345, "12.3"),
        (123.45, "123"),
        (12345.6, "12,346"),
        (-3.456, "-3.46"),
        (float("nan"), "-"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert summary_tables.number(value) == text


def test_tables_fit_120_columns_and_show_the_figures():
    text = printed({"a_policy_of_long_name_x": (1000.0, 3000.0), "slow": (6000.0, 7000.0)})
    assert max(map(len, text.splitlines())) <= summary_tables.WIDTH
    assert "\u2026" not in text  # nothing cut off
    assert "2,000 [1,000, 3,000]" in text
    assert "225 [133, 500]" not in text
    assert "317 [133, 500]" in text  # slow is 500 % and 133 % behind
    assert "bootstrap interval over 2 seeds" in text
    assert "25.0" in text  # prefix hits


def test_one_seed_is_said_in_the_legend():
    assert "blocks of requests of one seed" in printed({"quick": (1.0,)}, seeds="1")


def test_an_estimate_without_interval():
    alone = {"mean": 2.0, "low": float("nan"), "high": float("nan")}
    assert summary_tables.interval(alone, scale=10) == "20.0"


def test_a_wide_terminal_is_used_and_a_narrow_one_does_not_cut(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for columns, width in (("80", 120), ("200", 200)):
        monkeypatch.setenv("COLUMNS", columns)
        assert summary_tables.console(Terminal()).width == width
    assert summary_tables.console(io.StringIO()).width == 120


def test_intervals_over_a_trace_say_that_its_requests_do_not_change():
    config = RunConfig(trace="a trace", seeds="2", replicas=REPLICAS)
    trace = synthetic("steady", 50, 5.0)
    scenario = Scenario(config, fleet_config(config), trace)
    scenario.__dict__["capacity"] = 10.0
    summaries = [results.summarise(made_up_cell("quick", seed, 1.0), False) for seed in (0, 1)]
    over = results.collect(scenario, summaries)["interval"]["over"]
    assert over == "2 seeds of noise and draws on the same requests"


# The report.


def rendered(latencies, seeds="2"):
    outcome, timing, summaries, config = collected(latencies, seeds)
    return report.render(config, outcome, timing, summaries)


def page_data(page):
    (data,) = re.findall(r"^const data = (.*);$", page, re.MULTILINE)
    return json.loads(data)


def test_the_page_needs_nothing_from_the_network():
    page = rendered({"quick": (1.0, 3.0)})
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
    assert "Plotly.newPlot" in page
    assert len(page) > 1_000_000  # Plotly is inside
    assert not re.search(r"@(TITLE|DATA|PLOTLY)@", page)


def test_the_page_draws_what_the_logs_say():
    data = page_data(rendered({"slow": (4.0, 6.0), "quick": (1.0, 3.0)}))
    assert [row["policy"] for row in data["policies"]] == ["quick", "slow"]
    curve = data["latencies"]["slow"]["e2e_s"]
    assert (curve[0], curve[-1], len(curve)) == (5.0, 5.0, results.CDF_POINTS)
    timeline = data["timelines"]["quick"]
    assert len(timeline["waiting"]) == REPLICAS
    assert len(timeline["waiting"][1]) == len(timeline["time"]) == 50
    assert data["hardware"] == ["A100", "A100"]
    assert "replicas = 2" in data["config"]


def test_every_column_of_the_page_is_a_metric():
    data = page_data(rendered({"quick": (1.0, 3.0)}))
    metrics = data["policies"][0]["metrics"]
    columns = [c for table in data["tables"] for group in table for c in group["columns"]]
    assert {column["metric"] for column in columns} <= metrics.keys()
    shown = {column["metric"] for column in columns} - {"behind_best", "decision_us"}
    assert metrics.keys() - {"behind_best", "decision_us", "unfinished"} == shown


def test_a_name_cannot_break_out_of_the_page():
    policy = "</script><script>alert(1)"
    page = rendered({policy: (1.0, 3.0)})
    assert "</script><script>alert" not in page
    assert page_data(page)["policies"][0]["policy"] == policy


def test_the_verdict_names_what_cannot_be_told_apart():
    outcome, *_ = collected({"a": (1.0, 3.0), "b": (1.1, 2.9), "c": (2.0, 6.0)})
    assert report.verdict(outcome).endswith("This run cannot tell it from b.")
    outcome, *_ = collected({"a": (1.0, 3.0), "c": (2.0, 6.0)})
    assert "every other policy is slower beyond chance" in report.verdict(outcome)
    outcome, *_ = collected({"a": (1.0, 3.0)})
    assert report.verdict(outcome).endswith("2.00 [1.00, 3.00] s.")


def test_the_page_opens_on_the_best_the_well_known_and_the_last():
    ranked = [f"rule_{k}" for k in range(20)]
    ranked[9] = "round_robin"
    assert report.shown_first(ranked) == [*ranked[:4], "round_robin", "rule_19"]
    assert report.shown_first(["only"]) == ["only"]


# The folder.


def test_cells_survive_the_folder(tmp_path):
    folder = RouterFolder(tmp_path / "run")
    cell = made_up_cell("quick", 3, 1.0)
    assert not folder.holds("quick", 3)
    folder.save(cell)
    assert folder.holds("quick", 3)
    loaded = folder.load("quick", 3)
    for part in ("log", "timeline"):
        assert getattr(loaded, part).keys() == getattr(cell, part).keys()
        for name, column in getattr(cell, part).items():
            np.testing.assert_array_equal(getattr(loaded, part)[name], column)
            assert getattr(loaded, part)[name].dtype == column.dtype
    assert (loaded.decisions, loaded.decision_s, loaded.wall_s) == (40, 0.002, 0.5)
    folder.forget_cells()
    assert not folder.holds("quick", 3)


def test_the_log_has_a_row_per_request_policy_and_seed(tmp_path):
    folder = RouterFolder(tmp_path / "run")
    for policy, seed in (("quick", 0), ("quick", 1), ("slow", 0)):
        folder.save(made_up_cell(policy, seed, 2.0))
    folder.write_log([("quick", 0), ("quick", 1), ("slow", 0)])
    frame = pq.read_table(tmp_path / "run" / "log.parquet").to_pandas()
    assert len(frame) == 120
    groups = frame.groupby(["policy", "seed"], observed=True)
    assert groups.size().to_dict() == {("quick", 0): 40, ("quick", 1): 40, ("slow", 0): 40}
    assert (frame["status"] == "finished").all()
    assert frame["request"].tolist() == [*range(40)] * 3
    assert np.allclose(frame["finish_s"] - frame["arrival_s"], 2.0)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    folder = RouterFolder(tmp_path)
    folder.write_text("results.json", "old")
    with pytest.raises(ValueError, match="surrogates"):
        folder.write_text("results.json", "half \udc80")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text(encoding="utf-8") == "old"


def test_a_new_run_clears_the_old_one_and_nothing_else(tmp_path):
    folder = RouterFolder(tmp_path)
    folder.open(RunConfig(), resume=False)
    folder.save(made_up_cell("quick", 0, 1.0))
    folder.write_text("results.json", "{}")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    folder.open(RunConfig(load=0.5), resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "notes.txt"]
    assert "load = 0.5" in (tmp_path / "config.toml").read_text(encoding="utf-8")


def test_resuming_keeps_cells_of_the_same_configuration_only(tmp_path):
    folder = RouterFolder(tmp_path)
    folder.open(RunConfig(), resume=True)
    folder.save(made_up_cell("quick", 0, 1.0))
    folder.open(RunConfig(), resume=True)
    assert folder.holds("quick", 0)
    with pytest.raises(ValueError, match="another configuration"):
        folder.open(RunConfig(load=0.5), resume=True)
    assert folder.holds("quick", 0)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no run"):
        RouterFolder(tmp_path).open(RunConfig(), resume=False)
    with pytest.raises(ValueError, match="is not a folder"):
        RouterFolder(tmp_path / "thesis.tex").open(RunConfig(), resume=False)


def test_json_has_no_nan_and_no_tuples():
    text = run_folder.to_json({"a": (1, float("nan")), "b": np.float64(0.5), 3: [None, "x"]})
    assert json.loads(text) == {"a": [1, None], "b": 0.5, "3": [None, "x"]}


def test_the_page_is_shipped_beside_the_module():
    assert Path(report.__file__).with_name("report_page.html") == report.PAGE
    assert report.PAGE.is_file()
