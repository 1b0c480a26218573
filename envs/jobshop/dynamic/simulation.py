"""A shop into which jobs come and whose machines break down, on a SimPy clock.

Time goes from event to event: a job is released, an operation is done, a machine fails or is
repaired. When all that happens at one moment has happened, machines that are idle and up choose,
the one with the lowest number first; where one job waits there is nothing to choose. No machine
waits that could work (`nondelay` in `makespan.envs.jobshop.generation`), not even for a job that
another could do faster.
"""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import simpy

from makespan.envs.jobshop.dynamic.config import Conditions
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.envs.jobshop.dynamic.disturbances import (
    Downtimes,
    breakdowns,
    check_downtimes,
    true_per_planned,
)
from makespan.envs.jobshop.dynamic.machine import Machine
from makespan.envs.jobshop.dynamic.plan import Plan
from makespan.envs.jobshop.dynamic.schedule import DynamicSchedule
from makespan.traces.jobshop.instance import JobShop


class DynamicJobShop:
    """A run of a shop; a `Simulation` whose decisions are `DispatchDecision`s.

    Args:
        shop: the jobs, which are unknown until they are released; operations may have a choice of
            machines.
        conditions: breakdowns and the spread of durations; None: neither.
        seed: root of the randomness. True durations and the breakdowns of each machine follow from
            it, whatever a policy does.
        weight: float64 (jobs,), what a unit of a job's tardiness costs; None: 1.
        downtimes: of each machine, instead of breakdowns by chance.

    Attributes:
        clock: the SimPy environment, in the instance's unit of time.
        shop, conditions: as given.
        mean_duration: planned, over all options; 1 if nothing takes time.

    Raises:
        ValueError: weights or downtimes do not fit the shop.
    """

    def __init__(
        self,
        shop: JobShop,
        conditions: Conditions | None = None,
        seed: int = 0,
        weight: np.ndarray | None = None,
        downtimes: Sequence[Downtimes] | None = None,
    ) -> None:
        self.clock = simpy.Environment(0.0)
        self.shop = shop
        self.conditions = conditions or Conditions()
        durations, *machines = np.random.SeedSequence(seed).spawn(1 + shop.machines)
        self._plan = plan = Plan(shop, np.ones(shop.jobs) if weight is None else weight)
        factor = true_per_planned(
            self.conditions, shop.operations, np.random.default_rng(durations)
        )
        self._true = plan.duration * factor[plan.operation]
        self._machines = [Machine(number) for number in range(shop.machines)]
        self._due: Machine | None = None
        self._read_plan()
        self._start_processes(machines, downtimes)

    def _read_plan(self) -> None:
        """Plain lists: an entry of an array costs several times as much to read."""
        plan, shop = self._plan, self.shop
        self._machine_of, self._duration = shop.machine.tolist(), plan.duration.tolist()
        self._first_option, self._mean = shop.first_option.tolist(), plan.mean.tolist()
        self.mean_duration = float(plan.duration.mean()) or 1.0
        self._next_operation = shop.first_operation[:-1].tolist()
        self._end_operation = shop.first_operation[1:].tolist()
        self._share, self._tail = plan.share.tolist(), plan.tail.tolist()
        self._ready = np.zeros(shop.jobs)
        self._remaining = np.zeros(shop.jobs)
        self._done = np.full(shop.jobs, np.inf)
        self._unfinished = shop.jobs
        self._in_system, self._work_in_system = 0, 0.0
        self._pieces: list[tuple[int, float, float, bool]] = []
        self._downtimes: list[tuple[int, float, float]] = []

    def _start_processes(
        self, seeds: list[np.random.SeedSequence], downtimes: Sequence[Downtimes] | None
    ) -> None:
        self.clock.process(self._release())
        if downtimes is not None:
            downtimes = check_downtimes(downtimes, self.shop.machines)
        else:
            random = map(np.random.default_rng, seeds)
            downtimes = [breakdowns(self.conditions, rng) for rng in random]
        for machine, intervals in zip(self._machines, downtimes, strict=True):
            self.clock.process(self._break_down(machine, intervals))

    # The contract.

    def next_decision(self) -> DispatchDecision | None:
        """Advance until a machine has a choice; None when all jobs are done."""
        while self._unfinished:
            machine = self._machine_to_start()
            if machine is None:
                self._advance()
            elif len(machine.queue) == 1:
                self._begin(machine, machine.queue[0])
            else:
                self._due = machine
                return self._decision(machine)
        return None

    def decide(self, action: int) -> None:
        """The candidate at that place begins.

        Raises:
            RuntimeError: no decision is due.
            ValueError: there is no such candidate.
        """
        if self._due is None:
            raise RuntimeError("no decision is due: call next_decision() first")
        if not 0 <= action < len(self._due.queue):
            raise ValueError(f"action must be in 0..{len(self._due.queue) - 1}, not {action}")
        machine, self._due = self._due, None
        self._begin(machine, machine.queue[action])

    @property
    def log(self) -> dict[str, np.ndarray]:
        """One row per job: `job`, `release`, `due` (inf: none), `weight`, `done` (inf: not yet)."""
        return {
            "job": np.arange(self.shop.jobs),
            "release": self.shop.release.astype(np.float64),
            "due": self._plan.due.copy(),
            "weight": self._plan.weight.copy(),
            "done": self._done.copy(),
        }

    # What happened.

    def schedule(self) -> DynamicSchedule:
        """When and where operations were done so far, and when machines were down."""
        option, start, end, interrupted = _columns(self._pieces, 4)
        now = self.clock.now
        broken = ((m.number, m.down_since, now) for m in self._machines if not m.up)
        machine, failed, repaired = _columns([*self._downtimes, *broken], 3)
        return DynamicSchedule(
            shop=self.shop,
            after_repair=self.conditions.after_repair,
            duration=self._true.copy(),
            weight=self._plan.weight.copy(),
            option=option.astype(np.int64),
            start=start,
            end=end,
            interrupted=interrupted.astype(np.bool_),
            down_machine=machine.astype(np.int64),
            down_from=failed,
            down_to=repaired,
        )

    def time_in_system(self) -> float:
        """Of all jobs so far."""
        now, release = self.clock.now, self.shop.release
        return float(np.maximum(np.minimum(self._done, now) - release, 0).sum())

    def tardiness(self) -> float:
        """Weighted, of all jobs that have come, so far."""
        late = np.minimum(self._done, self.clock.now) - self._plan.due
        come = self.shop.release <= self.clock.now
        return float((self._plan.weight * np.where(come, np.maximum(late, 0), 0)).sum())

    def unfinished(self) -> list[tuple[int, int]]:
        """(job, operation) of jobs that have come: the operation that each waits for or is in."""
        come = np.flatnonzero((self.shop.release <= self.clock.now) & np.isinf(self._done))
        return [(job, self._next_operation[job]) for job in come.tolist()]

    def begun(self) -> list[tuple[int, int, float]]:
        """(machine, option, planned work left) of what machines have begun, interrupted or not."""
        now = self.clock.now
        busy = (m for m in self._machines if m.option >= 0)
        return [(m.number, m.option, m.planned_left_at(now)) for m in busy]

    def under_way(self) -> list[tuple[int, int, float]]:
        """(machine, option, since) of what machines work on now."""
        busy = (m for m in self._machines if m.completion is not None)
        return [(m.number, m.option, m.began) for m in busy]

    def operation(self, option: int) -> int:
        """Of the shop, that is done by that option."""
        return int(self._plan.operation[option])

    # Events.

    def _advance(self) -> None:
        """To the next moment at which something happens, and through all that happens then."""
        self.clock.step()
        while self.clock.peek() == self.clock.now:
            self.clock.step()

    def _release(self) -> Generator[simpy.Event, Any, None]:
        """Jobs come."""
        for job in np.argsort(self.shop.release, kind="stable").tolist():
            wait = int(self.shop.release[job]) - self.clock.now
            if wait > 0:
                yield self.clock.timeout(wait)
            self._in_system += 1
            self._work_in_system += float(self._plan.work[job])
            self._add_loads(job)
            self._queue_up(job)

    def _add_loads(self, job: int) -> None:
        """The job will come to these machines."""
        operations = slice(self._next_operation[job], self._end_operation[job] + 1)
        options = self._first_option[operations]
        for option in range(options[0], options[-1]):
            self._machines[self._machine_of[option]].load += self._share[option]

    def _break_down(
        self, machine: Machine, downtimes: Downtimes
    ) -> Generator[simpy.Event, Any, None]:
        """A machine fails and is repaired, again and again."""
        for failed, repaired in downtimes:
            yield self.clock.timeout(failed - self.clock.now)
            self._fail(machine)
            yield self.clock.timeout(repaired - self.clock.now)
            self._repair(machine)

    def _fail(self, machine: Machine) -> None:
        now = self.clock.now
        machine.up, machine.down_since = False, now
        # What would be done at this very moment is done: its event is still to come.
        if machine.completion is None or machine.began + machine.left <= now:
            return
        if self.conditions.after_repair == "resume":
            machine.left -= now - machine.began
            machine.planned_left -= now - machine.began
        machine.completion = None
        self._end_piece(machine, interrupted=True)

    def _repair(self, machine: Machine) -> None:
        machine.up = True
        self._downtimes.append((machine.number, machine.down_since, self.clock.now))
        if machine.option >= 0:
            self._go_on(machine)

    def _begin(self, machine: Machine, option: int) -> None:
        """The operation of that option begins, and waits nowhere else."""
        operation = self.operation(option)
        for other in range(self._first_option[operation], self._first_option[operation + 1]):
            able = self._machines[self._machine_of[other]]
            able.leave(other, self._duration[other])
            able.load -= self._share[other]
        machine.option = option
        machine.left = float(self._true[option])
        machine.planned_left = self._duration[option]
        self._go_on(machine)

    def _go_on(self, machine: Machine) -> None:
        machine.began = self.clock.now
        machine.completion = event = self.clock.timeout(machine.left, machine)
        event.callbacks.append(self._complete)

    def _complete(self, event: simpy.Event) -> None:
        machine: Any = event.value
        if machine.completion is not event:
            return  # it was interrupted
        self._end_piece(machine, interrupted=False)
        job = int(self._plan.job[machine.option])
        machine.option, machine.completion = -1, None
        self._work_in_system -= self._mean[self._next_operation[job]]
        self._next_operation[job] += 1
        if self._next_operation[job] < self._end_operation[job]:
            self._queue_up(job)
        else:
            self._done[job] = self.clock.now
            self._remaining[job] = 0.0
            self._unfinished -= 1
            self._in_system -= 1

    def _end_piece(self, machine: Machine, interrupted: bool) -> None:
        if self.clock.now > machine.began or not interrupted:
            self._pieces.append((machine.option, machine.began, self.clock.now, interrupted))

    def _queue_up(self, job: int) -> None:
        """The job waits for its next operation, at every machine that could do it."""
        self._ready[job] = self.clock.now
        operation = self._next_operation[job]
        first = self._first_option[operation]
        self._remaining[job] = self._mean[operation] + self._tail[first]
        for option in range(first, self._first_option[operation + 1]):
            self._machines[self._machine_of[option]].join(option, self._duration[option])

    # Decisions.

    def _machine_to_start(self) -> Machine | None:
        """The first that is idle and up and for which something waits."""
        for machine in self._machines:
            if machine.queue and machine.option < 0 and machine.up:
                return machine
        return None

    def _decision(self, machine: Machine) -> DispatchDecision:
        plan, now, machines = self._plan, self.clock.now, self._machines
        options = np.array(machine.queue)
        jobs = plan.job[options]
        free_in = [self._free_in(m) for m in machines]
        comes_in, comes_tail = self._next_to_come(free_in)
        return DispatchDecision(
            time=now,
            machine=machine.number,
            job=jobs,
            operation=plan.place[options],
            duration=plan.duration[options],
            tail=plan.tail[options],
            through=plan.through[options],
            operations_left=plan.operations_left[options],
            ready=self._ready[jobs],
            release=self.shop.release[jobs].astype(np.float64),
            due=plan.due[jobs],
            weight=plan.weight[jobs],
            next_machine=self._next_machines(options),
            next_duration=plan.next_duration[options],
            up=np.array([m.up for m in machines]),
            down_for=np.array([0.0 if m.up else now - m.down_since for m in machines]),
            left=np.array([m.planned_left_at(now) for m in machines]),
            queue_work=np.array([m.queue_work for m in machines]),
            queue_length=np.array([len(m.queue) for m in machines]),
            free_in=np.array(free_in),
            load=np.array([max(m.load, 0.0) for m in machines]),
            comes_in=comes_in,
            comes_tail=comes_tail,
            longest=self._longest(free_in),
            jobs_in_system=self._in_system,
            work_in_system=self._work_in_system,
            mean_duration=self.mean_duration,
        )

    def _free_in(self, machine: Machine) -> float:
        """When it is expected to be done with what it has begun, from now.

        How long it has been down says nothing: repairs are exponential, those to come as well.
        """
        repair = 0.0 if machine.up else self.conditions.mean_repair
        return repair + machine.planned_left_at(self.clock.now)

    def _next_to_come(self, free_in: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """`comes_in` and `comes_tail` of a `DispatchDecision`."""
        comes_in = np.full(len(self._machines), np.inf)
        comes_tail = np.zeros(len(self._machines))
        for machine, wait in zip(self._machines, free_in, strict=True):
            for option in self._following(machine.option):
                there = self._machine_of[option]
                if wait < comes_in[there]:
                    comes_in[there], comes_tail[there] = wait, self._tail[option]
        return comes_in, comes_tail

    def _following(self, option: int) -> range:
        """The options of the operation that follows in the job."""
        if option < 0 or self._plan.operations_left[option] == 1:
            return range(0)
        following = self.operation(option) + 1
        return range(self._first_option[following], self._first_option[following + 1])

    def _longest(self, free_in: list[float]) -> float:
        """`longest` of a `DispatchDecision`."""
        remaining = self._remaining.copy()
        for machine, wait in zip(self._machines, free_in, strict=True):
            if machine.option >= 0:
                remaining[self._plan.job[machine.option]] = wait + self._tail[machine.option]
        return float(remaining.max())

    def _next_machines(self, options: np.ndarray) -> np.ndarray:
        """int64: where the job of each option goes afterwards; -1: it is done."""
        machines = self._plan.next_machine[options]
        if self.shop.is_flexible:
            for k in np.flatnonzero(machines >= 0).tolist():
                machines[k] = self._least_work(self.operation(options[k]) + 1)
        return machines

    def _least_work(self, operation: int) -> int:
        """The machine with the least work of those that can do it, the first of equals."""
        first, last = self._first_option[operation : operation + 2]
        able = (self._machines[number] for number in self._machine_of[first:last])
        now = self.clock.now
        return min(able, key=lambda m: (m.queue_work + m.planned_left_at(now), m.number)).number


def _columns(rows: Sequence[tuple], width: int) -> np.ndarray:
    """float64 (width, rows)."""
    return np.array(rows, np.float64).reshape(-1, width).T
