"""Schedules of projects, and the two ways of making one from priorities."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.traces.jobshop.project import Project

ProjectWay = Literal["serial", "parallel"]
"""Ways of making a schedule (Kolisch, Serial and parallel resource-constrained project scheduling
methods revisited, EJOR 90, 1996).

`serial`: of the tasks that wait for nothing that is not scheduled, the one with the lowest priority
is put where it first fits. Some optimal schedule is among these.

`parallel`: time goes on; at every moment at which something ends, the tasks that could begin are
begun in the order of their priorities, as far as they fit. No resource is idle that a task could
have, and so the optimum may not be among these.

Neither begins a task before its release, in the way of a downtime or beside one that it excludes: a
task waits until all of it fits. Deadlines may be missed.
"""

LATE = np.iinfo(np.int64).max
"""After everything."""

MOST_MOMENTS = 2**27
"""What the serial way keeps is free of each resource at every moment, 1 GiB of numbers."""

PROJECT_WAYS: tuple[ProjectWay, ...] = get_args(ProjectWay)


@dataclass(frozen=True)
class ProjectSchedule:
    """When each task begins: int64 (tasks,)."""

    project: Project
    start: np.ndarray

    @property
    def end(self) -> np.ndarray:
        """int64 (tasks,)."""
        return self.start + self.project.duration

    @property
    def makespan(self) -> int:
        """When the last task ends."""
        return int(self.end.max())

    @property
    def late(self) -> np.ndarray:
        """bool (tasks,): whether each ends after its deadline."""
        return self.end > self.project.deadline

    def validate(self) -> None:
        """See that nothing is wrong with it.

        Raises:
            ValueError: something is; the message names the rule, and tasks and resources, from 0.
        """
        project = self.project
        if self.start.shape != (project.tasks,) or (self.start < 0).any():
            raise ValueError(f"needs a start from 0 on for each of {project.tasks} tasks")
        before = np.repeat(np.arange(project.tasks), np.diff(project.first_successor))
        early = self.start[project.successor] < self.end[before]
        if early.any():
            at = int(early.argmax())
            one, other = before[at], project.successor[at]
            raise ValueError(f"task {other} begins before task {one} ends")
        for moment in np.unique(self.start).tolist():
            running = (self.start <= moment) & (moment < self.end)
            taken = project.demand[running].sum(axis=0)
            if (taken > project.capacity).any():
                r = int((taken > project.capacity).argmax())
                raise ValueError(
                    f"at {moment} tasks take {taken[r]} of resource {r}, which has "
                    f"{project.capacity[r]}"
                )
        self._validate_windows()
        self._validate_downtime()
        self._validate_pairs()

    def _validate_windows(self) -> None:
        release, deadline = self.project.release, self.project.deadline
        if (early := self.start < release).any():
            task = int(early.argmax())
            raise ValueError(f"task {task} begins before its release at {release[task]}")
        if self.late.any():
            task = int(self.late.argmax())
            raise ValueError(
                f"task {task} ends at {self.end[task]}, after its deadline at {deadline[task]}"
            )

    def _validate_downtime(self) -> None:
        for resource, begin, end in self.project.downtime.tolist():
            takes = (self.project.demand[:, resource] > 0) & (self.project.duration > 0)
            inside = takes & (self.start < end) & (begin < self.end)
            if inside.any():
                raise ValueError(
                    f"task {inside.argmax()} takes of resource {resource}, which is down from "
                    f"{begin} to {end}"
                )

    def _validate_pairs(self) -> None:
        """What takes no time is never in the way."""
        for one, other in self.project.pairs.tolist():
            begins = max(self.start[one], self.start[other])
            if begins < min(self.end[one], self.end[other]):
                raise ValueError(f"tasks {one} and {other} are under way at once at {begins}")


def generate_project(project: Project, priority: np.ndarray, way: ProjectWay) -> ProjectSchedule:
    """The schedule that these priorities make; the lowest number of equals.

    Args:
        priority: float64 (tasks,), finite; the lowest is first.
        way: see `ProjectWay`.

    Raises:
        ValueError: the priorities are not one for each task, there is no such way, or the project
            is so long that the serial one takes too much memory (`MOST_MOMENTS`).
    """
    if priority.shape != (project.tasks,) or not np.isfinite(priority).all():
        raise ValueError(f"needs {project.tasks} priorities that are finite")
    if way not in PROJECT_WAYS:
        raise ValueError(f"a schedule is made by {' or '.join(PROJECT_WAYS)}, not by {way!r}")
    if way == "serial":
        _check_memory(project)
    generator = _serial if way == "serial" else _parallel
    start = np.empty(project.tasks, np.int64)
    generator(
        project.capacity,
        project.duration,
        project.demand,
        project.first_successor,
        project.successor,
        project.downtime,
        project.release,
        project.pairs,
        np.bincount(project.successor, minlength=project.tasks),
        priority.astype(np.float64),
        start,
    )
    return ProjectSchedule(project, start)


def _check_memory(project: Project) -> None:
    last = max([int(project.release.max()), *project.downtime[:, 2].tolist()])
    moments = (last + int(project.duration.sum()) + 1) * max(len(project.capacity), 1)
    if moments > MOST_MOMENTS:
        raise ValueError(
            f"the serial way keeps {moments} numbers for so long a project, more than "
            f"{MOST_MOMENTS}: take the parallel way, or a longer unit of time"
        )


@kernel
def _serial(
    capacity,
    duration,
    demand,
    first,
    successor,
    downtime,
    release,
    pairs,
    waits,
    priority,
    start,
):
    """Fill `start`."""
    tasks = len(duration)
    free = _free(capacity, duration, downtime, release)
    ready = release.copy()
    done = np.zeros(tasks, np.bool_)
    for _ in range(tasks):
        task = -1
        for other in range(tasks):
            eligible = not done[other] and waits[other] == 0
            if eligible and (task < 0 or priority[other] < priority[task]):
                task = other
        begin = ready[task]
        moment = begin
        while moment < begin + duration[task]:  # the first moment from which it fits to its end
            if (free[moment] < demand[task]).any() or _excluded(
                task, moment, duration, pairs, done, start
            ):
                begin = moment + 1
            moment += 1
        for moment in range(begin, begin + duration[task]):
            free[moment] -= demand[task]
        start[task], done[task] = begin, True
        for k in range(first[task], first[task + 1]):
            after = successor[k]
            waits[after] -= 1
            ready[after] = max(ready[after], begin + duration[task])


@kernel
def _free(capacity, duration, downtime, release):
    """int64 (moments, resources): what there is of each while nothing is scheduled.

    After the last release and downtime, the tasks fit one behind the other.
    """
    horizon = duration.sum() + release.max() + 1
    for k in range(len(downtime)):
        horizon = max(horizon, downtime[k, 2] + duration.sum() + 1)
    free = np.empty((horizon, len(capacity)), np.int64)
    free[:] = capacity
    for k in range(len(downtime)):
        free[downtime[k, 1] : downtime[k, 2], downtime[k, 0]] = 0
    return free


@kernel
def _excluded(task, moment, duration, pairs, scheduled, start):
    """Whether a task that must not be under way beside this one is, at that moment."""
    for k in range(len(pairs)):
        other = -1
        if pairs[k, 0] == task:
            other = pairs[k, 1]
        elif pairs[k, 1] == task:
            other = pairs[k, 0]
        placed = other >= 0 and scheduled[other]
        if placed and start[other] <= moment < start[other] + duration[other]:
            return True
    return False


@kernel
def _down(task, moment, duration, demand, downtime):
    """Whether a resource that the task takes is down before it would end, if it began then."""
    for k in range(len(downtime)):
        meets = moment < downtime[k, 2] and downtime[k, 1] < moment + duration[task]
        if meets and demand[task, downtime[k, 0]] > 0:
            return True
    return False


@kernel
def _parallel(
    capacity,
    duration,
    demand,
    first,
    successor,
    downtime,
    release,
    pairs,
    waits,
    priority,
    start,
):
    """Fill `start`."""
    tasks = len(duration)
    free = capacity.copy()
    begun = np.zeros(tasks, np.bool_)
    ended = np.zeros(tasks, np.bool_)
    now, left = 0, tasks
    while left > 0:
        for task in range(tasks):
            if begun[task] and not ended[task] and start[task] + duration[task] <= now:
                ended[task] = True
                free += demand[task]
                for k in range(first[task], first[task + 1]):
                    waits[successor[k]] -= 1
        task = 0
        while task >= 0:
            task = -1
            for other in range(tasks):
                fits = not begun[other] and waits[other] == 0 and (demand[other] <= free).all()
                fits = fits and release[other] <= now
                fits = fits and not _down(other, now, duration, demand, downtime)
                fits = fits and not _excluded(other, now, duration, pairs, begun, start)
                if fits and (task < 0 or priority[other] < priority[task]):
                    task = other
            if task >= 0:
                start[task], begun[task] = now, True
                free -= demand[task]
                left -= 1
        now = _next_moment(now, duration, downtime, release, begun, ended, start)


@kernel
def _next_moment(now, duration, downtime, release, begun, ended, start):
    """The next at which a task ends or is released, or a downtime ends; now if there is none."""
    following = LATE
    for task in range(len(duration)):
        if begun[task] and not ended[task]:
            following = min(following, start[task] + duration[task])
        elif not begun[task] and release[task] > now:
            following = min(following, release[task])
    for k in range(len(downtime)):
        if downtime[k, 2] > now:
            following = min(following, downtime[k, 2])
    return now if following == LATE else following
