"""`makespan train-shop`."""

from pathlib import Path

import pytest

from makespan.agents.jobshop.agent import ShopAgent
from makespan.experiments import train_shop
from makespan.traces.jobshop import benchmark

SHORT = (
    *("--updates", "2", "--operations", "200", "--samples", "4", "--kept", "2"),
    *("--tuning", "1", "--hidden", "8", "--narrow", "4"),
)


def test_an_agent_is_trained_and_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = tmp_path / "shop"
    assert train_shop.main(["--out", str(folder), *SHORT, "--sizes", "4", "3", "5", "3"]) == 0
    told = capsys.readouterr().out
    assert "updates" in told
    assert f"written to {folder}" in told
    ShopAgent.load(str(folder)).schedule(benchmark("ft06")).validate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--updates", "0"], "error: updates must be at least 1, not 0"),
        (["--rate", "0"], "error: the learning rate must be positive, not 0.0"),
    ],
)
def test_bad_settings_get_one_line(options, message, tmp_path, capsys):
    assert train_shop.main(["--out", str(tmp_path / "shop"), *options]) == 2
    assert capsys.readouterr().err == message + "\n"


def test_a_run_is_not_overwritten(tmp_path, capsys):
    assert train_shop.main(["--out", str(tmp_path), *SHORT]) == 0
    assert train_shop.main(["--out", str(tmp_path), *SHORT]) == 2
    assert "there is a run already: --resume goes on with it" in capsys.readouterr().err
    assert train_shop.main(["--out", str(tmp_path), "--resume", *SHORT]) == 0


def test_an_interrupted_run_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("makespan.agents.jobshop.train.train", interrupted)
    assert train_shop.main(["--out", str(tmp_path)]) == 130
    assert "--resume goes on" in capsys.readouterr().err
