"""A policy's choice, as another router asks for it."""

import doctest
import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

from makespan.agents.serve import choose
from makespan.agents.serve.view import Incoming, LiveFleet, Replica
from makespan.envs.llm.config import ReplicaConfig
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.replica import resolve

SERVER = resolve(ReplicaConfig())

HEAVY = ("aiohttp", "starlette", "tokenizers", "torch", "uvicorn", "uvloop")


def fleet_of(replicas: int, can_hold: bool = False) -> LiveFleet:
    return LiveFleet([Replica(SERVER) for _ in range(replicas)], can_hold)


def ask(fleet: LiveFleet, index: int = 0) -> RoutingDecision:
    return fleet.decision(Incoming(index, 0.0, 40, np.zeros(0, np.int64)), 0.0)


def test_the_example_of_the_module_runs():
    module = importlib.import_module("makespan.agents.serve.choose")
    done = doctest.testmod(module)
    assert done.failed == 0
    assert done.attempted >= 15


def test_the_default_weighs_prompts_and_requests():
    fleet = fleet_of(3)
    for r in (0, 1):
        fleet.send(r, Incoming(r, 0.0, 100, np.zeros(0, np.int64)), 0.0)
    assert choose(ask(fleet)) == 2


def test_a_named_policy_remembers_what_it_chose():
    fleet = fleet_of(5)
    turns = [choose(ask(fleet, i), "round_robin") for i in range(6)]
    first = turns[0]
    assert turns == [(first + i) % 5 for i in range(6)]


def test_fleets_of_other_sizes_have_policies_of_their_own():
    small, large = fleet_of(6), fleet_of(7)
    before = choose(ask(small), "round_robin")
    for _ in range(3):
        choose(ask(large), "round_robin")
    assert choose(ask(small), "round_robin") == (before + 1) % 6


def test_a_policy_may_be_given_itself():
    assert choose(ask(fleet_of(4)), lambda decision: decision.replicas - 1) == 3


def test_an_agent_chooses_a_replica_that_is_up():
    fleet = fleet_of(3)
    fleet.replicas[0].up = fleet.replicas[1].up = False
    assert choose(ask(fleet), "agent") == 2


def test_a_request_can_be_kept_where_that_is_allowed():
    fleet = fleet_of(2, can_hold=True)
    fleet.send(0, Incoming(0, 0.0, 100, np.zeros(0, np.int64)), 0.0)
    assert choose(ask(fleet), lambda decision: decision.replicas) == 2


@pytest.mark.parametrize("action", [-1, 1, 2])
def test_what_is_not_possible_is_not_answered(action: int):
    fleet = fleet_of(2)
    fleet.replicas[1].up = False
    with pytest.raises(ValueError, match=f"chose {action}, which is not possible"):
        choose(ask(fleet), lambda decision: action)


def test_an_unknown_name_is_said():
    with pytest.raises(ValueError, match="lmetrik"):
        choose(ask(fleet_of(2)), "lmetrik")


def test_an_agent_for_another_number_of_replicas_is_refused():
    with pytest.raises(ValueError, match="guided_dqn routes for 4 replicas, not for 2"):
        choose(ask(fleet_of(2)), "guided_dqn")


def test_choosing_loads_neither_servers_nor_networks():
    code = f"""
import json, sys
import numpy as np
from makespan.agents.serve import choose
from makespan.agents.serve.choose import choose as same
from makespan.agents.serve.view import Incoming, LiveFleet, Replica
from makespan.envs.llm.config import ReplicaConfig
from makespan.envs.llm.replica import resolve
fleet = LiveFleet([Replica(resolve(ReplicaConfig()))], False)
decision = fleet.decision(Incoming(0, 0.0, 1, np.zeros(0, np.int64)), 0.0)
assert choose is same and choose(decision) == choose(decision, "agent") == 0
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []
