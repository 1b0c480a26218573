"""Tuning on a Ray cluster of two nodes, with training runs of a second."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import CONFIG, WORLD

from makespan.agents.folder import load_agent
from makespan.agents.llm.world import RouterWorld
from makespan.agents.run import RUN
from makespan.agents.train import train
from makespan.experiments import train as train_command
from makespan.experiments.sweep import command, tuning
from makespan.experiments.sweep.config import read
from makespan.experiments.sweep.tune_config import TuneConfig

TUNE = """
[tune]
method = "{method}"
trials = 2
space.rate = {{ loguniform = [1e-3, 1e-1] }}
space.network.trust = [1.0, 3.0]
world.prior = "lmetric"
world.distribution = {{ replicas = [2, 3], requests = [8, 16], outages = 0.0 }}

[tune.training]
steps = 192
envs = 2
rollout = 32
batch = 32
epochs = 2
checkpoint_every = 64
tuning = 2
test = 2
network = {{ hidden = 8, layers = 1, trust = 3.0 }}
"""
PATIENCE_S = 120


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def file(method):
    path = Path(f"{method}.toml")
    path.write_text(TUNE.format(method=method), encoding="utf-8")
    return path


def results(method):
    return json.loads(Path("runs", method, "results.json").read_text(encoding="utf-8"))


def test_the_file_asks_for_the_small_runs():
    config = read(file("asha"))
    assert isinstance(config, TuneConfig)
    assert (config.world, config.training) == (WORLD, CONFIG)


def check_agent(method, trials=2):
    """The folder holds the best trial's agent, which was measured on the test episodes."""
    outcome, folder = results(method), Path("runs", method, "agent")
    found = outcome["trials"]
    assert len(found) == trials
    assert [row["best"] for row in found] == sorted(row["best"] for row in found)
    agent = load_agent(folder)
    assert agent.card.results["tuning"]["tuning"] == found[0]["best"]
    history = agent.card.results["history"]
    assert [row["steps"] for row in history] == [0, 64, 128, 192]
    scores = WORLD.evaluate(agent.weights, CONFIG.test_seeds)
    assert agent.card.results["test"]["mean"] == scores.mean()
    assert agent.card.seeds["test"] == CONFIG.test_seeds
    assert agent.card.training["rate"] == found[0]["settings"]["rate"]
    assert train_command.settings_of(folder).training.test == 2


def test_asha_makes_the_agent_that_its_settings_make(cluster, capsys):
    assert command.main([str(file("asha")), "--address", cluster]) == 0
    check_agent("asha")
    printed = capsys.readouterr().out
    assert "best tuning score" in printed
    assert "runs/asha/agent" in printed
    training = train_command.settings_of(Path("runs/asha/agent")).training
    alone = train(WORLD, training, Path("alone"))
    agent = load_agent(Path("runs/asha/agent"))
    assert agent.card.results == alone.card.results
    assert all(np.array_equal(agent.weights[name], w) for name, w in alone.weights.items())
    evaluations = json.loads(Path("runs/asha/agent/tuning.json").read_text(encoding="utf-8"))
    assert [row["steps"] for row in evaluations] == [0, 64, 128, 192]
    assert {row["rate"] for row in evaluations} == {training.rate}


def test_pbt_hands_checkpoints_on_to_other_settings(cluster):
    assert command.main([str(file("pbt")), "--address", cluster, "--json"]) == 0
    check_agent("pbt")
    handed_on = Path("runs/pbt/tune/pbt_global.txt").read_text(encoding="utf-8").splitlines()
    for line in handed_on:
        *_, before, after = json.loads(line)
        assert 1e-3 <= after["rate"] <= 1e-1
        assert after["rate"] != before["rate"]
    assert handed_on
    paths = Path("runs/pbt/tune").glob("trial_*/checkpoint_*/tuning.json")
    histories = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    assert any(len({row["rate"] for row in history}) > 1 for history in histories)
    assert all(len({row["steps"] for row in history}) == len(history) for history in histories)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_tuning_that_is_stopped_goes_on_where_it_stopped(sent, cluster):
    program = "import sys; from makespan.experiments.cli import main; sys.exit(main())"
    arguments = ["sweep", str(file("asha")), "--address", cluster]
    driver = subprocess.Popen([sys.executable, "-c", program, *arguments])
    kept = Path("runs/asha/tune")
    patience = time.monotonic() + PATIENCE_S
    while not list(kept.glob("trial_*/checkpoint_000001/tuning.json")):
        assert time.monotonic() < patience
        assert driver.poll() is None
        time.sleep(0.02)
    driver.send_signal(sent)
    assert driver.wait() == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    assert not Path("runs/asha/results.json").exists()
    before = {path.name for path in kept.glob("trial_*")}
    assert command.main([str(file("asha")), "--address", cluster, "--resume"]) == 0
    assert before <= {path.name for path in kept.glob("trial_*")}
    check_agent("asha")
    training = train_command.settings_of(Path("runs/asha/agent")).training
    assert load_agent(Path("runs/asha/agent")).card.results == (
        train(WORLD, training, Path("alone")).card.results
    )


def test_trials_are_measured_on_the_tuning_episodes_only(tmp_path, monkeypatch):
    asked = []
    evaluate = RouterWorld.evaluate

    def watched(self, weights, seeds):
        asked.append(list(seeds))
        return evaluate(self, weights, seeds)

    monkeypatch.setattr(RouterWorld, "evaluate", watched)
    reports = []
    from ray import tune

    monkeypatch.setattr(tune, "get_checkpoint", lambda: None)
    monkeypatch.setattr(tune, "report", lambda figures, checkpoint: reports.append(figures))
    tuning.trial({"rate": 0.01}, WORLD, CONFIG)
    assert [figures["steps"] for figures in reports] == [0, 64, 128, 192]
    assert asked == [CONFIG.tuning_seeds] * 4
    assert not {*CONFIG.tuning_seeds} & {*CONFIG.test_seeds}


def test_the_run_file_is_that_of_makespan_train():
    assert RUN == train_command.RUN
