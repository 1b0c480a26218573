"""What the models of `exact`, `exact_project` and `exact_tardiness` share: OR-Tools' CP-SAT.

With several workers and a time limit two runs may end differently: the search is a race. With one
worker, what is proved within the limit is the same in every run, and so is everything where `work`
is the limit instead of the clock.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from makespan.baselines.jobshop.interruptible import solve_interruptibly

MISSING = 'solving takes OR-Tools: pip install "makespan[solve]"'

Status = Literal["optimal", "feasible", "unknown", "infeasible"]

Progress = Callable[[float, int, int], None]
"""Is told of every better schedule: seconds since the start, its objective, the lower bound."""

S = TypeVar("S")


@dataclass(frozen=True)
class Solution(Generic[S]):
    """What a solver found.

    Attributes:
        status: `optimal`: proved; `feasible`: a limit was reached, or the first was enough;
            `unknown`: a limit was reached before there was any; `infeasible`: there is none, which
            only deadlines and what is frozen can be the cause of.
        schedule: the best; None where there is none.
        objective: its makespan, or total tardiness; None where there is none.
        bound: no schedule has less.
        seconds: that it took.
    """

    status: Status
    schedule: S | None
    objective: int | None
    bound: int
    seconds: float

    @property
    def gap(self) -> float:
        """How much less the best schedule could have, as a share of it; nan without one."""
        if self.objective is None:
            return float("nan")
        return (self.objective - self.bound) / self.objective if self.objective else 0.0


@dataclass(frozen=True)
class Search:
    """How a model is solved.

    Attributes:
        limit_s: after which the best so far is taken.
        workers: threads; 0: one for each core.
        seed: of the search, below 2**31.
        progress: is told of better schedules.
        first: the first schedule is the answer.
        work: after which the best so far is taken, in CP-SAT's deterministic time.

    Raises:
        ValueError: a limit is not positive, or `workers` or `seed` is not in its range.
    """

    limit_s: float
    workers: int
    seed: int
    progress: Progress
    first: bool = False
    work: float = float("inf")

    def __post_init__(self) -> None:
        for limit in (self.limit_s, self.work):
            if not limit > 0:
                raise ValueError(f"a limit must be positive, not {limit}")
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, not {self.workers}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"the seed must be 0 to 2**31 - 1, not {self.seed}")

    def run(
        self,
        model: Any,
        schedule: Callable[[Any], S],
        objective: Callable[[S], int],
        bound: int,
        known: S | None,
    ) -> Solution[S]:
        """Solve `model`.

        Args:
            schedule: makes one of a solver that has found values.
            objective: of a schedule, which is minimised.
            bound: that is known beforehand.
            known: a valid schedule, if there is one; it is the answer if none is better.
        """
        cp_model = load_cp_model()
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = self.limit_s
        solver.parameters.max_deterministic_time = self.work
        solver.parameters.num_workers = self.workers
        solver.parameters.random_seed = self.seed
        solver.parameters.stop_after_first_solution = self.first
        began_s = time.perf_counter()
        told = _reporter(cp_model, self.progress, began_s)
        code = solve_interruptibly(solver, model, told)
        status = _STATUS[solver.status_name(code)]
        found = status in ("optimal", "feasible")
        best = schedule(solver) if found else known
        if best is not None and known is not None and objective(known) < objective(best):
            best = known
        return Solution(
            status="feasible" if status == "unknown" and known is not None else status,
            schedule=best,
            objective=None if best is None else objective(best),
            bound=round(solver.best_objective_bound) if found else bound,
            seconds=time.perf_counter() - began_s,
        )


_STATUS: dict[str, Status] = {
    "OPTIMAL": "optimal",
    "FEASIBLE": "feasible",
    "UNKNOWN": "unknown",
    "INFEASIBLE": "infeasible",
}


def load_cp_model() -> Any:
    """OR-Tools' module `cp_model`.

    Raises:
        ImportError: OR-Tools is not installed.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise ImportError(MISSING) from error
    return cp_model


def if_valid(schedule: Any, *rules: bool) -> Any:
    """The schedule; None if there is none or `validate` finds something wrong with it."""
    try:
        if schedule is not None:
            schedule.validate(*rules)
    except ValueError:
        return None
    return schedule


def makespan(schedule: Any) -> int:
    """The objective of `exact` and `exact_project`."""
    return schedule.makespan


def silent(seconds: float, objective: int, bound: int) -> None:
    """The `Progress` that says nothing."""


def _reporter(cp_model: Any, progress: Progress, began_s: float) -> Any:
    class Reporter(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            seconds = time.perf_counter() - began_s
            progress(seconds, round(self.objective_value), round(self.best_objective_bound))

    return Reporter()
