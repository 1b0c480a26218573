"""A project: tasks that wait for each other and share resources (RCPSP)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Project:
    """Tasks, their successors, and what they take of each resource while they are done.

    Attributes:
        capacity: int64 (resources,), of each resource at any time.
        duration: int64 (tasks,), not negative.
        demand: int64 (tasks, resources), not negative and at most the capacity.
        first_successor: int64 (tasks + 1,): task i comes before `successor` from
            `first_successor[i]` up to `first_successor[i + 1]`.
        successor: int64 (arcs,): tasks, from 0.
        name: of the instance.

    Raises:
        ValueError: a column has the wrong shape, something is out of range, or tasks wait for each
            other in a circle; the message names the task, from 0.
    """

    capacity: np.ndarray
    duration: np.ndarray
    demand: np.ndarray
    first_successor: np.ndarray
    successor: np.ndarray
    name: str = ""

    def __post_init__(self) -> None:
        for column in fields(self):
            if column.name != "name":
                values = np.array(getattr(self, column.name))
                if values.size and values.dtype.kind not in "iu":
                    raise ValueError(f"{column.name} must be whole numbers, not {values.dtype}")
                values = values.astype(np.int64)
                values.setflags(write=False)
                object.__setattr__(self, column.name, values)
        self._validate()

    def _validate(self) -> None:
        if not self.tasks or self.demand.shape != (self.tasks, len(self.capacity)):
            shape = (self.tasks, len(self.capacity))
            raise ValueError(f"needs tasks, and demands of shape {shape}, not {self.demand.shape}")
        offsets = self.first_successor
        if offsets.shape != (self.tasks + 1,) or offsets[0] or offsets[-1] != len(self.successor):
            raise ValueError("first_successor must go from 0 to the number of successors")
        if (np.diff(offsets) < 0).any():
            raise ValueError("first_successor must not decrease")
        if (self.duration < 0).any():
            task = int((self.duration < 0).argmax())
            raise ValueError(f"task {task} takes {self.duration[task]}; it cannot be negative")
        bad = (self.demand < 0) | (self.demand > self.capacity)
        if bad.any():
            task, resource = np.argwhere(bad)[0].tolist()
            asked, there = self.demand[task, resource], self.capacity[resource]
            raise ValueError(f"task {task} takes {asked} of resource {resource}, which has {there}")
        unknown = (self.successor < 0) | (self.successor >= self.tasks)
        if unknown.any():
            raise ValueError(f"there is no task {self.successor[unknown.argmax()]} to come after")
        self.order()

    @classmethod
    def of(
        cls,
        capacity: Sequence[int],
        tasks: Sequence[tuple[int, Sequence[int], Sequence[int]]],
        name: str = "",
    ) -> Self:
        """From the duration, the demands and the successors of each task."""
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
            ValueError: there is no such order.
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
            raise ValueError(f"task {int((waits > 0).argmax())} waits for itself, in a circle")
        return order

    def earliest(self) -> np.ndarray:
        """int64 (tasks,): when each could begin if resources had no end."""
        start = np.zeros(self.tasks, np.int64)
        for task in self.order():
            after = self.successors(task)
            start[after] = np.maximum(start[after], start[task] + self.duration[task])
        return start

    def latest(self) -> np.ndarray:
        """int64 (tasks,): when each would have to begin for that to be no later."""
        start = self.critical_path() - self.duration
        for task in reversed(self.order()):
            after = self.successors(task)
            if len(after):
                start[task] = start[after].min() - self.duration[task]
        return start

    def critical_path(self) -> int:
        """How long the project takes if resources had no end; no schedule is shorter."""
        return int((self.earliest() + self.duration).max())
