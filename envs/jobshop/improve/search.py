"""Local search on a schedule: every step, two operations of a critical path change places."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import simpy

from makespan.envs.jobshop.critical import NONE, Selection, estimates_of, makespans_of
from makespan.envs.jobshop.schedule import Schedule


@dataclass(frozen=True)
class SwapDecision:
    """A schedule, and the swaps that could be made in it.

    Attributes:
        time: steps so far.
        selection: the schedule's order, and what follows from it.
        path: int64 (length,): operations of one critical path in order.
        moves: int64 (actions, 2): the swaps of N5 on it, along it.
        action_mask: bool (actions,): which are allowed. A swap that undoes the last one is not,
            unless it is the only one.
        best: the shortest makespan so far.
        begun: the makespan at the start.
        left: steps, this one included.
        since: int64 (actions,): how many steps ago the two changed places last, 1 being the step
            before this one; `NONE` if they never did. The swap would undo that one.
        times: int64 (actions,): how often they did.
        idle: steps since the shortest makespan was found.
    """

    time: float
    selection: Selection
    path: np.ndarray
    moves: np.ndarray
    action_mask: np.ndarray
    best: int
    begun: int
    left: int
    since: np.ndarray
    times: np.ndarray
    idle: int

    @cached_property
    def estimates(self) -> np.ndarray:
        """int64 (actions,): how long the longest path through the two is after each of the swaps,
        a bound of the makespan then and much cheaper (`makespan.envs.jobshop.critical.estimate`).
        """
        selection, estimates = self.selection, np.empty(len(self.moves), np.int64)
        estimates_of(selection.graph, selection.head, selection.tail, self.moves, estimates)
        return estimates

    @cached_property
    def makespans(self) -> np.ndarray:
        """int64 (actions,): after each of the swaps."""
        makespans = np.empty(len(self.moves), np.int64)
        head, order = np.empty_like(self.selection.head), np.empty_like(self.selection.head)
        makespans_of(self.selection.graph, self.moves, head, order, makespans)
        return makespans


class LocalSearch:
    """A `Simulation`, whose clock counts steps.

    Attributes:
        clock: its `now` is the number of steps that are done.
        selection: the schedule it is at.
        best: the shortest so far, as a selection too.
        begun: the makespan at the start.
    """

    def __init__(self, start: Schedule, steps: int, rng: np.random.Generator) -> None:
        """Begin with a valid schedule.

        Args:
            steps: after which it ends; it ends earlier where no swap is left. The schedule is
                optimal then, if jobs visit no machine twice and operations take time (see
                `makespan.envs.jobshop.critical`).
            rng: of the choice between critical paths, where there are several.

        Raises:
            ValueError: there are no steps, or operations have a choice of machines.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.clock = simpy.Environment()
        self.selection = self.best = Selection.of_schedule(start)
        self.begun = self.selection.makespan
        self._steps = steps
        self._rng = rng
        self._last = (NONE, NONE)
        self._found = 0
        self._swapped: dict[tuple[int, int], tuple[int, int]] = {}
        self._due: SwapDecision | None = None
        self._rows: list[tuple[int, int, int, int]] = []

    @property
    def log(self) -> dict[str, np.ndarray]:
        """int64 (steps,) each: the two that changed places, the makespan, and the best so far."""
        rows = np.array(self._rows, np.int64).reshape(-1, 4)
        return dict(zip(("first", "second", "makespan", "best"), rows.T, strict=True))

    def next_decision(self) -> SwapDecision | None:
        """The swaps that there are; None after the last step, or if there are none."""
        done = len(self._rows)
        if self._due is None and done < self._steps:
            path = self.selection.critical_path(self._rng)
            moves = self.selection.moves(path)
            if len(moves):
                self._due = self._decision(path, moves)
        return self._due

    def _decision(self, path: np.ndarray, moves: np.ndarray) -> SwapDecision:
        second, first = self._last
        undoes = (moves[:, 0] == first) & (moves[:, 1] == second)
        done = len(self._rows)
        since, times = self._memory(moves, done)
        return SwapDecision(
            time=self.clock.now,
            selection=self.selection,
            path=path,
            moves=moves,
            action_mask=~undoes if len(moves) > 1 else np.ones(1, np.bool_),
            best=self.best.makespan,
            begun=self.begun,
            left=self._steps - done,
            since=since,
            times=times,
            idle=done - self._found,
        )

    def _memory(self, moves: np.ndarray, done: int) -> np.ndarray:
        """int64 (2, moves): how many steps ago each pair changed places, and how often it did."""
        never = (done - NONE, 0)
        known = [self._swapped.get(_pair(*move), never) for move in moves.tolist()]
        last, times = np.array(known, np.int64).T
        return np.stack([done - last, times])

    def decide(self, action: int) -> None:
        """Swap.

        Raises:
            ValueError: no decision is due, or the action is not allowed.
        """
        decision = self._due
        if decision is None:
            raise ValueError("no decision is due")
        if not (0 <= action < len(decision.moves) and decision.action_mask[action]):
            raise ValueError(f"action {action} is not allowed by {decision.action_mask.tolist()}")
        first, second = decision.moves[action].tolist()
        self.selection = self.selection.swapped(first, second)
        if self.selection.makespan < self.best.makespan:
            self.best = self.selection
            self._found = len(self._rows) + 1
        times = self._swapped.get(_pair(first, second), (0, 0))[1]
        self._swapped[_pair(first, second)] = (len(self._rows), times + 1)
        self._rows.append((first, second, self.selection.makespan, self.best.makespan))
        # As the swap is written: these are now the other way round.
        self._last, self._due = (first, second), None
        self.clock.run(until=len(self._rows))


def _pair(first: int, second: int) -> tuple[int, int]:
    """Two operations, whichever is in front."""
    return (first, second) if first < second else (second, first)
