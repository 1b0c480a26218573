"""The static job shop as a `Simulation`: choice by choice, a schedule."""

from dataclasses import dataclass

import numpy as np
import simpy

from makespan.envs.jobshop.core import Way, advance, begin, place, way_number
from makespan.envs.jobshop.features import FEATURES, describe, facts
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop


@dataclass(frozen=True)
class ShopDecision:
    """Which of these operations is next?

    Attributes:
        shop: all of it is known.
        time: the earliest moment at which one of them can begin, in the shop's unit of time.
        machine: that is asked about; -1 if the operations are on several.
        jobs: int64 (candidates,), ascending; at least two.
        operations: int64 (candidates,): the next one of each of these jobs.
        ready: int64 (candidates,): when its job is ready for it.
        begins: int64 (candidates,): when the operation could begin; for the way `insert` behind
            what its machine has, though a gap may be earlier.
        rows: float32 (candidates, 24): what describes them, see `makespan.envs.jobshop.features`.
        following: int64 (jobs,): the next operation of each job; that of the next job if none.
        start: int64 (operations,): of those that are placed, which come before `following`.
        machine_ready: int64 (machines,): when the last that is placed on each ends.
        work: int64 (machines,): what each has to do that is not placed.
        action_mask: bool (jobs,): an action is the number of a job.
    """

    shop: JobShop
    time: float
    machine: int
    jobs: np.ndarray
    operations: np.ndarray
    ready: np.ndarray
    begins: np.ndarray
    rows: np.ndarray
    following: np.ndarray
    start: np.ndarray
    machine_ready: np.ndarray
    work: np.ndarray

    @property
    def action_mask(self) -> np.ndarray:
        mask = np.zeros(self.shop.jobs, bool)
        mask[self.jobs] = True
        return mask


class _Clock(simpy.Environment):
    """A clock without events: the shop knows what comes next."""

    def go_on_to(self, time: int) -> None:
        self._now = max(self._now, time)


class ShopSimulation:
    """A plain job shop that asks what is next wherever there is a choice.

    Args:
        shop: without a choice of machines.
        way: what a choice is between; see `makespan.envs.jobshop.core.Way`.

    Attributes:
        columns, facts: the shop, for compiled code.
        state: what has been placed so far.
        count: candidates of the decision that is due; 0 if none is.
        bound: lower bound on the makespan when that was asked; in the end the makespan.

    Raises:
        ValueError: operations have a choice of machines, or there is no such way.
    """

    def __init__(self, shop: JobShop, way: Way = "nondelay") -> None:
        self.shop = shop
        self._clock = _Clock()
        self.clock: simpy.Environment = self._clock
        self.columns, self.facts = facts(shop)
        self.way = way_number(way)
        self.state = begin(self.columns, self.way)
        self.count = 0
        self.bound = shop.lower_bound()
        self._candidates: list[int] = []
        self._queue = np.empty(shop.machines, np.int64)

    def next_decision(self) -> ShopDecision | None:
        """Place what needs no choice; the next choice, or None when all is placed."""
        self.count = advance(self.columns, self.state, self.way)
        if not self.count:
            self.bound = int(self.state.job_ready.max())
            self._clock.go_on_to(self.bound)
            return None
        self._clock.go_on_to(int(self.state.moment[0]))
        jobs = self.state.candidates[: self.count].copy()
        self._candidates = jobs.tolist()
        rows = np.empty((self.count, len(FEATURES)), np.float32)
        self.bound = describe(self.columns, self.facts, self.state, self.count, self._queue, rows)
        return ShopDecision(
            self.shop,
            float(self.clock.now),
            int(self.state.moment[1]),
            jobs,
            self.state.following[jobs],
            self.state.job_ready[jobs],
            self.state.begins[jobs],
            rows,
            self.state.following.copy(),
            self.state.start.copy(),
            self.state.machine_ready.copy(),
            self.state.work.copy(),
        )

    def decide(self, action: int) -> None:
        """Place the next operation of this job.

        Raises:
            ValueError: it is no candidate, or no decision is due.
        """
        if not self.count:
            raise ValueError("no decision is due")
        if action not in self._candidates:
            raise ValueError(f"job {action} is no candidate")
        place(self.columns, self.state, action, self.way)
        self.count = 0

    @property
    def placed(self) -> np.ndarray:
        """bool (operations,)."""
        return np.arange(self.shop.operations) < self.state.following[self.shop.job]

    @property
    def schedule(self) -> Schedule:
        """Complete once `next_decision` has returned None."""
        return Schedule.plain(self.shop, self.state.start.copy())

    @property
    def log(self) -> dict[str, np.ndarray]:
        """One row per operation, int64: job, operation, machine, start, end."""
        schedule = self.schedule
        job = self.shop.job
        return {
            "job": job,
            "operation": np.arange(self.shop.operations) - self.shop.first_operation[job],
            "machine": schedule.machine.copy(),
            "start": schedule.start,
            "end": schedule.end,
        }
