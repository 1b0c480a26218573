"""A project: tasks that wait for each other and share resources (RCPSP)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Self

import numpy as np

from makespan.traces.jobshop.instance import LATEST, check_horizon, check_size

NEVER = np.iinfo(np.int64).max
"""Deadline of a task that has none."""


class Circle(ValueError):
    """Tasks wait for each other, one of them so for itself.

    Attributes:
        task: the one, from 0.
    """

    def __init__(self, task: int) -> None:
        self.task = task
        super().__init__(f"task {task} waits for itself, in a circle")


def _absent() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Project:
    """Tasks, their successors, and what they take of each resource while they are done.

    Attributes:
        capacity: int64 (resources,), of each resource at any time.
        duration: int64 (tasks,), not negative. After the last release and downtime, all of them
            end by `LATEST`.
        demand: int64 (tasks, resources), not negative and at most the capacity.
        first_successor: int64 (tasks + 1,): task i comes before `successor` from
            `first_successor[i]` up to `first_successor[i + 1]`.
        successor: int64 (arcs,): tasks, from 0.
        downtime: int64 (downtimes, 3): a resource, and from when until when there is none of it;
            no task that takes of it can be under way. None if not given.
        release: int64 (tasks,): when each can begin at the earliest; 0 if not given.
        deadline: int64 (tasks,): when each has to end; `NEVER` if not given.
        pairs: int64 (pairs, 2): tasks that must not be under way at once. None if not given.
        name: of the instance.

    Raises:
        ValueError: a column has the wrong shape, something is out of range, or tasks wait for each
            other (`Circle`); the message names the task, downtime or pair, from 0.
    """

    capacity: np.ndarray
    duration: np.ndarray
    demand: np.ndarray
    first_successor: np.ndarray
    successor: np.ndarray
    downtime: np.ndarray = field(default_factory=_absent)
    release: np.ndarray = field(default_factory=_absent)
    deadline: np.ndarray = field(default_factory=_absent)
    pairs: np.ndarray = field(default_factory=_absent)
    name: str = ""

    def __post_init__(self) -> None:
        absent = {
            "downtime": np.zeros((0, 3)),
            "release": np.zeros(self.tasks),
            "deadline": np.full(self.tasks, NEVER),
            "pairs": np.zeros((0, 2)),
        }
        for column in fields(self):
            if column.name != "name":
                values = np.array(getattr(self, column.name))
                if values.size and values.dtype.kind not in "iu":
                    raise ValueError(f"{column.name} must be whole numbers, not {values.dtype}")
                if not values.size and column.name in absent:
                    values = absent[column.name]
                values = values.astype(np.int64)
                values.setflags(write=False)
                object.__setattr__(self, column.name, values)
        self._validate()
        self._validate_windows()
        self._validate_downtime()
        self._validate_pairs()

    def _validate(self) -> None:
        if not self.tasks or self.demand.shape != (self.tasks, len(self.capacity)):
            shape = (self.tasks, len(self.capacity))
            raise ValueError(f"needs tasks, and demands of shape {shape}, not {self.demand.shape}")
        offsets = self.first_successor
        if offsets.shape != (self.tasks + 1,) or offsets[0] or offsets[-1] != len(self.successor):
            raise ValueError("first_successor must go from 0 to the number of successors")
        if (np.diff(offsets) < 0).any():
            raise ValueError("first_successor must not decrease")
        bad = (self.duration < 0) | (self.duration > LATEST)
        if bad.any():
            task = int(bad.argmax())
            raise ValueError(f"task {task} takes {self.duration[task]}, not from 0 to {LATEST}")
        bad = (self.demand < 0) | (self.demand > self.capacity)
        if bad.any():
            task, resource = np.argwhere(bad)[0].tolist()
            asked, there = self.demand[task, resource], self.capacity[resource]
            raise ValueError(f"task {task} takes {asked} of resource {resource}, which has {there}")
        unknown = (self.successor < 0) | (self.successor >= self.tasks)
        if unknown.any():
            raise ValueError(f"there is no task {self.successor[unknown.argmax()]} to come after")
        self.order()

    def _validate_windows(self) -> None:
        for name in ("release", "deadline"):
            if getattr(self, name).shape != (self.tasks,):
                raise ValueError(f"{name} has not one entry for each of {self.tasks} tasks")
        if (early := self.release < 0).any():
            raise ValueError(f"task {early.argmax()} must not be released before 0")
        check_horizon([int(self.release.max()), *self.duration.tolist()])
        if (short := self.release + self.duration > self.deadline).any():
            task = int(short.argmax())
            raise ValueError(
                f"task {task} takes {self.duration[task]} and cannot be done from "
                f"{self.release[task]} to {self.deadline[task]}"
            )

    def _validate_downtime(self) -> None:
        if self.downtime.ndim != 2 or self.downtime.shape[1] != 3:
            raise ValueError("a downtime is a resource, its beginning and its end")
        for k, (resource, begin, end) in enumerate(self.downtime.tolist()):
            if not 0 <= resource < len(self.capacity):
                raise ValueError(f"downtime {k} is of resource {resource}, which there is not")
            if not 0 <= begin < end:
                raise ValueError(f"downtime {k} lasts from {begin} to {end}")
            check_horizon([end, *self.duration.tolist()])

    def _validate_pairs(self) -> None:
        if self.pairs.ndim != 2 or self.pairs.shape[1] != 2:
            raise ValueError("a pair is two tasks")
        for k, (one, other) in enumerate(self.pairs.tolist()):
            if one == other or not {one, other} <= set(range(self.tasks)):
                raise ValueError(f"pair {k} must be two tasks of {self.tasks}: {one} and {other}")

    @classmethod
    def of(
        cls,
        capacity: Sequence[int],
        tasks: Sequence[tuple[int, Sequence[int], Sequence[int]]],
        name: str = "",
    ) -> Self:
        """From the duration, the demands and the successors of each task."""
        for k, (duration, demand, _) in enumerate(tasks):
            check_size(f"task {k}", [duration, *demand])
        return cls(
            capacity=np.array(capacity),
            duration=np.array([duration for duration, _, _ in tasks]),
            demand=np.array([demand for _, demand, _ in tasks]).reshape(len(tasks) or 1, -1),
            first_successor=np.array([0, *accumulate(len(after) for _, _, after in tasks)]),
            successor=np.array([task for _, _, after in tasks for task in after], np.int64),
            name=name,
        )

    @property
    def tasks(self) -> int:
        """Their number."""
        return len(self.duration)

    def successors(self, task: int) -> np.ndarray:
        """int64: the tasks that wait for it."""
        return self.successor[self.first_successor[task] : self.first_successor[task + 1]]

    def order(self) -> list[int]:
        """The tasks, each after all that it waits for.

        Raises:
            Circle: there is no such order.
        """
        waits = np.bincount(self.successor, minlength=self.tasks)
        ready = np.flatnonzero(waits == 0)[::-1].tolist()
        order: list[int] = []
        while ready:
            task = ready.pop()
            order.append(task)
            for after in self.successors(task).tolist():
                waits[after] -= 1
                if waits[after] == 0:
                    ready.append(after)
        if len(order) < self.tasks:
            raise Circle(self._in_circle(waits > 0))
        return order

    def _in_circle(self, waiting: np.ndarray) -> int:
        """A task that waits for itself, if each that waits does so for another of them."""
        before = np.repeat(np.arange(self.tasks), np.diff(self.first_successor))
        task, passed = int(waiting.argmax()), set[int]()
        while task not in passed:
            passed.add(task)
            task = int(before[(self.successor == task) & waiting[before]][0])
        return task

    def earliest(self) -> np.ndarray:
        """int64 (tasks,): when each could begin if resources had no end, and no downtimes."""
        start = self.release.copy()
        for task in self.order():
            after = self.successors(task)
            start[after] = np.maximum(start[after], start[task] + self.duration[task])
        return start

    def latest(self) -> np.ndarray:
        """int64 (tasks,): when each would have to begin for that to be no later, and for deadlines.

        Where deadlines cannot be met, it is before `earliest`.
        """
        start = np.minimum(self.critical_path(), self.deadline) - self.duration
        for task in reversed(self.order()):
            after = self.successors(task)
            if len(after):
                start[task] = min(start[task], start[after].min() - self.duration[task])
        return start

    def critical_path(self) -> int:
        """How long the project takes if resources had no end; no schedule is shorter."""
        return int((self.earliest() + self.duration).max())
