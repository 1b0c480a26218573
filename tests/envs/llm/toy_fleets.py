"""Fleets whose timelines can be worked out by hand: every step takes 10 ms."""

from typing import Any

from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import STATUS, Fleet
from makespan.experiments.fidelity.queueing import CONSTANT
from makespan.traces.workload import Workload


def replica(**engine):
    settings: dict[str, Any] = {"kv_blocks": 1000, "max_num_seqs": 8, "max_num_batched_tokens": 64}
    return ReplicaConfig(engine=EngineConfig(**(settings | engine)), step_model=CONSTANT)


def fleet_of(requests, *replicas, seed=0, **config):
    workload = requests
    if not isinstance(requests, Workload):
        workload = Workload.from_requests(requests)
    return Fleet(workload, FleetConfig(replicas=replicas or (replica(),), **config), seed)


def due(fleet):
    decision = fleet.next_decision()
    assert decision is not None
    return decision


def least_requests(decision):
    return decision.lowest(decision.requests)


def status(fleet):
    return [STATUS[code] for code in fleet.log["status"]]
