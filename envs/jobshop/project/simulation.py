"""A project that is carried out: at every moment, which of the tasks that can begin does?

The parallel way (`makespan.envs.jobshop.projects`) on a SimPy clock, with the choice left open: at
a moment at which something ends, is released or is up again, tasks are begun one by one, as long as
one can, or until it is said to wait. A task can begin if it is released, all that it waits for has
ended, what it takes is there and stays there until it would end, and nothing is under way that
excludes it.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import simpy

from makespan.envs.jobshop.projects import ProjectSchedule
from makespan.traces.jobshop.project import Project


@dataclass(frozen=True)
class TaskDecision:
    """What can be done now; everything of the project is known.

    Attributes:
        time: on the clock, in the project's unit.
        project: that is carried out.
        startable: bool (tasks,): which tasks can begin now.
        start: int64 (tasks,): when each began; -1 if it has not.
        ended: bool (tasks,): which have ended.
        can_wait: whether something is under way or will be released or up again.
    """

    time: int
    project: Project
    startable: np.ndarray
    start: np.ndarray
    ended: np.ndarray
    can_wait: bool

    @property
    def action_mask(self) -> np.ndarray:
        """bool (tasks + 1,): the tasks that can begin, and waiting."""
        return np.append(self.startable, self.can_wait)

    @property
    def wait(self) -> int:
        """The action that waits until something happens."""
        return self.project.tasks

    @property
    def running(self) -> np.ndarray:
        """bool (tasks,): which are under way."""
        return (self.start >= 0) & ~self.ended

    @property
    def down(self) -> np.ndarray:
        """bool (resources,): whether there is nothing of each now."""
        resource, begin, end = self.project.downtime.T
        down = np.zeros(len(self.project.capacity), np.bool_)
        down[resource[(begin <= self.time) & (self.time < end)]] = True
        return down

    @property
    def free(self) -> np.ndarray:
        """int64 (resources,): what there is of each now."""
        taken = self.project.demand[self.running].sum(axis=0)
        return np.where(self.down, 0, self.project.capacity - taken)

    def lowest(self, priority: np.ndarray) -> int:
        """The task with the lowest priority of those that can begin, the lowest number of equals.

        Args:
            priority: float64 (tasks,), finite.
        """
        return int(np.where(self.startable, priority, np.inf).argmin())


class ProjectRun:
    """A `Simulation` of a project; deadlines are not enforced."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.clock = simpy.Environment()
        self._start = np.full(project.tasks, -1)
        self._ended = np.zeros(project.tasks, np.bool_)
        self._waits = np.bincount(project.successor, minlength=project.tasks)
        self._free = project.capacity.copy()
        self._waiting = False
        self._due: TaskDecision | None = None
        for moment in {*project.release.tolist(), *project.downtime[:, 2].tolist()} - {0}:
            self.clock.timeout(moment)

    @property
    def makespan(self) -> int:
        """The last end of the tasks that have begun."""
        begun = self._start >= 0
        return int((self._start + self.project.duration)[begun].max(initial=0))

    @property
    def schedule(self) -> ProjectSchedule:
        """The schedule, once every task has begun."""
        return ProjectSchedule(self.project, self._start.copy())

    @property
    def log(self) -> dict[str, np.ndarray]:
        """One row per task: `task`, `start`, `end` (int64) and `late` (bool)."""
        schedule = self.schedule
        return {
            "task": np.arange(self.project.tasks),
            "start": schedule.start,
            "end": schedule.end,
            "late": schedule.late,
        }

    def next_decision(self) -> TaskDecision | None:
        """Go on until a task can begin; None when all have ended."""
        startable = self._startable()
        while self._waiting or not startable.any():
            if self._ended.all():
                return None
            self._advance()
            self._waiting = False
            startable = self._startable()
        self._due = TaskDecision(
            time=int(self.clock.now),
            project=self.project,
            startable=startable,
            start=self._start.copy(),
            ended=self._ended.copy(),
            can_wait=self.clock.peek() < np.inf,
        )
        return self._due

    def decide(self, action: int) -> None:
        """Begin that task, or wait.

        Raises:
            ValueError: no decision is due, or the action is not legal.
        """
        if self._due is None:
            raise ValueError("no decision is due")
        mask = self._due.action_mask
        if not (0 <= action < len(mask) and mask[action]):
            raise ValueError(f"action {action} is not legal at {self._due.time}")
        self._due = None
        if action == self.project.tasks:
            self._waiting = True
            return
        self._start[action] = self.clock.now
        self._free -= self.project.demand[action]
        end = self.clock.timeout(int(self.project.duration[action]))
        end.callbacks.append(partial(self._end, action))

    def _end(self, task: int, _: simpy.Event) -> None:
        self._ended[task] = True
        self._free += self.project.demand[task]
        np.subtract.at(self._waits, self.project.successors(task), 1)

    def _advance(self) -> None:
        """To the next moment at which something happens, and all of it."""
        moment = self.clock.peek()
        while self.clock.peek() == moment:
            self.clock.step()

    def _startable(self) -> np.ndarray:
        """bool (tasks,)."""
        project, now = self.project, self.clock.now
        can = (self._start < 0) & (self._waits == 0) & (project.release <= now)
        can &= (project.demand <= self._free).all(axis=1)
        for resource, begin, end in project.downtime.tolist():
            meets = (now < end) & (begin < now + project.duration)
            can &= ~(meets & (project.demand[:, resource] > 0))
        running = (self._start >= 0) & (self._start + project.duration > now)
        for one, other in project.pairs.tolist():
            can[one] &= not running[other]
            can[other] &= not running[one]
        return can
