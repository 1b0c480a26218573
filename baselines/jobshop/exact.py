"""Optimal job-shop schedules, or the best in a given time, by OR-Tools' CP-SAT.

An operation is an interval; a machine's intervals do not overlap; the last end is minimised. With
several workers and a time limit two runs may end differently: the search is a race.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from makespan.baselines.jobshop.interruptible import solve_interruptibly
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop

MISSING = 'solving takes OR-Tools: pip install "makespan[solve]"'

Status = Literal["optimal", "feasible", "unknown", "infeasible"]

Progress = Callable[[float, int, int], None]
"""Is told of every better schedule: seconds since the start, its makespan, the lower bound."""


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Attributes:
        status: `optimal`: proved; `feasible`: the time was over; `unknown`: it was over before
            there was any; `infeasible`: there is none, which only blocking without swaps can be.
        schedule: the best; None where there is none.
        bound: no schedule is shorter.
        seconds: that it took.
        workers: threads that searched.
    """

    status: Status
    schedule: Schedule | None
    bound: int
    seconds: float
    workers: int

    @property
    def gap(self) -> float:
        """How much shorter the best schedule could be, as a share of it; nan without one."""
        if self.schedule is None:
            return float("nan")
        makespan = self.schedule.makespan
        return (makespan - self.bound) / makespan if makespan else 0.0


def solve(
    shop: JobShop,
    limit_s: float = 60.0,
    blocking: bool = False,
    hint: Schedule | None = None,
    workers: int = 0,
    seed: int = 0,
    progress: Progress = lambda seconds, makespan, bound: None,
) -> Solution:
    """Find the shortest schedule.

    Args:
        limit_s: after which the best so far is taken.
        blocking: a job stays on its machine until the next one is free, since nothing lies between
            machines. Jobs that wait for each other may swap at the same moment.
        hint: where to begin.
        workers: threads; 0: one for each core.
        seed: of the search.
        progress: is told of better schedules.

    Raises:
        ImportError: OR-Tools is not installed.
        ValueError: the limit is not positive, or the hint is of another shop.
    """
    if not limit_s > 0:
        raise ValueError(f"the time limit must be positive, not {limit_s}")
    if hint is not None and len(hint.start) != shop.operations:
        raise ValueError("the hint is of another job shop")
    cp_model = _cp_model()
    model = _Model(cp_model, shop, blocking)
    if hint is not None:
        model.hint(hint)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    began_s = time.perf_counter()
    code = solve_interruptibly(solver, model.model, _reporter(cp_model, progress, began_s))
    status = _STATUS[solver.status_name(code)]
    found = status in ("optimal", "feasible")
    return Solution(
        status=status,
        schedule=model.schedule(solver) if found else None,
        bound=round(solver.best_objective_bound) if found else shop.lower_bound(),
        seconds=time.perf_counter() - began_s,
        workers=solver.parameters.num_workers,
    )


_STATUS: dict[str, Status] = {
    "OPTIMAL": "optimal",
    "FEASIBLE": "feasible",
    "UNKNOWN": "unknown",
    "INFEASIBLE": "infeasible",
}


def _cp_model() -> Any:
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise ImportError(MISSING) from error
    return cp_model


def _reporter(cp_model: Any, progress: Progress, began_s: float) -> Any:
    class Reporter(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            seconds = time.perf_counter() - began_s
            progress(seconds, round(self.objective_value), round(self.best_objective_bound))

    return Reporter()


class _Model:
    """The intervals of a shop, and what holds between them."""

    def __init__(self, cp_model: Any, shop: JobShop, blocking: bool) -> None:
        self._shop = shop
        self.model = cp_model.CpModel()
        self._horizon = int(shop.release.max() + self._longest().sum())
        whole = range(shop.operations)
        self._start = [self.model.new_int_var(0, self._horizon, f"start{o}") for o in whole]
        self._end = [self.model.new_int_var(0, self._horizon, f"end{o}") for o in whole]
        self._takes: dict[int, Any] = {}  # option -> whether an operation is done by it
        on_machine: list[list[Any]] = [[] for _ in range(shop.machines)]
        leaves = self._leaves(blocking)
        for operation in whole:
            self._choose(operation, leaves[operation], on_machine)
        for intervals in on_machine:
            self.model.add_no_overlap(intervals)
        self._order_jobs()
        makespan = self.model.new_int_var(shop.lower_bound(), self._horizon, "makespan")
        self.model.add_max_equality(makespan, [self._end[o - 1] for o in shop.first_operation[1:]])
        self.model.minimize(makespan)

    def _longest(self) -> np.ndarray:
        return np.maximum.reduceat(self._shop.duration, self._shop.first_option[:-1])

    def _leaves(self, blocking: bool) -> list[Any]:
        """When each operation's machine is free again."""
        if not blocking:
            return self._end
        last = set((self._shop.first_operation[1:] - 1).tolist())
        return [self._end[o] if o in last else self._start[o + 1] for o in range(len(self._end))]

    def _choose(self, operation: int, leaves: Any, on_machine: list[list[Any]]) -> None:
        """The operation is done by one of its options, and occupies that machine."""
        shop, model = self._shop, self.model
        first, last = shop.first_option[operation : operation + 2].tolist()
        start, end = self._start[operation], self._end[operation]
        alone = last == first + 1
        for option in range(first, last):
            takes = 1 if alone else model.new_bool_var(f"option{option}")
            self._takes[option] = takes
            done = model.add(end == start + int(shop.duration[option]))
            if not alone:
                done.only_enforce_if(takes)
            stay = model.new_int_var(0, self._horizon, f"stay{option}")
            interval = model.new_optional_interval_var(start, stay, leaves, takes, f"on{option}")
            on_machine[shop.machine[option]].append(interval)
        if not alone:
            model.add_exactly_one(self._takes[option] for option in range(first, last))

    def _order_jobs(self) -> None:
        first = self._shop.first_operation.tolist()
        for job, release in enumerate(self._shop.release.tolist()):
            self.model.add(self._start[first[job]] >= release)
            for operation in range(first[job] + 1, first[job + 1]):
                self.model.add(self._start[operation] >= self._end[operation - 1])

    def hint(self, schedule: Schedule) -> None:
        for operation, start in enumerate(schedule.start.tolist()):
            self.model.add_hint(self._start[operation], start)
        chosen = set(schedule.option.tolist())
        for option, takes in self._takes.items():
            if not isinstance(takes, int):
                self.model.add_hint(takes, option in chosen)

    def schedule(self, solver: Any) -> Schedule:
        shop = self._shop
        start = np.array([solver.value(start) for start in self._start], np.int64)
        done = [o for o, t in self._takes.items() if isinstance(t, int) or solver.value(t)]
        return Schedule(shop, start, np.array(done, np.int64))
