"""One machine, simulated from one event to the next: a release, the end of an operation, a review.

Preemption costs nothing, and jobs that share the machine progress at the same rate, the limit of
round robin with short turns (processor sharing).
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import simpy

from makespan.envs.jobshop.single.decision import MachineDecision, Service
from makespan.traces.jobshop.single_machine import MachineJobs

Reveals = Literal["nothing", "operation", "job"]
"""What is known of sizes: nothing before the end; that of an operation when the one before it ends
(arXiv 2602.12716), which is all of them where jobs have one operation; all of a job when it comes.
"""

MachinePolicy = Callable[[MachineDecision], int | Service]
"""Answers the number of a job, or a `Service`."""

REVEALS: tuple[Reveals, ...] = get_args(Reveals)


class SingleMachine:
    """A `makespan.envs.core.contract.Simulation`.

    A decision is due when a job comes, an operation ends or the time of a `Service` is over, if
    there is a job. The answer is the number of a job, or a `Service`. Without preemption, an
    operation that has begun is done to its end; then another job can be next.

    Attributes:
        jobs: to be done.
        clock: in the unit of the sizes.
    """

    def __init__(
        self, jobs: MachineJobs, reveals: Reveals = "nothing", preemptive: bool = True
    ) -> None:
        if reveals not in REVEALS:
            raise ValueError(f"sizes are revealed by {', '.join(REVEALS)}, not by {reveals!r}")
        self.jobs = jobs
        self.reveals = reveals
        self.preemptive = preemptive
        self.clock = simpy.Environment()
        self._coming = np.argsort(jobs.release, kind="stable")
        self._come = 0
        self._there = np.zeros(jobs.jobs, np.bool_)
        self._end = np.full(jobs.jobs, np.nan)
        self._operation = jobs.first_operation[:-1].copy()
        self._left = jobs.size[self._operation]
        self._later = jobs.job_size - self._left  # in the operations after the present one
        self._received = np.zeros(jobs.jobs)
        self._service: Service | None = None
        self._services: list[tuple[np.ndarray, float, float, float]] = []

    @property
    def log(self) -> dict[str, np.ndarray]:
        """One row per job; `end` is nan before that."""
        jobs = self.jobs
        return {
            "type": jobs.type.copy(),
            "release": jobs.release.copy(),
            "size": jobs.job_size,
            "due": jobs.due.copy(),
            "end": self._end.copy(),
        }

    @property
    def services(self) -> dict[str, np.ndarray]:
        """What was done, in the order of time: one row for each operation and each time that it had
        the machine, alone or with others.

        `operation` is counted through all jobs, `amount` is what it got from `start` to `end`.
        """
        operations = [operations for operations, *_ in self._services]
        shared = [len(of) for of in operations]
        times = np.array([times for _, *times in self._services]).reshape(-1, 3)
        start, end, amount = np.repeat(times, shared, axis=0).T
        operation = np.concatenate([np.zeros(0, np.int64), *operations])
        return {"operation": operation, "start": start, "end": end, "amount": amount}

    def flow_time(self) -> float:
        """Total time that jobs have been there, so far."""
        until = np.where(np.isnan(self._end), self.clock.now, self._end)
        return float((until - self.jobs.release)[self._released].sum())

    def tardiness(self) -> float:
        """Total time by which jobs that are finished were late."""
        late = self._end - self.jobs.due
        return float(late[late > 0].sum())

    @property
    def _released(self) -> np.ndarray:
        return self._coming[: self._come]

    def next_decision(self) -> MachineDecision | None:
        """Work until something is to be decided; None when all jobs are finished."""
        if self._service is not None:
            self._work(self._service)
        if not self._there.any():
            if self._come == self.jobs.jobs:
                return None
            self._go_to(self._next_release())
        return self._view()

    def decide(self, action: int | Service) -> None:
        """What to work on from now on.

        Raises:
            ValueError: a job is not there, or without preemption the machine is to be shared, or
                only for some time.
        """
        service = action if isinstance(action, Service) else Service((int(action),))
        for job in service.jobs:
            if not (0 <= job < self.jobs.jobs and self._there[job]):
                raise ValueError(f"job {job} is not there")
        if not self.preemptive and (len(service.jobs) > 1 or service.at_most < np.inf):
            raise ValueError("without preemption one job has the machine, to an operation's end")
        self._service = service

    def _work(self, service: Service) -> None:
        jobs = np.array(service.jobs)
        now, least = self.clock.now, float(self._left[jobs].min())
        end = now + least * len(jobs)
        interrupted = self._next_release() if self.preemptive else np.inf
        moment = min(end, interrupted, now + service.at_most)
        done = least if moment == end else (moment - now) / len(jobs)
        self._service = None
        self._services.append((self._operation[jobs], now, moment, done))
        self._go_to(moment)
        self._left[jobs] -= done
        self._received[jobs] += done
        for job in jobs[self._left[jobs] <= 0].tolist():
            self._end_operation(job)

    def _end_operation(self, job: int) -> None:
        self._operation[job] += 1
        if self._operation[job] < self.jobs.first_operation[job + 1]:
            self._left[job] = self.jobs.size[self._operation[job]]
            self._later[job] -= self._left[job]
            return
        self._left[job] = self._later[job] = 0.0
        self._there[job] = False
        self._end[job] = self.clock.now

    def _next_release(self) -> float:
        if self._come == self.jobs.jobs:
            return np.inf
        return float(self.jobs.release[self._coming[self._come]])

    def _go_to(self, moment: float) -> None:
        """Jobs that have come by then are there (the clock may be off by a rounding error)."""
        if moment > self.clock.now:
            self.clock.run(until=moment)
        while self._next_release() <= moment:
            self._there[self._coming[self._come]] = True
            self._come += 1

    def _view(self) -> MachineDecision:
        jobs = self.jobs
        here = np.zeros(jobs.jobs, np.bool_)
        here[self._released] = True
        finished = here & ~self._there
        known_operation = finished | (here & (self.reveals != "nothing"))
        known_job = finished | (here & (self.reveals == "job"))
        return MachineDecision(
            self.clock.now,
            self._there.copy(),
            np.where(here, jobs.type, -1),
            np.where(here, jobs.release, np.nan),
            np.where(here, jobs.due, np.nan),
            self._received.copy(),
            finished,
            np.where(known_operation, self._left, np.nan),
            np.where(known_job, self._left + self._later, np.nan),
            np.bincount(jobs.type),
        )


def run(machine: SingleMachine, policy: MachinePolicy) -> SingleMachine:
    """As `makespan.envs.core.contract.simulate`, whose policies answer nothing but numbers."""
    while (decision := machine.next_decision()) is not None:
        machine.decide(policy(decision))
    return machine
