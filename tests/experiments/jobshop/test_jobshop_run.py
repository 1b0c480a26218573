"""The comparison on job shops, end to end on small ones."""

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from makespan.baselines.jobshop import dispatch
from makespan.baselines.jobshop.insertion import insa
from makespan.envs.jobshop.improve.episode import first_schedule
from makespan.experiments import run
from makespan.experiments.jobshop import instances, policies
from makespan.experiments.jobshop import run as jobshop_run
from makespan.traces.jobshop import BENCHMARKS, benchmark

WRITTEN = ["config.toml", "log.parquet", "report.html", "results.json", "timing.json"]
SAME = ["log.parquet", "results.json"]
"""What does not depend on the clock."""

SMALL = ["--env", "job_shop", "--set", "ft06,la01", "--policy", "mwkr,spt:active,random:4"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def results_of(name):
    return json.loads(Path("runs", name, "results.json").read_text(encoding="utf-8"))


def test_a_run_prints_its_table_and_writes_its_folder(capsys):
    assert run.main([*SMALL, "--name", "small"]) == 0
    printed = capsys.readouterr().out
    assert "2 job shops: 1 of 6x6, 1 of 10x5" in printed
    assert "written to runs/small" in printed
    assert files("runs/small") == WRITTEN
    by_policy = {policy["policy"]: policy for policy in results_of("small")["policies"]}
    assert by_policy["mwkr"]["makespan"]["ft06"] == [61]
    gap = by_policy["mwkr"]["gap_by_size"]["6x6"]
    assert gap["mean"] == pytest.approx(61 / 55 - 1)
    assert gap["low"] is None  # of one instance


def test_a_table_with_many_sizes_is_not_cut(capsys):
    names = "ft06,la01,la06,la16,la21,la31,ta01,ta11,ta21,ta31"
    assert run.main(["--env", "job_shop", "--set", names, "--policy", "spt,mor_spt"]) == 0
    assert "\u2026" not in capsys.readouterr().out


def test_the_log_has_a_row_per_operation_which_make_the_schedules():
    run.main([*SMALL, "--name", "small"])
    log = pq.read_table("runs/small/log.parquet").to_pandas()
    assert len(log) == 3 * (36 + 50)
    shop = benchmark("la01")
    rows = log[(log["policy"] == "spt:active") & (log["instance"] == "la01")]
    schedule = dispatch(shop, "spt", "active")
    np.testing.assert_array_equal(rows["start"], schedule.start)
    np.testing.assert_array_equal(rows["end"], schedule.end)
    np.testing.assert_array_equal(rows["machine"], shop.machine)
    np.testing.assert_array_equal(rows["job"], shop.job)
    assert rows["operation"].tolist() == [0, 1, 2, 3, 4] * 10


def test_the_same_seeds_give_the_same_bytes():
    for name in ("first", "second"):
        run.main([*SMALL, "--seeds", "2", "--name", name])
    for name in ("results.json", "log.parquet", "config.toml"):
        assert Path("runs/first", name).read_bytes() == Path("runs/second", name).read_bytes()


def test_only_what_draws_has_several_seeds():
    run.main([*SMALL, "--seeds", "3,5", "--name", "small"])
    log = pq.read_table("runs/small/log.parquet").to_pandas()
    seeds = {p: set(rows["seed"]) for p, rows in log.groupby("policy", observed=True)}
    assert seeds == {"mwkr": {3}, "spt:active": {3}, "random:4": {3, 5}}


def test_json_stands_alone_on_stdout(capsys):
    assert run.main([*SMALL, "--json", "--out", "elsewhere"]) == 0
    printed = capsys.readouterr().out
    (folder,) = Path("elsewhere").iterdir()
    assert printed == (folder / "results.json").read_text(encoding="utf-8")


def test_a_run_is_repeated_from_its_config_file_which_says_the_world():
    run.main([*SMALL, "--seeds", "4,", "--name", "first"])
    assert run.main(["--config", "runs/first/config.toml", "--name", "again"]) == 0
    first, again = (Path("runs", name, "results.json").read_bytes() for name in ("first", "again"))
    assert first == again


def test_an_interrupted_run_keeps_finished_policies_and_resumes(monkeypatch, capsys):
    run.main([*SMALL, "--name", "small"])
    whole = {name: Path("runs/small", name).read_bytes() for name in SAME}
    measured = []

    def interrupted_at_the_fourth(policy, instance, seed):
        if instance.name != "warm-up":
            measured.append((policy.label, instance.name))
            if len(measured) == 4:
                raise KeyboardInterrupt
        return measure(policy, instance, seed)

    measure = jobshop_run.measure
    monkeypatch.setattr(jobshop_run, "measure", interrupted_at_the_fourth)
    assert run.main([*SMALL, "--name", "small"]) == 130
    assert "--resume" in capsys.readouterr().err
    assert files("runs/small") == ["cells", *WRITTEN]
    assert [policy["policy"] for policy in results_of("small")["policies"]] == ["mwkr"]

    assert run.main([*SMALL, "--name", "small", "--resume"]) == 0
    assert measured[4] == ("spt:active", "la01")
    assert ("mwkr", "ft06") not in measured[4:]
    assert files("runs/small") == WRITTEN
    for name, content in whole.items():
        assert Path("runs/small", name).read_bytes() == content


def test_interrupted_before_any_policy_finished(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobshop_run, "measure", interrupted)
    assert run.main([*SMALL, "--name", "small"]) == 130
    assert files("runs/small") == ["config.toml"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "jobshop"], "unknown world 'jobshop'. Did you mean 'job_shop'?"),
        (["--set", "ta1"], "unknown set of job shops 'ta1'. Did you mean"),
        (["--set", "ta15x51"], "Did you mean 'ta15x15'"),
        (["--set", "missing.txt"], "missing.txt"),
        (["--set", "bad.txt"], "bad.txt:2"),
        (["--set", ","], "--set names nothing"),
        (["--set", "a/one.txt,b/one.txt"], "two job shops are called 'one'"),
        (["--policy", "sptt"], "unknown job-shop policy 'sptt'. Did you mean 'spt'"),
        (["--policy", "spt:activ"], "Did you mean 'active'"),
        (["--policy", "cpsat"], "Such as cpsat:10s"),
        (["--policy", "cpsat:0s"], "Such as cpsat:10s"),
        (["--policy", "random:0"], "Such as random:128"),
        (["--policy", "tabu"], "Such as tabu:5000"),
        (["--policy", "improve"], "how many swaps? Such as improve:500"),
        (["--policy", "improve:job_shop:9"], "acts in job_shop, not in job_shop_improve"),
        (["--policy", "agent:0"], "Such as agent:128"),
        (["--policy", "agent:job_shp"], "Did you mean 'job_shop'"),
        (["--policy", "agent:agent"], "this agent acts in llm_router, not in job_shop"),
        (["--policy", "missing.py:solve"], "missing.py is not a Python file"),
        (["--seeds", "one"], "--seeds takes"),
        (["--name", "a/b"], "--name must be the name of a folder"),
        (["--config", "router.toml"], "env must be one of job_shop"),
        *(
            (
                ["--set", "flexible.fjs", "--policy", f"default,{policy}"],
                f"flexible has a choice of machines, and {policy} takes none",
            )
            for policy in ("spt:active", "tail_p_wait", "insa", "tabu:9", "agent", "random:8")
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(arguments, message, capsys):
    Path("bad.txt").write_text("1 2\n0 5 1 x\n", encoding="utf-8")
    Path("flexible.fjs").write_text("1 2 2\n1 2 1 5 2 4\n", encoding="utf-8")
    Path("router.toml").write_text('env = "llm_router"\n', encoding="utf-8")
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "one.txt").write_text("1 1\n0 5\n", encoding="utf-8")
    assert run.main(["--env", "job_shop", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not Path("runs").exists()


OWN = """
import numpy as np
from makespan.envs.jobshop.schedule import Schedule

def in_a_row(shop):
    before = np.cumsum(shop.duration) - shop.duration
    return Schedule.plain(shop, before)

def shifted(shop, seed):
    return Schedule.plain(shop, in_a_row(shop).start + seed)

def at_once(shop):
    return Schedule.plain(shop, np.zeros(shop.operations))
"""


def test_a_policy_of_ones_own():
    Path("mine.py").write_text(OWN, encoding="utf-8")
    arguments = ["--policy", "mine.py:in_a_row,mine.py:shifted", "--seeds", "2,5"]
    assert run.main(["--env", "job_shop", "--set", "ft06", *arguments, "--name", "own"]) == 0
    makespans = {p["policy"]: p["makespan"]["ft06"] for p in results_of("own")["policies"]}
    whole = benchmark("ft06").duration.sum()
    assert makespans == {"in_a_row": [whole], "shifted": [whole + 2, whole + 5]}


def test_a_schedule_that_is_not_valid_is_said_and_does_not_count(capsys):
    Path("mine.py").write_text(OWN, encoding="utf-8")
    arguments = ["--env", "job_shop", "--set", "ft06", "--policy", "spt,mine.py:at_once"]
    assert run.main([*arguments, "--name", "own"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: at_once on ")
    assert "begins before the one before it ends" in error
    assert [policy["policy"] for policy in results_of("own")["policies"]] == ["spt"]


def test_gaps_of_a_file_are_to_the_best_of_the_run(capsys):
    Path("mine.txt").write_text("2 2\n0 3 1 2\n1 2 0 4\n", encoding="utf-8")
    run.main(["--env", "job_shop", "--set", "mine.txt", "--policy", "rules", "--name", "file"])
    assert "for mine the best of this run" in " ".join(capsys.readouterr().out.split())
    best = results_of("file")["policies"][0]
    assert (best["makespan"]["mine"], best["gap"]["mean"], best["at_best_known"]) == ([7], 0.0, 1)


FLEXIBLE = "2 2 2\n1 2 1 5 2 4\n1 2 1 5 2 4\n"
"""Either job takes 5 on machine 0 and 4 on machine 1."""


def test_of_a_group_only_what_takes_a_choice_of_machines_is_run(capsys):
    Path("flexible.fjs").write_text(FLEXIBLE, encoding="utf-8")
    arguments = ["--set", "ft06,flexible.fjs", "--policy", "rules,spt,mine.py:own"]
    Path("mine.py").write_text(
        "from makespan.baselines.jobshop.flexible import dispatch_flexible\n"
        "def own(shop):\n"
        "    return dispatch_flexible(shop, 'mor')\n",
        encoding="utf-8",
    )
    assert run.main(["--env", "job_shop", *arguments, "--name", "flexible"]) == 0
    told = "left out, since they take no choice of machines: mor_spt, tail_p_wait\n"
    assert capsys.readouterr().err == told
    found = {p["policy"]: p["makespan"] for p in results_of("flexible")["policies"]}
    assert set(found) == {*policies.FLEXIBLE_RULES, "own"}
    # Machine 0 takes one of the two without delay.
    assert all(makespan["flexible"] == [5] for makespan in found.values())
    assert found["mwkr"]["ft06"] == [61]
    log = pq.read_table("runs/flexible/log.parquet").to_pandas()
    mine = log[(log["instance"] == "flexible") & (log["policy"] == "spt")]
    assert sorted(mine["machine"]) == [0, 1]


def test_the_default_policies_schedule_a_choice_of_machines():
    Path("flexible.fjs").write_text(FLEXIBLE, encoding="utf-8")
    chosen, left_out = policies.for_instances("default", instances.resolve("flexible.fjs"))
    assert list(chosen) == [*policies.FLEXIBLE_RULES, "cpsat:1s", "cpsat:10s"]
    assert left_out[2:] == [*policies.SOLVERS, "tabu:1000", "improve:500", "agent", "agent:128"]
    assert policies.for_instances("default", instances.resolve("ft06"))[1] == []


# CP-SAT.

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ortools")


def test_cpsat_finds_optima_also_with_a_choice_of_machines():
    Path("flexible.fjs").write_text(FLEXIBLE, encoding="utf-8")
    arguments = ["--set", "ft06,flexible.fjs", "--policy", "cpsat:5s", "--name", "optima"]
    assert run.main(["--env", "job_shop", *arguments]) == 0
    (policy,) = results_of("optima")["policies"]
    assert policy["makespan"] == {"ft06": [55], "flexible": [5]}
    assert policy["at_best_known"] == 2
    log = pq.read_table("runs/optima/log.parquet").to_pandas()
    assert sorted(log[log["instance"] == "flexible"]["machine"]) == [0, 1]
    timing = json.loads(Path("runs/optima/timing.json").read_text(encoding="utf-8"))
    curve = timing["policies"]["cpsat:5s"]["by_size"]["6x6"]["curve"]
    assert curve["gap"][-1] == 0
    assert curve["gap"] == sorted(curve["gap"], reverse=True)


def test_no_schedule_in_the_time_is_a_dash_and_no_failure(capsys):
    arguments = ["--set", "ta71", "--policy", "tail_p,cpsat:0.01s", "--name", "short"]
    assert run.main(["--env", "job_shop", *arguments]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (row,) = (row for row in rows if row[:1] == ["cpsat:0.01s"])
    assert row[1:4] == ["-", "-", "0"]
    best, other = results_of("short")["policies"]
    assert (best["policy"], other["makespan"]["ta71"]) == ("tail_p", [None])
    assert '"cpsat:0.01s":{"ta71":null}' in Path("runs/short/report.html").read_text("utf-8")


@pytest.fixture
def interruptible():
    """Interrupts are heard, also where what started the tests ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_what_cpsat_had_when_it_was_interrupted_is_not_kept():
    timer = threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    arguments = ["--set", "ta21", "--policy", "cpsat:60s", "--name", "stopped"]
    assert run.main(["--env", "job_shop", *arguments]) == 130
    timer.join()
    assert files("runs/stopped") == ["config.toml"]


# Names.


def test_groups_of_instances():
    assert len(instances.resolve("ta")) == 80
    assert [i.name for i in instances.resolve("ft")] == ["ft06", "ft10", "ft20"]
    assert {i.size for i in instances.resolve("ta15x15")} == {"15x15"}
    assert len(instances.resolve("ta15x15,ta01,ta02")) == 10
    assert {i.size for i in instances.resolve("small")} == {"10x10", "15x15", "20x20"}
    known = instances.resolve("la16")[0].known
    assert known == BENCHMARKS["la16"]


def test_the_default_policies_have_only_what_is_installed(monkeypatch):
    labels = list(policies.resolve("default"))
    found = [*policies.RULES, *policies.SOLVERS, "tabu:1000", "improve:500"]
    assert labels == [*found, "agent", "agent:128", "cpsat:1s", "cpsat:10s"]
    monkeypatch.setattr(policies, "find_spec", lambda name: name != "torch_geometric" or None)
    assert list(policies.resolve("default")) == [*found, "cpsat:1s", "cpsat:10s"]
    monkeypatch.setattr(policies, "find_spec", lambda name: None)
    assert list(policies.resolve("default,spt")) == found
    for name in ("cpsat:1s", "agent"):
        with pytest.raises(ValueError, match="pip install"):
            policies.resolve(name)


def test_policies_whose_names_are_alike_are_told_apart():
    Path("mine.py").write_text(OWN.replace("in_a_row", "spt_active"), encoding="utf-8")
    names = "spt:active,mine.py:spt_active"
    assert (
        run.main(["--env", "job_shop", "--set", "ft06", "--policy", names, "--name", "both"]) == 0
    )
    found = {p["policy"]: p["makespan"]["ft06"] for p in results_of("both")["policies"]}
    shop = benchmark("ft06")
    assert found["spt:active"] == [dispatch(shop, "spt", "active").makespan]
    assert found["spt_active"] == [shop.duration.sum()]


def test_where_nothing_takes_time_there_is_no_gap(capsys):
    Path("idle.txt").write_text("2 1\n0 0\n0 0\n", encoding="utf-8")
    arguments = ["--env", "job_shop", "--set", "idle.txt", "--policy", "spt,random:4"]
    assert run.main([*arguments, "--name", "idle"]) == 0
    assert [p["gap"]["mean"] for p in results_of("idle")["policies"]] == [0, 0]


def test_solvers_are_found_by_name(monkeypatch, tmp_path):
    (tmp_path / "first_solver.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(policies, "SOLVERS", {"first": "first_solver:in_a_row"})
    schedule = policies.named("first").solve(benchmark("ft06"), 0, lambda makespan: None)
    assert schedule is not None
    assert schedule.makespan == benchmark("ft06").duration.sum()
    with pytest.raises(ValueError, match="Did you mean 'first'"):
        policies.named("firs")


@pytest.mark.parametrize("name", policies.SOLVERS)
def test_every_solver_makes_valid_schedules(name):
    shop = benchmark("ft06")
    schedule = policies.named(name).solve(shop, 0, lambda makespan: None)
    assert schedule is not None
    schedule.validate()
    assert schedule.makespan >= 55


def test_the_agent_schedules_greedily_or_takes_the_best_of_many():
    shop, makespans = benchmark("la21"), []
    for name in ("agent", "agent:1", "agent:64", "agent:job_shop:64"):
        schedule = policies.named(name).solve(shop, 3, lambda makespan: None)
        assert schedule is not None
        schedule.validate()
        makespans.append(schedule.makespan)
    assert makespans[2] == makespans[3] <= makespans[1] <= makespans[0]
    assert makespans[2] < makespans[0]


def test_path_relinking_is_a_policy():
    told: list[int] = []
    schedule = policies.named("relinking:20000").solve(benchmark("ft10"), 0, told.append)
    assert schedule is not None
    schedule.validate()
    assert told[-1] == schedule.makespan < 960


def test_the_agent_that_swaps_gains_by_more_swaps():
    shop, makespans = benchmark("la21"), []
    for name in ("improve:1", "improve:60", "improve:job_shop_improve:60"):
        schedule = policies.named(name).solve(shop, 0, lambda makespan: None)
        assert schedule is not None
        schedule.validate()
        makespans.append(schedule.makespan)
    assert makespans[0] > makespans[1] == makespans[2]


@pytest.mark.parametrize("name", ["tabu:60", "improve:60"])
def test_searches_tell_of_every_better_schedule(name):
    told: list[int] = []
    schedule = policies.named(name).solve(benchmark("la21"), 0, told.append)
    assert schedule is not None
    assert len(told) > 2
    assert told == sorted(set(told), reverse=True)
    assert told[-1] == schedule.makespan
    start = insa if name == "tabu:60" else first_schedule
    assert told[0] == start(benchmark("la21")).makespan


def test_the_best_of_more_random_schedules_is_no_longer():
    shop, told, best = benchmark("ft10"), [], []
    for number in (8, 64):
        schedule = policies.named(f"random:{number}").solve(shop, 3, told.append)
        assert schedule is not None
        assert told[-1] == schedule.makespan
        best.append(schedule.makespan)
    assert best[1] < best[0]
