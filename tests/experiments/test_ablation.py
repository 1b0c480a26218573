"""What each part of the agent is worth: the variants, their training, and how they are compared."""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest

import makespan.agents.train as trainer
from makespan.agents.config import TrainConfig
from makespan.experiments import ablation
from makespan.experiments.ablation import SHIPPED, VARIANTS, WHOLE, Ablation, compare, main

TINY = ["--replicas", "2", "2", "--requests", "4", "6", "--load", "0.8", "0.8"]


def flat(settings: dict[str, Any], path: str = "") -> dict[str, Any]:
    leaves = {}
    for name, value in settings.items():
        inner = flat(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
        leaves |= inner
    return leaves


@pytest.mark.parametrize(
    ("variant", "differs"),
    [
        (WHOLE, {}),
        ("no messages", {"network.layers": 0}),
        ("fresh gauges", {"distribution.stale": False}),
        ("no holding", {"prior": "lookahead"}),
        ("cloned", {"prior": "none", "cloning.teacher": "lookahead_hold"}),
        ("no rule", {"prior": "none"}),
    ],
)
def test_a_variant_differs_by_one_part(variant: str, differs: dict[str, Any]):
    whole, part = (
        flat(asdict(world) | asdict(training))
        for world, training, _ in (Ablation().run(name, 0) for name in (WHOLE, variant))
    )
    assert {name: part[name] for name in whole if part[name] != whole[name]} == differs


def test_every_run_has_a_folder_of_its_own():
    runs = [Ablation().run(name, seed) for name in VARIANTS for seed in range(3)]
    assert len({folder for *_, folder in runs}) == len(runs)
    assert {training.seed for _, training, _ in runs} == {0, 1, 2}


def test_variants_are_compared_on_the_same_episodes():
    noise = np.random.default_rng(1).normal(0, 0.2, (2, 40))
    better, same, shipped = compare({"better": noise - 0.1, WHOLE: noise, SHIPPED: noise[:1]})
    assert (same.part, same.agents, shipped.agents) == (None, 2, 1)
    assert better.part is not None
    ratio, low, high = better.part
    assert ratio == pytest.approx(np.exp(-0.1))
    assert low <= ratio <= high
    # The episodes are paired: what they have in common cancels out.
    assert high - low < better.high - better.low
    for row in (better, same, shipped):
        assert row.low < row.ratio < row.high
        assert row.best <= row.ratio <= row.worst
    assert same.won == np.mean(noise < 0)


def test_intervals_cover_the_truth():
    """Nine in ten at least of those that claim 95 %, with enough agents."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        agents, episodes = rng.normal(0, 0.02, (12, 1)), rng.normal(0, 0.1, 48)
        (row,) = compare({"x": agents + episodes + rng.normal(0, 0.01, (12, 48))})
        covered += row.low < 1 < row.high
    assert covered >= 36


def test_the_command_trains_compares_and_does_not_train_again(tmp_path, monkeypatch, capsys):
    small = partial(TrainConfig, envs=2, rollout=8, batch=8, tuning=2)
    monkeypatch.setattr(ablation, "TrainConfig", small)
    command = ["--out", str(tmp_path), "--variants", "whole,no messages", "--seeds", "1"]
    command += ["--steps", "1", "--episodes", "2", *TINY]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["as", "whole", "no"]
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("it is trained already"))
    assert main(command) == 0
    assert capsys.readouterr().out == table
    assert main([*command, "--load", "0.9", "0.9"]) == 2
    assert "whole-0: the agent there was trained with other settings" in capsys.readouterr().err


def test_an_interruption_is_told_and_keeps_the_run(tmp_path, monkeypatch, capsys):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", interrupted)
    assert main(["--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted: the same command goes on\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--variants", "whole,no mesages"], "Did you mean 'no messages'"),
        (["--seeds", "0"], "at least 1 seed"),
        (["--episodes", "1"], "2 episodes"),
    ],
)
def test_bad_input_is_a_clear_error(arguments, error, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert error in " ".join(capsys.readouterr().err.split())


def test_resamples_are_reproducible():
    ratios = {WHOLE: np.random.default_rng(3).normal(0, 1, (3, 5))}
    assert compare(ratios) == compare(ratios)
    assert ablation.RESAMPLES >= 10_000
