"""Optimal schedules of projects with scarce resources (RCPSP), by OR-Tools' CP-SAT.

A task is an interval, a resource a `cumulative` of what its tasks take; a downtime takes all of it.
Tasks that exclude each other do not overlap. The last end is minimised.
"""

from typing import Any

import numpy as np

from makespan.baselines.jobshop.cpsat import (
    Progress,
    Search,
    Solution,
    if_valid,
    load_cp_model,
    makespan,
    silent,
)
from makespan.envs.jobshop.projects import ProjectSchedule
from makespan.traces.jobshop.project import Project


def solve_project(
    project: Project,
    limit_s: float = 60.0,
    first: bool = False,
    hint: ProjectSchedule | None = None,
    workers: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Solution[ProjectSchedule]:
    """Find the shortest schedule that meets all deadlines; `infeasible` where there is none.

    Args:
        limit_s: after which the best so far is taken.
        first: the first that is found is the answer, however long it is: can it be done at all?
        hint: where to begin, even if it misses deadlines; if it does not, it is the answer if
            nothing better is found.
        workers: threads; 0: one for each core.
        seed: of the search.
        progress: is told of better schedules.

    Raises:
        ImportError: OR-Tools is not installed.
        ValueError: the limit, `workers` or `seed` is out of range, or the hint is of another
            project.
    """
    search = Search(limit_s, workers, seed, progress, first)
    if hint is not None and hint.project is not project:
        raise ValueError("the hint is of another project")
    model = _Model(load_cp_model(), project)
    if hint is not None:
        model.hint(hint)
    bound = project.critical_path()
    return search.run(model.model, model.schedule, makespan, bound, if_valid(hint))


class _Model:
    """The intervals of a project, and what holds between them."""

    def __init__(self, cp_model: Any, project: Project) -> None:
        self._project = project
        self.model = cp_model.CpModel()
        horizon = _horizon(project)
        until = np.minimum(project.deadline, horizon) - project.duration
        windows = zip(project.release.tolist(), until.tolist(), strict=True)
        self._start = [
            self.model.new_int_var(earliest, latest, f"start{task}")
            for task, (earliest, latest) in enumerate(windows)
        ]
        duration = project.duration.tolist()
        self._interval = [
            self.model.new_fixed_size_interval_var(start, duration[task], f"task{task}")
            for task, start in enumerate(self._start)
        ]
        for task in range(project.tasks):
            for after in project.successors(task).tolist():
                self.model.add(self._start[after] >= self._start[task] + duration[task])
        for resource in range(len(project.capacity)):
            self._share(resource)
        for one, other in project.pairs.tolist():
            if duration[one] and duration[other]:  # what takes no time is never in the way
                self.model.add_no_overlap([self._interval[one], self._interval[other]])
        makespan = self.model.new_int_var(project.critical_path(), horizon, "makespan")
        ends = [start + takes for start, takes in zip(self._start, duration, strict=True)]
        self.model.add_max_equality(makespan, ends)
        self.model.minimize(makespan)

    def _share(self, resource: int) -> None:
        """The tasks under way take no more of it than there is."""
        demand, capacity = self._project.demand[:, resource], int(self._project.capacity[resource])
        takes = [task for task in np.flatnonzero(demand).tolist() if self._project.duration[task]]
        intervals = [self._interval[task] for task in takes]
        amounts = demand[takes].tolist()
        for k, (of, begin, end) in enumerate(self._project.downtime.tolist()):
            if of == resource:
                name = f"downtime{k}"
                down = self.model.new_fixed_size_interval_var(begin, end - begin, name)
                for task in takes:
                    self.model.add_no_overlap([self._interval[task], down])
        self.model.add_cumulative(intervals, amounts, capacity)

    def hint(self, schedule: ProjectSchedule) -> None:
        for start, begin in zip(self._start, schedule.start.tolist(), strict=True):
            self.model.add_hint(start, begin)

    def schedule(self, solver: Any) -> ProjectSchedule:
        start = np.array([solver.value(start) for start in self._start], np.int64)
        return ProjectSchedule(self._project, start)


def _horizon(project: Project) -> int:
    """Some optimal schedule is over by then.

    After the last release and downtime all tasks fit one behind the other.
    """
    last = max([int(project.release.max()), *project.downtime[:, 2].tolist()])
    return last + int(project.duration.sum())
