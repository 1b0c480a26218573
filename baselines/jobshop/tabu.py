"""Tabu search over the swaps of N5, with jumps back to where a good schedule had other neighbours.

Source: Nowicki and Smutnicki, A fast taboo search algorithm for the job shop problem, Management
Science 42 (1996): the algorithm TSAB, without its detection of cycles, in
whose place critical paths and equals are drawn at random. Every neighbour is evaluated exactly.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np

from makespan.baselines.jobshop.insertion import insa
from makespan.envs.jobshop.critical import (
    Graph,
    Selection,
    find_heads,
    makespans_of,
    n5,
    swap,
    trace,
)
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop

TABU = 8
"""Swaps that are remembered (maxt in the paper)."""

ELITE = 5
"""Schedules to jump back to (maxl)."""

PATIENCE = 2500
"""Steps without a better schedule before a jump (maxiter)."""

FORBIDDEN = np.iinfo(np.int64).max


class Improvement(NamedTuple):
    """A schedule better than all before it: after so many steps and seconds, and how long it is."""

    step: int
    seconds: float
    makespan: int


Progress = Callable[[Improvement], None]
"""Is told of the start and of every improvement at the moment it is found."""


def silent(improvement: Improvement) -> None:
    """The `Progress` that says nothing."""


@dataclass(frozen=True)
class TabuResult:
    """What a search found.

    Attributes:
        schedule: the best.
        trajectory: the start and every improvement.
        steps: that were done; fewer than asked for when time was over or nothing was left to try.
    """

    schedule: Schedule
    trajectory: list[Improvement]
    steps: int


def tabu_search(
    shop: JobShop,
    seed: int | np.random.SeedSequence = 0,
    steps: int = 5000,
    limit_s: float = float("inf"),
    start: Schedule | None = None,
    progress: Progress = silent,
) -> TabuResult:
    """Search from a schedule, for so many steps or seconds.

    A swap may not be undone while it is among the last `TABU`, unless the schedule were the best so
    far. If nothing else is possible, the oldest are forgotten. After `PATIENCE` steps without a
    better schedule the search goes back to the last of `ELITE` good ones that had another
    neighbour. It ends early where nothing to jump back to is left, or where there is no swap to
    make: then the schedule is optimal, if jobs visit no machine twice and operations take time
    (`makespan.envs.jobshop.critical`).

    Args:
        seed: of the choice between critical paths and between equals. With the same seed and no
            limit of time the result is the same.
        start: of the search; that of `insa` if None.
        progress: is told what `TabuResult.trajectory` will have.

    Raises:
        ValueError: a limit is negative, operations have a choice of machines, or the start is of
            another shop.
    """
    if steps < 0 or not limit_s >= 0:
        raise ValueError(f"steps and seconds must not be negative: {steps} and {limit_s}")
    if start is not None and start.shop is not shop:
        raise ValueError("start is a schedule of another job shop")
    begun = perf_counter()
    search = _Search(start or insa(shop), np.random.default_rng(seed))
    trajectory: list[Improvement] = []

    def note(step: int) -> None:
        trajectory.append(Improvement(step, perf_counter() - begun, search.best))
        progress(trajectory[-1])

    note(0)
    done = 0
    while done < steps and perf_counter() - begun < limit_s and search.step():
        done += 1
        if search.best < trajectory[-1].makespan:
            note(done)
    return TabuResult(Schedule.plain(shop, search.best_start), trajectory, done)


Swap = tuple[int, int]


@dataclass
class _Elite:
    """A good schedule, the swaps that were not tried there, and what was tabu."""

    graph: Graph
    head: np.ndarray
    makespan: int
    swaps: np.ndarray
    tabu: list[Swap]


@dataclass
class _Search:
    """The schedule that the search is at, and what it remembers."""

    start: Schedule
    rng: np.random.Generator
    graph: Graph = field(init=False)
    tabu: deque[Swap] = field(default_factory=lambda: deque(maxlen=TABU))
    elite: deque[_Elite] = field(default_factory=lambda: deque(maxlen=ELITE))
    swaps: np.ndarray | None = None  # that are left, after a jump
    promising: bool = True  # whether to come back here
    idle: int = 0  # steps without a better schedule

    def __post_init__(self) -> None:
        selection = Selection.of_schedule(self.start)
        self.graph, self.head = selection.graph, selection.head.copy()
        self.makespan = self.best = selection.makespan
        self.best_start = self.head.copy()
        self._path, self._order, self._scratch = (np.empty_like(self.head) for _ in range(3))
        self._pairs = np.empty((len(self.head), 2), np.int64)

    def step(self) -> bool:
        """Swap once; False if there is nothing to swap."""
        if self.idle >= PATIENCE and not self._jump():
            return False
        swaps = self._neighbours() if self.swaps is None else self.swaps
        self.swaps = None
        if len(swaps) == 0:
            return False
        chosen = self._choose(swaps)
        if self.promising:
            self._remember(np.delete(swaps, chosen, axis=0))
        self._swap(*swaps[chosen].tolist())
        return True

    def _neighbours(self) -> np.ndarray:
        """int64 (swaps, 2): N5, of one critical path."""
        chances = self.rng.random(len(self.head) + 1)
        length = trace(self.graph, self.head, self.makespan, chances, self._path)
        return self._pairs[: n5(self.graph, self.head, self._path[:length], self._pairs)].copy()

    def _choose(self, swaps: np.ndarray) -> int:
        """The best that is allowed. Forgets what is tabu until something is."""
        makespans = np.empty(len(swaps), np.int64)
        makespans_of(self.graph, swaps, self._scratch, self._order, makespans)
        allowed = self._allowed(swaps) | (makespans < self.best)
        while not allowed.any():
            self.tabu.popleft()
            allowed = self._allowed(swaps)
        makespans[~allowed] = FORBIDDEN
        return int(self.rng.choice(np.flatnonzero(makespans == makespans.min())))

    def _allowed(self, swaps: np.ndarray) -> np.ndarray:
        """bool (swaps,): which would not undo a swap that is remembered."""
        return np.array([(second, first) not in self.tabu for first, second in swaps.tolist()])

    def _swap(self, first: int, second: int) -> None:
        swap(self.graph, first, second)
        self.tabu.append((first, second))
        self.makespan = find_heads(self.graph, self.head, self._order)
        self.promising = self.makespan < self.best
        self.idle += 1
        if self.promising:
            self.best, self.best_start, self.idle = self.makespan, self.head.copy(), 0

    def _remember(self, left: np.ndarray) -> None:
        """Keep this schedule, if another swap than the one made here is left."""
        if len(left):
            graph = Graph(*(column.copy() for column in self.graph))
            state = _Elite(graph, self.head.copy(), self.makespan, left, list(self.tabu))
            self.elite.append(state)

    def _jump(self) -> bool:
        """Go back to the last of the good schedules; False if there is none left."""
        if not self.elite:
            return False
        state = self.elite.pop()
        self.graph, self.head, self.makespan = state.graph, state.head, state.makespan
        self.swaps, self.tabu = state.swaps, deque(state.tabu, maxlen=TABU)
        self.promising, self.idle = True, 0
        return True
