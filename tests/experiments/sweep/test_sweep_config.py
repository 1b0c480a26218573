"""The files of sweeps: what they say, and what is said of wrong ones. No Ray here."""

import sys
from pathlib import Path

import pytest

from makespan.baselines.llm import POLICIES
from makespan.experiments.sweep import command
from makespan.experiments.sweep.config import SweepConfig, read
from makespan.experiments.sweep.folder import SweepFolder
from makespan.experiments.sweep.tune_config import Range, TuneConfig, changed
from makespan.experiments.sweep.variants import variants


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def file(text):
    path = Path("grid.toml")
    path.write_text(text, encoding="utf-8")
    return path


def grid_of(text):
    config = read(file(text))
    assert isinstance(config, SweepConfig)
    return config


GRID = """
policies = ["round_robin", "cache_aware", "dynamo_kv"]
loads = [0.5, 1]
seeds = [3]
requests = 40
hardware = "A100,H100"
predictor = { kind = "oracle" }

[settings.cache_aware]
balance_abs = [16, 32]
balance_rel = [1.1, 2]

[settings.dynamo_kv]
overlap_credit = [0.5]
"""


def test_constants_are_crossed():
    labels = [variant.label for variant in variants(grid_of(GRID))]
    assert labels == [
        "round_robin",
        "cache_aware balance_abs=16 balance_rel=1.1",
        "cache_aware balance_abs=16 balance_rel=2",
        "cache_aware balance_abs=32 balance_rel=1.1",
        "cache_aware balance_abs=32 balance_rel=2",
        "dynamo_kv overlap_credit=0.5",
    ]


def test_constants_reach_the_policy():
    text = 'policies = ["cache_aware"]\nsettings.cache_aware.balance_abs = [7]\n'
    (variant,) = variants(grid_of(text))
    assert variant.make(0).keywords == {"balance_abs": 7}


def test_every_policy_is_the_default():
    assert {variant.policy for variant in variants(SweepConfig())} >= set(POLICIES)


def test_a_cell_is_a_run_of_makespan_run():
    run = grid_of(GRID).run_config("azure_conv", 1)
    assert (run.trace, run.load, run.seed_list) == ("azure_conv", 1.0, [3])
    assert (run.requests, run.hardware, run.predictor.kind) == (40, "A100,H100", "oracle")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("load = [1.0]", "unknown setting 'load'"),
        ("loads = 0.5", "loads must be a list"),
        ("loads = []", "loads must be a list of values"),
        ('loads = ["0.5"]', "loads must hold values of type float, not '0.5'"),
        ("loads = [0]", "loads must be positive"),
        ("loads = [0.5, 0.9, 0.5]", "loads names a value twice"),
        ("seeds = [0.5]", "seeds must hold values of type int, not 0.5"),
        ("seeds = [-1]", "--seeds must be distinct and not negative"),
        ("replicas = 0", "--replicas must be at least 1, not 0"),
        ("replicas = true", "replicas must be of type int"),
        ("engine = { max_seqs = 3 }", "unknown setting 'max_seqs'"),
        ("gauges = 3", "gauges must be a table, not 3"),
        ('traces = ["nowhere"]', "nowhere"),
        ('policies = ["round_robbin"]', "Did you mean 'round_robin'"),
        ("settings.cache_awar.x = [1]", "Did you mean 'cache_aware'"),
        ("settings.cache_aware.balance = [1]", "settings.cache_aware: unknown setting 'balance'"),
        ("settings.cache_aware.balance_abs = 1", "balance_abs must be a list"),
        ("settings.cache_aware.balance_abs = [1, 1]", "balance_abs names a value twice"),
        ("settings.cache_aware.balance_abs = [1.5]", "balance_abs must be of type int, not 1.5"),
        ("settings.cache_aware = 1", "settings.cache_aware must be a table"),
        ("settings.random.seed = [1]", "settings.random: unknown setting 'seed'"),
        ("seeds = [0", "grid.toml"),
        ("tune = 3", "tune must be a table, not 3"),
        ("loads = [1.0]\n[tune]\nspace.rate = [0.1]", "loads is of a grid of policies"),
        ("[tune]\ntrials = 4", "tune: space names no setting"),
        ("[tune]\ntrial = 4", "tune: unknown setting 'trial'"),
        ("[tune]\nspace.rate = [0.1]\ntrials = 0", "trials >= 1"),
        ('[tune]\nmethod = "grid"', "tune: method must be one of asha, pbt, not 'grid'"),
        ("[tune]\nspace.rte = [0.1]", "tune: space.rte: unknown setting 'rte'"),
        ("[tune]\nspace.rate = [0.1, -1.0]", "tune: space.rate: the learning rate must be"),
        ("[tune]\nspace.rate = 0.1", "space.rate must be a list of values or a range"),
        ("[tune]\nspace.rate = { normal = [1, 2] }", "space.rate: unknown range 'normal'"),
        ("[tune]\nspace.rate = { uniform = [2, 1] }", "space.rate: the range 2, 1 is empty"),
        ("[tune]\nspace.rate = { loguniform = [0, 1] }", "space.rate: a logarithmic range"),
        ("[tune]\nspace.rate = { uniform = 1 }", "space.rate: a range looks like"),
        (
            "[tune]\nspace.batch = { uniform = [32, 64.5] }",
            "space.batch: batch must be of type int",
        ),
        ("[tune]\nspace.network.wide = [4]", "space.network.wide: unknown setting 'wide'"),
        ("[tune]\nspace.seed = [0, 1]", "space.seed is the same for all trials"),
        ('[tune]\nmethod = "pbt"\nspace.network.hidden = [4]', "space.network.hidden: pbt hands"),
        ('[tune]\nmethod = "pbt"\ntrials = 1\nspace.rate = [0.1]', "at least 2 for pbt"),
        ('[tune]\nspace.rate = [0.1]\nworld.prior = "lmetrics"', "Did you mean 'lmetric'"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it_and_leaves_nothing_behind(text, said, capsys):
    assert command.main([str(file(text))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: grid.toml: ")
    assert said in line
    assert not Path("runs").exists()


def test_only_baselines_have_constants(capsys):
    Path("mine.py").write_text("def mine(decision): return 0\n", encoding="utf-8")
    text = 'policies = ["mine.py:mine"]\nsettings.mine.x = [1]'
    assert command.main([str(file(text))]) == 2
    assert "settings.mine: only baselines have constants" in capsys.readouterr().err


def test_a_space_is_flat_lists_and_ranges():
    config = read(
        file("[tune]\nspace.rate = { loguniform = [1e-4, 1e-2] }\nspace.network.trust = [3.0]\n")
    )
    assert isinstance(config, TuneConfig)
    assert config.settings == {"rate": Range("loguniform", 1e-4, 1e-2), "network.trust": [3.0]}
    tried = changed(config.training, {"rate": 0.5, "network.trust": 3.0})
    assert (tried.rate, tried.network.trust, tried.network.hidden) == (0.5, 3.0, 64)


def test_settings_that_left_their_range_are_moved_to_its_end():
    assert Range("uniform", 0.9, 0.99).nearest(1.188) == 0.99
    assert Range("lograndint", 2, 8).nearest(9) == 7
    assert Range("uniform", 0.9, 0.99).nearest(0.95) == 0.95


def test_without_ray_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    grid = 'policies = ["random"]\nrequests = 40\n'
    assert command.main([str(file(grid))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'pip install "makespan[scale]"' in line
    assert not Path("runs").exists()


def test_without_torch_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "makespan.experiments.sweep.tuning", raising=False)
    monkeypatch.delitem(sys.modules, "makespan.agents.train", raising=False)
    assert command.main([str(file("[tune]\nspace.rate = [0.1]"))]) == 2
    assert "training needs torch" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "somewhere:port"])
def test_an_address_without_a_cluster_is_one_error(address, capsys):
    grid = 'policies = ["random"]\nrequests = 40\n'
    assert command.main([str(file(grid)), "--address", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: no Ray cluster at {address}")
    assert not Path("runs").exists()


def test_folders_are_not_taken_from_others():
    path = file(GRID)
    folder = SweepFolder(Path("runs/grid"))
    folder.check(path, resume=False)
    folder.open(path)
    with pytest.raises(ValueError, match="holds a sweep: --resume goes on with it"):
        folder.check(path, resume=False)
    folder.check(path, resume=True)
    with pytest.raises(ValueError, match=r"other settings than grid\.toml"):
        folder.check(file(GRID.replace("[3]", "[4]")), resume=True)
    Path("runs/mine").mkdir()
    Path("runs/mine/notes").touch()
    with pytest.raises(ValueError, match="is not empty and holds no sweep"):
        SweepFolder(Path("runs/mine")).check(path, resume=False)


def test_a_name_stays_inside_the_folder_of_runs(capsys):
    assert command.main([str(file(GRID)), "--name", "../x"]) == 2
    assert "--name must be the name of a folder" in capsys.readouterr().err
