"""Learning, acting, and the agent on disk."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from guided_decisions import decision, fast_and_slow
from numpy.random import SeedSequence
from torch import nn

from makespan.agents.folder import CARD, AgentError, load_agent
from makespan.agents.llm.guided import jain, train
from makespan.agents.llm.guided.config import GuidedConfig
from makespan.agents.llm.guided.learner import network, targets
from makespan.agents.llm.guided.policy import GuidedRouter, best_action, values
from makespan.agents.llm.guided.replay import Replay, transition
from makespan.agents.llm.guided.settings import draw
from makespan.agents.llm.policy import router
from makespan.envs.core.contract import simulate
from makespan.envs.llm.fleet import Fleet
from makespan.experiments import train_guided

SMALL = GuidedConfig(episodes=3, batch=32, hidden=8, every=2, target_every=10)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return train.learn(SMALL, fast_and_slow)


# Learning.


class Constant(nn.Module):
    """Values that do not hang on the state."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.values.expand(len(state), -1)


def test_the_double_dqn_target_by_hand() -> None:
    batch = np.zeros(2, transition(2))
    batch["reward"], batch["guidance"], batch["steps"] = (1.0, 2.0), (-0.5, 0.0), (2.0, 0.0)
    batch["next_mask"] = [[True, True, True], [True, False, True]]
    online, target = Constant(1.0, 5.0, 3.0), Constant(10.0, 20.0, 40.0)
    found = targets(online, target, batch, discount=0.5, guide=4.0)
    # The online network chooses 1, where that is legal, else 2; the other tells what it is worth.
    assert found.tolist() == [1.0 - 2.0 + 0.25 * 20.0, 2.0 + 40.0]


def test_a_full_memory_forgets_the_oldest() -> None:
    replay = Replay(np.dtype([("number", np.int64)]), limit=3)
    for number in range(5):
        replay.add(number)
    assert len(replay) == 3
    assert set(replay.sample(np.random.default_rng(0), 100)["number"]) == {2, 3, 4}


def test_the_same_seed_gives_the_same_agent(weights: dict[str, np.ndarray]) -> None:
    again = train.learn(SMALL, fast_and_slow)
    other = train.learn(replace(SMALL, seed=1), fast_and_slow)
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    assert not np.array_equal(other["0.weight"], weights["0.weight"])


@pytest.mark.parametrize("variant", ["baseline", "guided"])
def test_it_learns_to_prefer_the_faster_replica(variant) -> None:
    config = replace(SMALL, variant=variant, episodes=6, hidden=16, gamma=0.998, rate=1e-3)
    learned = train.learn(config, fast_and_slow)
    chosen = []
    for seed in range(3):
        episode = fast_and_slow(SeedSequence(seed))
        policy = GuidedRouter(learned, 2, config.lengths)
        log = simulate(Fleet(episode.workload, episode.fleet, episode.noise), policy).log
        chosen.append((log["replica"] == 0).mean())
    assert np.mean(chosen) > 0.8


# Acting.


def test_plain_values_are_those_of_the_network() -> None:
    torch.manual_seed(3)
    net = network(4, 64)
    assert [tuple(layer.weight.shape) for layer in net if isinstance(layer, nn.Linear)] == [
        (64, 27),
        (64, 64),
        (5, 64),
    ]
    state = np.random.default_rng(0).standard_normal(27).astype(np.float32)
    plain = {name: value.numpy() for name, value in net.state_dict().items()}
    with torch.no_grad():
        wanted = net(torch.from_numpy(state)).numpy()
    assert values(plain, state) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_only_legal_actions_are_chosen() -> None:
    scores = np.array([1.0, 3.0, 9.0])
    assert best_action(scores, np.array([True, True, True])) == 2
    assert best_action(scores, np.array([True, True, False])) == 1
    assert best_action(scores, np.array([True, False])) == 0  # a fleet that cannot hold


def always(action: int, replicas: int) -> GuidedRouter:
    """A router that prefers one action everywhere."""
    net = {name: value.numpy() * 0 for name, value in network(replicas, 8).state_dict().items()}
    net["4.bias"][action] = 1.0
    return GuidedRouter(net, replicas, lengths=True)


@pytest.mark.parametrize("can_hold", [True, False])
def test_a_router_that_wants_to_hold_serves_everybody(can_hold: bool) -> None:
    episode = fast_and_slow(SeedSequence(0))
    fleet = Fleet(episode.workload, replace(episode.fleet, can_hold=can_hold))
    served = simulate(fleet, always(2, replicas=2)).log
    assert (served["status"] == 0).all()
    waited = served["sent_s"] - served["arrival_s"]
    assert (waited.max() > 1) == can_hold


def test_another_size_of_fleet_is_refused() -> None:
    with pytest.raises(ValueError, match="fleets of 4 replicas, not of 2"):
        always(0, replicas=4)(decision([[], []]))


def test_acting_needs_no_torch() -> None:
    program = "import sys, makespan.agents.llm.guided.policy; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout.strip() == "False", told.stderr


# On disk.


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training in a second."""
    monkeypatch.setattr(train, "draw", lambda name: fast_and_slow)
    monkeypatch.setattr(train, "TEST", 2)


@pytest.mark.usefixtures("quick")
def test_the_command_trains_an_agent_that_decides_as_it_was_trained(
    tmp_path: Path, weights: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    options = ["--episodes", "3", "--batch", "32", "--hidden", "8", "--every", "2"]
    arguments = ["--out", str(out), *options, "--target-every", "10"]
    assert train_guided.main(arguments) == 0
    assert "of the latency of round_robin" in capsys.readouterr().out
    episode = fast_and_slow(SeedSequence(9))
    logs = [
        simulate(Fleet(episode.workload, episode.fleet, episode.noise), policy).log["replica"]
        for policy in (router(out)(), GuidedRouter(weights, 2, lengths=True))
    ]
    assert np.array_equal(logs[0], logs[1])
    card = load_agent(out).card
    assert (card.kind, card.settings["replicas"]) == ("guided_dqn", 2)
    assert not set(card.seeds["tuning"]) & set(card.seeds["test"])
    assert train_guided.main(arguments) == 2
    assert "there is an agent already" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_an_agent_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    train.train(SMALL, "toy").save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps(card | {"kind": "guided_dqm"}))
    with pytest.raises(AgentError, match=r"unknown kind of agent 'guided_dqm'\. Did you mean"):
        router(tmp_path)


def test_an_unknown_setting_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown setting 'jian'\. Did you mean 'jain'"):
        train.train(SMALL, "jian")


# Settings.


def test_the_lengths_are_those_of_the_paper() -> None:
    drawn = jain.workload(np.random.default_rng(0), requests=100_000)
    assert drawn.prompt_tokens.mean() == pytest.approx(89.03, rel=0.03)
    assert drawn.output_tokens.mean() == pytest.approx(175.71, rel=0.05)  # less what is cut off
    heavy = (drawn.output_tokens >= jain.HEAVY_TOKENS).mean()
    assert heavy == pytest.approx(0.3554, abs=0.01)
    assert drawn.prompt_tokens.max() <= 1000


@pytest.mark.parametrize("name", jain.TASKS)
def test_answers_of_a_task_have_the_published_mean_and_share(name: str) -> None:
    task = jain.TASKS[name]
    mu, sigma = jain.lognormal(task)
    drawn = np.exp(np.random.default_rng(1).normal(mu, sigma, 400_000))
    assert drawn.mean() == pytest.approx(task.output_tokens, rel=0.02)
    assert (drawn >= jain.HEAVY_TOKENS).mean() == pytest.approx(task.heavy, abs=0.005)


def test_the_smaller_card_is_overloaded_and_the_larger_is_not() -> None:
    small, large = (
        train.mean_latency_s(
            jain.draw(SeedSequence(0), jain.fleet(gb)), train.baseline("round_robin")
        )
        for gb in (16, 32)
    )
    assert small > 10 * large


@pytest.mark.parametrize("name", ["jain", "episodes"])
def test_fleets_of_four_that_may_hold(name: str) -> None:
    episode = draw(name)(SeedSequence(3))
    assert len(episode.fleet.replicas) == 4
    assert episode.fleet.can_hold
