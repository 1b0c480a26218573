"""What a policy network sees of a `TaskDecision`: padded arrays with masks.

Times are in units of the project's critical path (`Project.critical_path`, at least 1), and
everything is cut to [-LIMIT, LIMIT].
"""

from dataclasses import dataclass

import numpy as np

from makespan.envs.jobshop.project.simulation import TaskDecision
from makespan.traces.jobshop.project import NEVER, Project

LIMIT = 10.0
"""Bound of every field; what would be beyond is cut."""

TASK_FIELDS = (
    "duration",
    "slack",
    "latest_start",
    "released_in",
    "deadline_in",
    "has_deadline",
    "waits_for",
    "successors",
    "ends_in",
    "startable",
    "running",
    "ended",
)
"""Columns of `task`."""

RESOURCE_FIELDS = ("free", "load", "down", "changes_in", "changes")
"""Columns of `resource`."""

MANY = 10
"""Tasks that are waited for, which are shown as 1."""


@dataclass(frozen=True)
class Rows:
    """For how much there is room."""

    tasks: int
    resources: int
    arcs: int
    pairs: int


class Encoder:
    """Turns decisions of projects of any size up to `rows` into arrays of one shape.

    Actions 0 to `rows.tasks` - 1 are the tasks; action `rows.tasks` waits.

    Raises:
        ValueError: on a decision of a project for which there is no room.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._static: _Static | None = None

    def encode(self, decision: TaskDecision) -> dict[str, np.ndarray]:
        """New arrays, all 0 where there is nothing to show; see `ProjectEnv`."""
        static = self._of(decision.project)
        observation = self.padding(self.mask(decision))
        tasks, resources = decision.project.demand.shape
        observation["task"][:tasks] = np.clip(_tasks(decision, static), -LIMIT, LIMIT)
        observation["task_mask"][:tasks] = 1
        observation["demand"][:tasks, :resources] = static.demand
        observation["resource"][:resources] = np.clip(_resources(decision, static), -LIMIT, LIMIT)
        observation["resource_mask"][:resources] = 1
        for name, edges in (("arcs", static.arcs), ("pairs", decision.project.pairs.T)):
            observation[name][:, : edges.shape[1]] = edges
            observation[f"{name}_mask"][: edges.shape[1]] = 1
        return observation

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing, with `mask` as its `action_mask`."""
        rows = self.rows
        return {
            "action_mask": mask.astype(np.float32),
            "arcs": np.zeros((2, rows.arcs), np.int64),
            "arcs_mask": np.zeros(rows.arcs, np.float32),
            "demand": np.zeros((rows.tasks, rows.resources), np.float32),
            "pairs": np.zeros((2, rows.pairs), np.int64),
            "pairs_mask": np.zeros(rows.pairs, np.float32),
            "resource": np.zeros((rows.resources, len(RESOURCE_FIELDS)), np.float32),
            "resource_mask": np.zeros(rows.resources, np.float32),
            "task": np.zeros((rows.tasks, len(TASK_FIELDS)), np.float32),
            "task_mask": np.zeros(rows.tasks, np.float32),
        }

    def mask(self, decision: TaskDecision) -> np.ndarray:
        """New bool array (rows.tasks + 1,): the actions that are legal."""
        self._of(decision.project)
        mask = np.zeros(self.rows.tasks + 1, np.bool_)
        mask[: decision.project.tasks] = decision.startable
        mask[-1] = decision.can_wait
        return mask

    def answer(self, decision: TaskDecision, action: int) -> int:
        """The action of `decision` that `action` of the padded space stands for."""
        return decision.wait if action == self.rows.tasks else action

    def _of(self, project: Project) -> "_Static":
        if self._static is None or self._static.project is not project:
            self._static = _Static(project)
            self._check(project)
        return self._static

    def _check(self, project: Project) -> None:
        sizes = {
            "tasks": project.tasks,
            "resources": len(project.capacity),
            "arcs": len(project.successor),
            "pairs": len(project.pairs),
        }
        for name, size in sizes.items():
            if size > (room := getattr(self.rows, name)):
                raise ValueError(f"the project has {size} {name}, the encoder room for {room}")


class _Static:
    """What does not change while a project is carried out."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.bound = max(project.critical_path(), 1)
        self.latest = project.latest()
        self.slack = self.latest - project.earliest()
        before = np.repeat(np.arange(project.tasks), np.diff(project.first_successor))
        self.arcs = np.stack([before, project.successor])
        self.capacity = np.maximum(project.capacity, 1)
        self.demand = project.demand / self.capacity
        self.successors = _successors(project) / project.tasks


def _successors(project: Project) -> np.ndarray:
    """int64 (tasks,): how many wait for each, directly or not."""
    after = np.zeros((project.tasks, project.tasks), np.bool_)
    for task in reversed(project.order()):
        following = project.successors(task)
        after[task] = after[following].any(axis=0)
        after[task, following] = True
    return after.sum(axis=1)


def _tasks(decision: TaskDecision, static: _Static) -> np.ndarray:
    """float64 (tasks, fields): the columns `TASK_FIELDS`."""
    project, now, running = decision.project, decision.time, decision.running
    has_deadline = project.deadline < NEVER
    before, after = static.arcs
    waits = np.bincount(after[~decision.ended[before]], minlength=project.tasks)
    times = (
        project.duration,
        static.slack,
        static.latest - now,
        np.maximum(project.release - now, 0),
        np.where(has_deadline, project.deadline - now, 0),
    )
    ends_in = np.where(running, decision.start + project.duration - now, 0)
    columns = (
        *(time / static.bound for time in times),
        has_deadline,
        waits / MANY,
        static.successors,
        ends_in / static.bound,
        decision.startable,
        running,
        decision.ended,
    )
    return np.stack(columns, axis=1)


def _resources(decision: TaskDecision, static: _Static) -> np.ndarray:
    """float64 (resources, fields): the columns `RESOURCE_FIELDS`."""
    project, now = decision.project, decision.time
    done = np.where(decision.running, now - decision.start, 0)
    left = np.where(decision.ended, 0, project.duration - done)
    load = (left[:, None] * static.demand).sum(axis=0) / static.bound
    changes = np.full(len(project.capacity), np.inf)
    for resource, begin, end in project.downtime.tolist():
        for moment in (begin, end):
            if moment > now:
                changes[resource] = min(changes[resource], moment - now)
    known = np.isfinite(changes)
    changes_in = np.where(known, changes, 0) / static.bound
    return np.stack(
        [decision.free / static.capacity, load, decision.down, changes_in, known], axis=1
    )
