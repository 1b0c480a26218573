"""What a fleet could serve at most: the unit in which loads are given."""

import dataclasses

import numpy as np

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.traces.transform import slice_count
from makespan.traces.workload import Workload

CAPACITY_REQUESTS = 10_000
"""Requests that capacity is measured on: so many of a synthetic workload, however long the run's
is, or of a trace from its first."""

SATURATED = (0.1, 0.9)
"""Shares of the requests finished between which a replica counts as saturated: before, its batch is
still filling; after, it drains."""


def capacity(workload: Workload, fleet: FleetConfig) -> float:
    """Requests per second that `fleet` serves when it never runs out of them.

    The sum over the replicas of what each finishes per second by itself with the first
    `CAPACITY_REQUESTS` of the workload all there from the start, counted while it is saturated (see
    `SATURATED`). No router loses a request or leaves a replica idle in that measurement, so a load
    of 1 is more than any policy can carry without a growing queue. The prefix cache of the single
    replica sees every session, where a fleet's caches see some of them each.
    """
    backlog = at_once(slice_count(workload, 0, CAPACITY_REQUESTS))
    kinds = {replica: saturated_rate(backlog, fleet, replica) for replica in set(fleet.replicas)}
    return sum(kinds[replica] for replica in fleet.replicas)


def saturated_rate(backlog: Workload, fleet: FleetConfig, replica: ReplicaConfig) -> float:
    """Requests per second that one replica finishes out of `backlog` while it is saturated.

    Nan if too few requests finish at different times to tell.
    """
    # A bounded queue would turn the backlog away.
    engine = dataclasses.replace(replica.engine, max_num_queued_requests=0)
    alone = dataclasses.replace(
        fleet, replicas=(dataclasses.replace(replica, engine=engine),), outages=()
    )
    log = simulate(Fleet(backlog, alone), lambda decision: 0).log
    finish_s = np.sort(log["finish_s"][np.isfinite(log["finish_s"])])
    start, end = (int(share * (len(finish_s) - 1)) for share in SATURATED)
    if len(finish_s) < 2 or finish_s[end] <= finish_s[start]:
        return float("nan")
    return float((end - start) / (finish_s[end] - finish_s[start]))


def at_once(workload: Workload) -> Workload:
    """The same requests in the same order, all there at time 0."""
    return dataclasses.replace(workload, arrival_s=np.zeros(len(workload)))
