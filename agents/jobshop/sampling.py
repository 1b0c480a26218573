"""Schedules that a network makes of shops."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makespan.agents.jobshop.rollout import Choices, Head, retrace_all, roll_out
from makespan.envs.jobshop.core import Way, way_number
from makespan.envs.jobshop.features import facts
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop


@dataclass(frozen=True)
class Samples:
    """Schedules of one shop, the greedy one first.

    Attributes:
        makespan: int64 (schedules,).
        picks: int16 (schedules, operations): see `roll_out`.
        candidates: int64 (schedules,): how many there were over all choices.
        start: int64 (operations,): of the best schedule.
    """

    shop: JobShop
    way: Way
    makespan: np.ndarray
    picks: np.ndarray
    candidates: np.ndarray
    start: np.ndarray

    @property
    def best(self) -> Schedule:
        """The shortest."""
        return Schedule.plain(self.shop, self.start)

    def choices(self, kept: np.ndarray) -> Choices:
        """What was chosen in these schedules, and between what."""
        columns, known = facts(self.shop)
        way = way_number(self.way)
        return retrace_all(columns, known, way, self.picks[kept], self.candidates[kept])


def sample_schedules(
    shop: JobShop,
    way: Way,
    head: Head,
    samples: int,
    rng: np.random.Generator,
) -> Samples:
    """One greedy schedule, and others drawn by the softmax of the scores at each choice."""
    columns, known = facts(shop)
    made = Samples(
        shop,
        way,
        np.empty(samples + 1, np.int64),
        np.empty((samples + 1, shop.operations), np.int16),
        np.empty(samples + 1, np.int64),
        np.empty(shop.operations, np.int64),
    )
    uniform = rng.random((samples, shop.operations), np.float32)
    roll_out(
        columns,
        known,
        way_number(way),
        head,
        uniform,
        made.makespan,
        made.picks,
        made.candidates,
        made.start,
    )
    return made


def join(parts: Sequence[Choices], shops: Sequence[JobShop]) -> Choices:
    """The choices in several shops as those of one whose operations are numbered through."""
    rows = np.cumsum([0, *(len(part.operation) for part in parts)])
    made = np.cumsum([0, *(len(part.chosen) for part in parts)])
    schedules = np.cumsum([0, *(part.schedules for part in parts)])
    operations = np.cumsum([0, *(shop.operations for shop in shops)])
    shifted = [
        part._replace(
            operation=part.operation + operations[k],
            choice=part.choice + made[k],
            chosen=part.chosen + rows[k],
            schedule=part.schedule + schedules[k],
        )
        for k, part in enumerate(parts)
    ]
    joined = [
        np.concatenate(column) for column in zip(*(part[:-1] for part in shifted), strict=True)
    ]
    return Choices(*joined, schedules=int(schedules[-1]))
