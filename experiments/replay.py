"""One cell of an experiment: one policy on the workload of one seed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from makespan.envs.core.contract import Policy, simulate
from makespan.envs.llm.fleet import Fleet

REPORT_EVERY = 256
"""Decisions between two reports of progress."""


@dataclass(frozen=True)
class Cell:
    """What one policy did with one seed's workload.

    Attributes:
        policy: label of the policy.
        seed: of the run.
        replicas: N.
        log: columns, one row per request (`Fleet.log`).
        timeline: `time` (T,), and the true gauges over it, (T, N) each (`Fleet.timeline`).
        decisions: how often the policy was asked.
        decision_s: wall-clock seconds that its answers took in all.
        wall_s: wall-clock seconds of the whole replay.
    """

    policy: str
    seed: int
    replicas: int
    log: dict[str, np.ndarray]
    timeline: dict[str, np.ndarray]
    decisions: int
    decision_s: float
    wall_s: float


class Stopwatch:
    """A policy that times another, and reports how many decisions it has made."""

    def __init__(self, policy: Policy, progress: Callable[[int], None]) -> None:
        self._policy = policy
        self._progress = progress
        self._elapsed_ns = 0
        self.decisions = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds spent in the policy."""
        return self._elapsed_ns / 1e9

    def __call__(self, decision: Any) -> int:
        start = time.perf_counter_ns()
        action = self._policy(decision)
        self._elapsed_ns += time.perf_counter_ns() - start
        self.decisions += 1
        if self.decisions % REPORT_EVERY == 0:
            self._progress(self.decisions)
        return action


def replay(
    label: str, seed: int, fleet: Fleet, policy: Policy, progress: Callable[[int], None]
) -> Cell:
    """Run `fleet` to its end with `policy`; `progress` is told the decisions made so far."""
    stopwatch = Stopwatch(policy, progress)
    start = time.perf_counter()
    simulate(fleet, stopwatch)
    wall_s = time.perf_counter() - start
    return Cell(
        policy=label,
        seed=seed,
        replicas=len(fleet.requests),
        log=fleet.log,
        timeline=fleet.timeline,
        decisions=stopwatch.decisions,
        decision_s=stopwatch.elapsed_s,
        wall_s=wall_s,
    )
