"""Rules for `makespan.envs.jobshop.improve`: which two operations change places."""

import numpy as np

from makespan.envs.jobshop.critical import NONE
from makespan.envs.jobshop.improve.search import SwapDecision


def steepest(decision: SwapDecision) -> int:
    """The allowed swap after which the schedule is shortest; of equals the first along the path.

    With what may not be undone, this is a tabu search with a list of one.
    """
    makespans = np.where(decision.action_mask, decision.makespans, np.iinfo(np.int64).max)
    return int(makespans.argmin())


TABU = 8
"""Steps for which a swap is not undone (maxt of Nowicki and Smutnicki, 1996)."""


def tabu(decision: SwapDecision) -> int:
    """The swap with the highest of `tabu_scores`: a tabu search whose neighbours are estimated.

    Source: Taillard, Parallel taboo search techniques for the job shop scheduling problem, ORSA
    Journal on Computing 6 (1994), on the moves and with the memory of Nowicki and Smutnicki (1996).
    """
    return int(np.where(decision.action_mask, tabu_scores(decision), -np.inf).argmax())


def tabu_scores(decision: SwapDecision) -> np.ndarray:
    """float64 (actions,): minus the estimated change of the makespan, in longest durations.

    A swap that would undo one of the last `TABU` scores 1 to 2 less, the more the later that was,
    unless it may make the schedule the best so far.
    """
    longest = max(int(decision.selection.shop.duration.max()), 1)
    change = (decision.estimates - decision.selection.makespan) / longest
    return -change - np.where(forbidden(decision), 2 - (decision.since - 1) / TABU, 0)


def forbidden(decision: SwapDecision) -> np.ndarray:
    """bool (actions,): which would undo one of the last `TABU` swaps, without being estimated to
    make the schedule the best so far."""
    recent = (decision.since != NONE) & (decision.since <= TABU)
    return recent & (decision.estimates >= decision.best)


class RandomSwap:
    """Any allowed swap, each as likely as the others.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int | np.random.SeedSequence = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, decision: SwapDecision) -> int:
        return int(self._rng.choice(np.flatnonzero(decision.action_mask)))
