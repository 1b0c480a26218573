"""`makespan decisions`: what is timed, by its rows; never how long it took."""

import numpy as np
import pytest

from makespan.experiments import decisions
from makespan.experiments.decisions import DecisionsConfig, decision_times, main, measure


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "WARM_UP", 5)
    monkeypatch.setattr(decisions, "NETWORK_RUNS", 3)


def test_policies_and_networks_are_timed_on_every_fleet() -> None:
    config = DecisionsConfig("round_robin,agent", replicas=(2, 3), requests=30)
    rows = list(measure(config))
    names = ["round_robin", "agent", "agent's network, NumPy", "agent's network, torch"]
    assert [row[:2] for row in rows] == [(name, n) for n in (2, 3) for name in names]
    assert all((seconds > 0).all() for *_, seconds in rows)
    assert len(rows[0][2]) == 25
    assert len(rows[2][2]) == 3


def test_every_decision_after_the_warm_up_is_timed() -> None:
    seen = []
    seconds = decision_times(lambda decision: seen.append(1) or 0, replicas=2, requests=40)
    assert len(seconds) == len(seen) - 5 == 35
    assert np.isfinite(seconds).all()


def test_the_command_prints_a_table(capsys) -> None:
    assert main(["--policy", "round_robin", "--replicas", "2", "--requests", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["replicas", "p50", "ms", "p99", "ms"]
    assert lines[1].split()[:2] == ["round_robin", "2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--requests", "5"], "--requests must be above 5"),
        (["--policy", "guided_dqn"], "guided_dqn routes for 4 replicas, not for 8"),
        (["--policy", "random", "--requests", "9", "--agent", "guided_dqn"], "no graph network"),
    ],
)
def test_what_cannot_be_timed_is_one_error(arguments: list[str], said: str, capsys) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_policy_is_one_error(capsys) -> None:
    assert main(["--policy", "raondom"]) == 2
    assert "Did you mean 'random'" in capsys.readouterr().err
