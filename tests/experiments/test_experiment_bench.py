"""The benchmark: that it measures what it says. How fast the machine is, no test asserts."""

import json

import numpy as np
import pytest

from makespan.experiments import bench
from makespan.experiments.bench import CellConfig


def test_the_work_is_that_of_the_published_measurement():
    workload = bench.bench_workload(CellConfig(20_000, 4, "off"))
    assert len(workload) == 20_000
    assert workload.rate == pytest.approx(12, rel=0.03)
    # Azure conversation trace of 2023: means of 1155 and 211 tokens.
    assert workload.prompt_tokens.mean() == pytest.approx(1155, rel=0.05)
    assert workload.output_tokens.mean() == pytest.approx(211, rel=0.05)
    assert len(workload.hashes) == 0


def test_sessions_share_prefixes():
    workload = bench.bench_workload(CellConfig(500, 4, "sessions"))
    assert len(np.unique(workload.hashes)) < 0.8 * len(workload.hashes)


@pytest.mark.parametrize(("caching", "enabled"), [("off", False), ("on", True), ("sessions", True)])
def test_the_fleet(caching, enabled):
    fleet = bench.bench_fleet(CellConfig(10, 16, caching))
    assert len(fleet.replicas) == 16
    assert {replica.engine.enable_prefix_caching for replica in fleet.replicas} == {enabled}
    assert {(r.hardware, r.model) for r in fleet.replicas} == {("A100", "Llama-2-7B")}


def test_a_cell_counts_the_work_done():
    first, second = (bench.measure(CellConfig(300, 2, "off")) for _ in range(2))
    assert first["requests_per_s"] == pytest.approx(300 / first["seconds"])
    # The same work whatever the clock says: at least a step per answer's token of one replica.
    steps = [cell["steps_per_s"] * cell["seconds"] for cell in (first, second)]
    assert steps[0] == pytest.approx(steps[1])
    assert steps[0] > 300
    assert 1 <= first["jumps_per_request"] < steps[0] / 300
    assert first["share_of_clock"] == pytest.approx(
        first["requests_per_s"] / first["clock_events_per_s"]
    )
    assert first["peak_memory_mb"] > 20


def test_exponents_of_made_up_cells():
    def cell(caching, replicas, requests, seconds):
        return {"caching": caching, "replicas": replicas, "requests": requests, "seconds": seconds}

    fits = bench.growth_exponents(
        [cell("off", 4, n, n / 1000) for n in (10, 100, 1000)]
        + [cell("on", 4, n, n**1.5) for n in (10, 100)]
        + [cell("off", 16, 10, 1.0)]
    )
    assert [(fit["caching"], fit["replicas"]) for fit in fits] == [("off", 4), ("on", 4)]
    assert [fit["exponent"] for fit in fits] == pytest.approx([1.0, 1.5])


def test_the_bare_clock_ticks():
    assert bench.bare_clock_rate(4000) > 1000


def test_the_environment_steps():
    assert bench.environment_rate(600) > 10


def test_the_command_measures_in_processes_of_their_own(capsys):
    arguments = ["llm", "--requests", "200", "400", "--replicas", "2", "--caching", "on"]
    assert bench.main([*arguments, "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert [cell["requests"] for cell in outcome["cells"]] == [200, 400]
    assert [fit["replicas"] for fit in outcome["growth"]] == [2]
    assert outcome["environment_decisions_per_s"] > 10


def test_the_printed_table(capsys, monkeypatch):
    measured = {"caching": "off", "requests": 200, "replicas": 2, "rejected": 1}
    measured |= {"seconds": 0.5, "cpu_seconds": 0.4, "requests_per_s": 400.0, "steps_per_s": 9e4}
    measured |= {
        "jumps_per_request": 2.5,
        "clock_events_per_s": 6e5,
        "share_of_clock": 0.25,
        "peak_memory_mb": 150.0,
    }

    def in_own_process(task):
        return 25_000.0 if task == "environment" else measured | json.loads(task)

    monkeypatch.setattr(bench, "in_own_process", in_own_process)
    arguments = ["llm", "--requests", "200", "400", "--replicas", "2", "--caching", "off"]
    assert bench.main(arguments) == 0
    printed = capsys.readouterr().out
    for text in ("90,000", "0.250", "25,000 decisions/s", "requests ** 0.000"):
        assert text in printed


def test_sizes_must_be_positive(capsys):
    with pytest.raises(SystemExit) as exit_:
        bench.main(["llm", "--requests", "0"])
    assert exit_.value.code == 2
    assert "--requests must be at least 1" in capsys.readouterr().err
