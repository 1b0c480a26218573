"""Names on the command line to policies."""

from pathlib import Path

import numpy as np
import pytest

from makespan.agents.folder import load_agent
from makespan.agents.shipped import AGENTS, folder_of
from makespan.baselines.llm import POLICIES
from makespan.experiments.policies import resolve

OWN = """
def always_last(decision):
    return len(decision.action_mask) - 1

class Counter:
    def __init__(self):
        self.count = 0
    def __call__(self, decision):
        self.count += 1
        return self.count

class Drawn:
    def __init__(self, seed):
        self.seed = seed
    def __call__(self, decision):
        return self.seed

NUMBER = 4
"""


class FourReplicas:
    action_mask = np.ones(4, bool)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN, encoding="utf-8")
    return path


def test_all_is_every_baseline_and_agent_in_the_order_of_the_registries():
    assert list(resolve("all")) == [*POLICIES, *AGENTS]
    assert next(iter(resolve("round_robin,all"))) == "round_robin"


def test_all_leaves_out_agents_that_know_another_size_of_fleet():
    assert set(resolve("all", [4])) - set(resolve("all", [4, 16])) == {"guided_dqn"}
    with pytest.raises(ValueError, match="guided_dqn routes for 4 replicas, not for 16"):
        resolve("guided_dqn", [16])


def test_an_agent_goes_by_its_folder(tmp_path):
    load_agent(folder_of("agent")).save(tmp_path / "mine")
    assert list(resolve(f"lmetric,{tmp_path / 'mine'}", [7])) == ["lmetric", "mine"]
    with pytest.raises(ValueError, match="no agent here"):
        resolve(str(tmp_path))


def test_a_folder_does_not_hide_a_rule_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("random").mkdir()
    assert list(resolve("random")) == ["random"]


def test_baselines_are_made_anew_for_every_run():
    make = resolve("round_robin")["round_robin"]
    assert make(0) is not make(0)


def test_a_function_of_ones_own(own):
    factories = resolve(f"random,{own}:always_last")
    assert list(factories) == ["random", "always_last"]
    assert factories["always_last"](5)(FourReplicas()) == 3


def test_a_class_of_ones_own_is_made_anew_and_seeded_if_it_wants(own):
    factories = resolve(f"{own}:Counter,{own}:Drawn")
    first, second = factories["Counter"](0), factories["Counter"](0)
    assert [first(None), first(None), second(None)] == [1, 2, 1]
    assert factories["Drawn"](17)(None) == 17


def test_unknown_names_offer_near_ones(own):
    with pytest.raises(ValueError, match=r"unknown router policy 'round_robbin'.*'round_robin'"):
        resolve("round_robbin")
    with pytest.raises(ValueError, match="no function or class 'allways_last'"):
        resolve(f"{own}:allways_last")
    with pytest.raises(ValueError, match="no function or class 'NUMBER'"):
        resolve(f"{own}:NUMBER")
    with pytest.raises(ValueError, match="not a Python file"):
        resolve("nowhere.py:rule")


def test_two_policies_of_one_name_are_refused(own):
    other = own.with_name("other.py")
    other.write_text("def always_last(decision): return 0", encoding="utf-8")
    with pytest.raises(ValueError, match="two policies are called 'always_last'"):
        resolve(f"{own}:always_last,{other}:always_last")
