"""The benchmark of job shops: that it measures what it says. How fast, no test asserts."""

import json

import numpy as np
import pytest

from makespan.experiments import bench
from makespan.experiments.jobshop import bench as jobshop_bench
from makespan.traces.jobshop import benchmark, read


def test_every_way_size_and_format_has_a_row(capsys):
    assert bench.main(["jobshop", "--rounds", "1", "--round-s", "0.0001", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 3 * (4 + 2 + 1 + 1 + 4)
    assert {row["size"] for row in rows} == {"15x15", "30x20", "100x20"}
    assert all(row["per_cpu_s"] > 1000 for row in rows)
    assert [row["count"] for row in rows[:3]] == [225, 600, 2000]


def test_the_printed_table(capsys, monkeypatch):
    monkeypatch.setattr(jobshop_bench, "WORKS", (jobshop_bench.validating,))
    assert bench.main(["jobshop", "--rounds", "3", "--round-s", "0.0001"]) == 0
    printed = capsys.readouterr().out
    assert "validate a schedule   15x15" in printed
    assert "processor time" in printed


def test_a_round_counts_what_was_done():
    calls = []

    def go():
        calls.append(sum(range(20_000)))

    work = jobshop_bench.Work("add", "", "sums", 3, go)
    rate = jobshop_bench.rate(work, 0.02)
    assert 3 * len(calls) / rate == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize("form", jobshop_bench.FORMS)
def test_the_files_to_read_hold_the_job_shop(form, tmp_path):
    shop = benchmark("la01")
    path = tmp_path / f"la01.{form}"
    path.write_text(jobshop_bench.FORMS[form](shop), encoding="utf-8")
    found = read(path)
    np.testing.assert_array_equal(found.machine, shop.machine)
    np.testing.assert_array_equal(found.duration, shop.duration)
    np.testing.assert_array_equal(found.first_operation, shop.first_operation)


def test_rounds_must_be_positive(capsys):
    with pytest.raises(SystemExit) as exit_:
        bench.main(["jobshop", "--rounds", "0"])
    assert exit_.value.code == 2
    assert "--rounds must be at least 1" in capsys.readouterr().err
