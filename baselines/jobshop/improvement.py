"""Rules for `makespan.envs.jobshop.improve`: which two operations change places."""

import numpy as np

from makespan.envs.jobshop.improve.search import SwapDecision


def steepest(decision: SwapDecision) -> int:
    """The allowed swap after which the schedule is shortest; of equals the first along the path.

    With what may not be undone, this is a tabu search with a list of one.
    """
    makespans = np.where(decision.action_mask, decision.makespans, np.iinfo(np.int64).max)
    return int(makespans.argmin())


class RandomSwap:
    """Any allowed swap, each as likely as the others.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int | np.random.SeedSequence = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, decision: SwapDecision) -> int:
        return int(self._rng.choice(np.flatnonzero(decision.action_mask)))
