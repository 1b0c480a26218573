"""The trainer: reproducible, resumable, and refusing what it cannot do."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from small_runs import CONFIG, WORLD, config, same
from stable_baselines3.common.vec_env import DummyVecEnv

from makespan.agents import train as trainer
from makespan.agents.config import CloningConfig, NetworkConfig
from makespan.agents.folder import AgentError, load_agent
from makespan.agents.policy import DECAY
from makespan.agents.run import CHECKPOINT, NOTES, RUN
from makespan.agents.train import change_settings, train
from makespan.agents.vectorised import MasksFromObservations
from makespan.experiments.train import settings_of


class Killed(BaseException):
    """Nothing of the trainer gets to see this one."""


def killed_at(steps: int) -> Any:
    def report(figures: dict[str, float]) -> None:
        if figures["steps"] >= steps and "tuning" not in figures:
            raise Killed

    return report


def interrupted_at(steps: int) -> Any:
    def report(figures: dict[str, float]) -> None:
        if figures["steps"] >= steps:
            raise KeyboardInterrupt

    return report


def steps_in(folder: Path) -> int:
    """Of the checkpoint."""
    with safe_open(folder / CHECKPOINT, "np") as file:
        return json.loads(file.metadata()[NOTES])["num_timesteps"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(WORLD, CONFIG, folder)
    return folder


def final(folder: Path) -> dict[str, np.ndarray]:
    """Everything that the last checkpoint holds."""
    with safe_open(folder / CHECKPOINT, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_the_same_seed_gives_the_same_agent(whole: Path, tmp_path: Path) -> None:
    agent = train(WORLD, CONFIG, tmp_path / "again")
    assert same(agent.weights, load_agent(whole).weights)
    assert same(final(tmp_path / "again"), final(whole))
    other = train(WORLD, config(seed=1), tmp_path / "other")
    assert not same(other.weights, agent.weights)


def test_it_learns(whole: Path) -> None:
    tensors = final(whole)
    assert np.abs(tensors["network.score.2.weight"]).max() > 0
    assert tensors["rewards.count"] > 100


def test_the_agent_is_an_average_of_the_weights_over_the_rollouts(tmp_path: Path) -> None:
    one_rollout = config(steps=64, checkpoint_every=64)
    train(WORLD, one_rollout, tmp_path)
    tensors = final(tmp_path)
    assert tensors["average.n_averaged"] == 2  # before the rollout and after it
    name = "score.2.weight"  # begins at zero
    assert np.allclose(
        tensors[f"average.module.{name}"], (1 - DECAY) * tensors[f"network.{name}"], rtol=1e-4
    )


@pytest.mark.parametrize("at", [0, 96, 128])
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(
    at: int, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(WORLD, CONFIG, tmp_path, report=killed_at(at))
    agent = train(WORLD, CONFIG, tmp_path, resume=True)
    assert same(final(tmp_path), final(whole))
    assert same(agent.weights, load_agent(whole).weights)
    assert agent.card.results == load_agent(whole).card.results


def test_an_interrupted_run_keeps_the_steps_since_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(WORLD, config(checkpoint_every=10_000), tmp_path, report=interrupted_at(128))
    assert steps_in(tmp_path) == 128
    resumed: list[float] = []
    train(
        WORLD,
        config(checkpoint_every=10_000),
        tmp_path,
        resume=True,
        report=lambda figures: resumed.append(figures["steps"]),
    )
    assert min(resumed) == 128
    assert steps_in(tmp_path) == CONFIG.steps


def test_interrupted_before_it_learns_it_has_nothing_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "watch", interrupt)
    cloning = CloningConfig("least_requests")
    with pytest.raises(KeyboardInterrupt):
        train(WORLD, config(cloning=cloning), tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_run_that_could_not_begin_leaves_its_folder_free(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown router policy"):
        train(WORLD, config(cloning=CloningConfig("least_request")), tmp_path)
    assert same(train(WORLD, CONFIG, tmp_path).weights, load_agent(whole).weights)


def test_an_agent_from_elsewhere_is_not_overwritten(whole: Path, tmp_path: Path) -> None:
    load_agent(whole).save(tmp_path)
    with pytest.raises(AgentError, match="an agent already that was not trained here"):
        train(WORLD, CONFIG, tmp_path)


def test_a_finished_run_is_not_trained_further(whole: Path) -> None:
    before = final(whole)
    agent = train(WORLD, CONFIG, whole, resume=True)
    assert same(final(whole), before)
    assert agent.card.trained["steps"] == CONFIG.steps


def test_a_run_survives_sigkill(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = [
        *("--world.prior", "lmetric", "--world.distribution.replicas", "2", "3"),
        *("--world.distribution.requests", "8", "16", "--world.distribution.outages", "0"),
        *("--training.steps", "192", "--training.envs", "2", "--training.rollout", "32"),
        *("--training.batch", "32", "--training.epochs", "2", "--training.checkpoint-every", "64"),
        *("--training.tuning", "2", "--training.test", "2", "--training.network.hidden", "8"),
        *("--training.network.layers", "1", "--training.network.trust", "3"),
    ]
    program = "import sys; from makespan.experiments.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "train"]
    process = subprocess.Popen([*command, *settings, "--out", str(folder)])
    patience = time.monotonic() + 120
    while not (folder / CHECKPOINT).exists() and time.monotonic() < patience:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert settings_of(folder).training == CONFIG
    subprocess.run([*command, "--resume", str(folder)], check=True, capture_output=True)
    assert same(final(folder), final(whole))


def test_another_run_in_the_folder_is_not_touched(whole: Path) -> None:
    with pytest.raises(AgentError, match="there is a run already: --resume goes on with it"):
        train(WORLD, CONFIG, whole)
    with pytest.raises(AgentError, match="has other settings"):
        train(WORLD, config(seed=5), whole, resume=True)


def test_a_damaged_checkpoint_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(WORLD, CONFIG, tmp_path, report=killed_at(0))
    (tmp_path / CHECKPOINT).write_bytes(b"nothing of the kind")
    with pytest.raises(AgentError, match=r"checkpoint\.safetensors: not a checkpoint of this run"):
        train(WORLD, CONFIG, tmp_path, resume=True)


def test_no_file_of_a_run_is_a_pickle(whole: Path) -> None:
    names = {path.name for path in whole.rglob("*") if path.is_file()}
    logs = {name for name in names if name.startswith("events.out.tfevents")}
    assert names - logs == {CHECKPOINT, RUN, "card.json", "weights.safetensors"}


def test_the_card_says_what_was_done(whole: Path) -> None:
    card = load_agent(whole).card
    assert (card.world, card.settings["prior"]) == ("llm_router", "lmetric")
    assert card.training["steps"] == CONFIG.steps
    assert not set(card.seeds["tuning"]) & set(card.seeds["test"])
    assert [row["steps"] for row in card.results["history"]] == [0, 64, 128, 192]
    assert card.results["test"]["mean"] > 0
    best = min(card.results["history"], key=lambda row: row["tuning"])
    assert card.results["tuning"] == best


def test_the_weights_are_those_of_the_best_evaluation(whole: Path) -> None:
    agent = load_agent(whole)
    scores = WORLD.evaluate(agent.weights, CONFIG.tuning_seeds)
    assert scores.mean() == agent.card.results["tuning"]["tuning"]


def test_imitation_comes_first(tmp_path: Path) -> None:
    cloning = CloningConfig("least_requests", decisions=300, epochs=20, batch=64)
    agent = train(WORLD, config(steps=64, cloning=cloning), tmp_path)
    assert agent.card.results["cloned"] > 0.5


def test_environments_in_processes_give_the_same_agent(whole: Path, tmp_path: Path) -> None:
    train(WORLD, config(processes=True), tmp_path)
    assert same(final(tmp_path), final(whole))


def test_masks_come_from_the_observations() -> None:
    envs = MasksFromObservations(DummyVecEnv([WORLD.env] * 2))
    envs.seed(3)
    observations: Any = envs.reset()
    for _ in range(20):
        told = np.stack(envs.env_method("action_masks"))
        asked = np.stack(envs.venv.env_method("action_masks"))
        assert np.array_equal(told, asked)
        assert np.array_equal(told, observations["action_mask"] > 0)
        observations, *_ = envs.step(told.argmax(axis=1))
    assert envs.has_attr("action_masks")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"schedule": "linaer"}, "unknown schedule 'linaer'. Did you mean 'linear'"),
        ({"rate": -1.0}, "the learning rate must be positive"),
        ({"seed": -1}, "must not be negative"),
        ({"gamma": 1.5}, r"gamma must be in \[0, 1\], not 1.5"),
        ({"clip": 0.0}, "needs clip > 0"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**wrong)


def test_a_run_goes_on_with_other_settings(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(WORLD, CONFIG, tmp_path, report=killed_at(128))
    before, other = final(tmp_path), config(rate=1e-2, gamma=0.9)
    change_settings(tmp_path, WORLD, other)
    agent = train(WORLD, other, tmp_path, resume=True)
    assert settings_of(tmp_path).training == other
    assert agent.card.training["rate"] == 1e-2
    history = agent.card.results["history"]
    assert history[:3] == load_agent(whole).card.results["history"][:3]
    after, name = final(tmp_path), "network.score.2.weight"
    assert not np.array_equal(after[name], final(whole)[name])
    assert after["optimizer.0.step"] > before["optimizer.0.step"] > 0


def test_a_network_of_another_size_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(WORLD, CONFIG, tmp_path, report=killed_at(64))
    other = config(network=NetworkConfig(hidden=4, layers=1))
    change_settings(tmp_path, WORLD, other)
    with pytest.raises(AgentError, match="not a checkpoint of this run"):
        train(WORLD, other, tmp_path, resume=True)


def test_scores_are_reported_when_the_run_has_been_saved(tmp_path: Path) -> None:
    saved: list[tuple[float, int]] = []

    def report(figures: dict[str, float]) -> None:
        if "tuning" in figures:
            saved.append((figures["steps"], steps_in(tmp_path)))

    train(WORLD, CONFIG, tmp_path, report=report)
    assert saved == [(0, 0), (64, 64), (128, 128), (192, 192)]
