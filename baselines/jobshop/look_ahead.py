"""A rule for `makespan.envs.jobshop.improve` that tries every swap before it makes one."""

import numpy as np

from makespan.baselines.jobshop.improvement import TABU, forbidden
from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.critical import estimate, evaluate, n5, swap, trace
from makespan.envs.jobshop.improve.search import SwapDecision

DEPTH = 10
"""Swaps that are tried in a row; on 15x15, 5 to 40 differ by less than a point after 500."""

LONG_AGO = -1_000_000
"""Step at which pairs that never changed places did."""


class LookAhead:
    """Makes the swap that leads furthest if the rule `tabu` goes on from there.

    Every swap that is not `forbidden` is tried (all, if all are), with `DEPTH` - 1 more of that
    rule; of these ways the one with the shortest schedule on it is entered, of equals that with the
    lowest mean.

    Source: Bertsekas, Tsitsiklis and Wu, Rollout algorithms for combinatorial optimization, Journal
    of Heuristics 3 (1997). An instance serves one run.

    Args:
        seed: of the choice between critical paths on the ways; all begin with the same one.
    """

    def __init__(self, seed: int | np.random.SeedSequence = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._step = 0
        self._last = np.empty((0, 0), np.int64)

    def __call__(self, decision: SwapDecision) -> int:
        self._step += 1
        operations = decision.selection.shop.operations
        if self._step == 1:
            self._last = np.full((operations, operations), LONG_AGO)
        chances = self._rng.random((DEPTH, operations + 1))
        free = decision.action_mask & ~forbidden(decision)
        tried = np.flatnonzero(free if free.any() else decision.action_mask)
        ends = [self._way(decision, *decision.moves[k].tolist(), chances) for k in tried]
        chosen = int(tried[min(range(len(tried)), key=ends.__getitem__)])
        first, second = decision.moves[chosen].tolist()
        self._last[first, second] = self._last[second, first] = self._step
        return chosen

    def _way(
        self, decision: SwapDecision, first: int, second: int, chances: np.ndarray
    ) -> tuple[int, float]:
        """The shortest makespan on the way that begins with a swap, and the mean."""
        graph = decision.selection.graph
        copied = graph._replace(
            machine_before=graph.machine_before.copy(), machine_after=graph.machine_after.copy()
        )
        makespans = np.empty(len(chances), np.int64)
        swaps = np.array([[first, second]] * len(chances))
        steps = _go(copied, self._last, self._step, decision.best, chances, swaps, makespans)
        return int(makespans[:steps].min()), float(makespans[:steps].mean())


@kernel
def _go(graph, last, step, best, chances, swaps, makespans):
    """Make the first of `swaps` and then those of the rule; fill `makespans`, and return how many
    there are. `last` is afterwards what it was."""
    operations = len(graph.duration)
    head, tail = np.empty(operations, np.int64), np.empty(operations, np.int64)
    order, path = np.empty(operations, np.int64), np.empty(operations, np.int64)
    moves, before = np.empty((operations, 2), np.int64), np.empty(len(swaps), np.int64)
    done = 0
    while done < len(swaps):
        first, second = swaps[done]
        swap(graph, first, second)
        before[done] = _note(last, first, second, step + done)
        makespans[done] = evaluate(graph, head, tail, order)
        best = min(best, makespans[done])
        length = trace(graph, head, makespans[done], chances[done], path)
        count = n5(graph, head, path[:length], moves)
        done += 1
        if count == 0:
            break
        if done < len(swaps):
            k = _favourite(graph, head, tail, moves[:count], last, step + done, best)
            swaps[done] = moves[k]
    for k in range(done - 1, -1, -1):
        _note(last, swaps[k, 0], swaps[k, 1], before[k])
    return done


@kernel
def _note(last, first, second, step):
    """Let two have changed places at a step; the step at which they did before."""
    before = last[first, second]
    last[first, second] = last[second, first] = step
    return before


@kernel
def _favourite(graph, head, tail, moves, last, step, best):
    """The swap that `makespan.baselines.jobshop.improvement.tabu` makes, but that it is the oldest
    one if all are recent."""
    chosen, least = 0, np.inf
    for k in range(len(moves)):
        first, second = moves[k, 0], moves[k, 1]
        length = float(estimate(graph, head, tail, first, second))
        since = step - last[first, second]
        if since == 1 or (since <= TABU and length >= best):
            length = 1e15 / since  # no schedule is as long
        if length < least:
            chosen, least = k, length
    return chosen
