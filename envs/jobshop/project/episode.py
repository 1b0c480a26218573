"""What an episode of the project environment is drawn from."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence

from makespan.envs.core.environment import DRAWS
from makespan.envs.jobshop.project.observation import Rows
from makespan.envs.jobshop.ranges import Size, bounds
from makespan.traces.jobshop.layered import layered
from makespan.traces.jobshop.project import Project


@dataclass(frozen=True)
class EpisodeConfig:
    """Settings of `ProjectEnv`, all of them JSON.

    Attributes:
        tasks: their number, or a range `[low, high]` to draw it from.
        level: number of precedences, or a range.
        layers, resources, downtime, pairs: as `layered` takes them.
        max_tasks, max_resources, max_arcs, max_pairs: rows of the observation; 0: as many as there
            are at most in projects that are drawn, and at least 1.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    tasks: Size = 30
    level: Size = 40
    layers: int = 5
    resources: int = 3
    downtime: float = 0.0
    pairs: float = 0.0
    max_tasks: int = 0
    max_resources: int = 0
    max_arcs: int = 0
    max_pairs: int = 0

    def __post_init__(self) -> None:
        (fewest, _), (_, level) = self._sizes
        for name in ("tasks", "resources", "arcs", "pairs"):
            if (room := getattr(self.rows, name)) < (least := getattr(self.room(), name)):
                raise ValueError(f"max_{name} must be at least {least}, not {room}")
        # The most precedences among the fewest tasks: what does not fit there is refused now.
        self._project(fewest, level, SeedSequence(0))

    @property
    def _sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Fewest and most tasks, and precedences."""
        return bounds("tasks", self.tasks, 1), bounds("level", self.level, 0)

    def room(self) -> Rows:
        """What the projects that are drawn need."""
        (_, tasks), (_, level) = self._sizes
        return Rows(tasks, self.resources, max(level, 1), tasks if self.pairs else 1)

    @property
    def rows(self) -> Rows:
        """What the observation has room for."""
        room = self.room()
        return Rows(
            self.max_tasks or room.tasks,
            self.max_resources or room.resources,
            self.max_arcs or room.arcs,
            self.max_pairs or room.pairs,
        )

    def draw(self, seed: SeedSequence) -> Project:
        """The project of one episode; another is drawn if so many precedences do not fit.

        Raises:
            ValueError: they did not in any of `DRAWS`.
        """
        for _ in range(DRAWS - 1):
            with suppress(ValueError):
                return self._draw(*seed.spawn(2))
        return self._draw(*seed.spawn(2))

    def _draw(self, sizes: SeedSequence, of: SeedSequence) -> Project:
        rng = np.random.default_rng(sizes)
        tasks, level = (int(rng.integers(*between, endpoint=True)) for between in self._sizes)
        return self._project(tasks, level, of)

    def _project(self, tasks: int, level: int, seed: SeedSequence) -> Project:
        axes = {"downtime": self.downtime, "pairs": self.pairs}
        return layered(level, seed, tasks, self.layers, self.resources, **axes)[0]
