"""`makespan agents`: the shipped agents, one's own, and broken ones, in a line each."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from makespan.agents.folder import CARD, Agent, load_agent
from makespan.agents.jobshop.dynamic import DynamicWorld
from makespan.agents.shipped import AGENTS, folder_of
from makespan.agents.world import WORLDS
from makespan.envs.core.registry import load
from makespan.experiments.agents_cli import main


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a copy of the shipped agent, and one with a damaged card."""
    monkeypatch.chdir(tmp_path)
    load_agent(folder_of("agent")).save(tmp_path / "mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / CARD).write_text("{", encoding="utf-8")
    (tmp_path / "no-agent").mkdir()
    return "."


def test_list_names_shipped_agents_and_those_in_a_folder(runs: str, capsys) -> None:
    assert main(["list", runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = [line.split()[0] for line in lines[1:]]
    assert first[: len(AGENTS)] == list(AGENTS)
    mine = next(line for line in lines if line.startswith("mine "))
    assert "llm_router" in mine
    assert not any("no-agent" in line for line in lines)


def test_scores_are_relative_to_what_their_world_names(runs: str, capsys) -> None:
    router = load_agent(folder_of("agent"))
    settings = asdict(DynamicWorld(rule="atc", jobs=(8, 9)))
    card = replace(router.card, world="dynamic_job_shop", settings=settings)
    Agent(replace(card, results={"test": {"mean": 0.9}}), router.weights).save(Path("dynamic"))
    unknown = replace(card, results=router.card.results, settings={"rul": "atc"})
    Agent(unknown, router.weights).save(Path("unknown"))
    assert main(["list", runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = {line.split()[0]: line for line in lines}
    assert row["agent"].rstrip().endswith("of lookahead")
    assert row["guided_dqn"].rstrip().endswith("of round_robin")
    assert row["job_shop"].rstrip().endswith("of tail_p")
    assert row["blocking_job_shop"].rstrip().endswith("of blk_tail_p")
    assert row["dynamic"].rstrip().endswith("0.900 of atc")
    assert "unknown setting 'rul'" in row["unknown"]


@pytest.mark.parametrize("name", WORLDS)
def test_what_a_world_is_evaluated_against_can_be_imitated(name: str) -> None:
    world = load("world", WORLDS, name)()
    assert callable(world.teacher(world.reference))


def test_a_damaged_card_does_not_hide_the_others(runs: str, capsys) -> None:
    assert main(["list", runs]) == 0
    printed = capsys.readouterr().out
    assert "broken/card.json" in printed
    assert "mine" in printed


def test_show_prints_the_card(capsys) -> None:
    assert main(["show", "agent"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["world"] == "llm_router"
    assert not set(card["seeds"]["tuning"]) & set(card["seeds"]["test"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "agnet"], "Did you mean 'agent'"),
        (["show"], "does not know 'show'"),
        (["lsit"], "does not know 'lsit'"),
    ],
)
def test_bad_input_is_one_error(arguments: list[str], said: str, capsys) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_help(capsys) -> None:
    assert main(["--help"]) == 0
    assert "usage: makespan agents list" in capsys.readouterr().out
    assert main([]) == 2
