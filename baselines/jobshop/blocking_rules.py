"""Dispatching rules for job shops without buffers: which job enters a free machine.

The job with the lowest priority does, the lowest number of equals. No rule leaves a machine empty
by itself; a limit on the jobs in the shop does (`Dispatcher`), and it matters more than the rule.
"""

from collections.abc import Callable, Mapping

import numpy as np

from makespan.envs.core.contract import Policy
from makespan.envs.jobshop.blocking.decision import EntryDecision
from makespan.traces.errors import unknown_name

Rule = Callable[[EntryDecision], np.ndarray]
"""(jobs,): the priorities, lowest first."""


def spt(decision: EntryDecision) -> np.ndarray:
    """Shortest processing time."""
    return decision.duration


def lpt(decision: EntryDecision) -> np.ndarray:
    """Longest processing time."""
    return -decision.duration


def mwkr(decision: EntryDecision) -> np.ndarray:
    """Most work remaining in the job, the operation included."""
    return -decision.work


def tail(decision: EntryDecision) -> np.ndarray:
    """Most work remaining in the job after the operation."""
    return -decision.tail


def mor(decision: EntryDecision) -> np.ndarray:
    """Most operations remaining in the job."""
    return -decision.operations_left


def lor(decision: EntryDecision) -> np.ndarray:
    """Least operations remaining in the job."""
    return decision.operations_left


def fdd_mwkr(decision: EntryDecision) -> np.ndarray:
    """Least flow due date, the job's work up to the end of the operation, per work remaining."""
    through = decision.routes.before[decision.operation] + decision.duration
    return through / np.maximum(decision.work, 1)


def tail_p(decision: EntryDecision) -> np.ndarray:
    """Most work remaining after the operation per processing time of it."""
    return -decision.tail / np.maximum(decision.duration, 1)


def fifo(decision: EntryDecision) -> np.ndarray:
    """First in, first out: who ended on its machine, or was released, first."""
    return decision.since


def edd(decision: EntryDecision) -> np.ndarray:
    """Earliest due date of the job."""
    return decision.shop.due


def blk(decision: EntryDecision) -> np.ndarray:
    """Who holds up the most jobs, standing on the machine that they wait for."""
    return -decision.holds_up


def blk_tail_p(decision: EntryDecision) -> np.ndarray:
    """Who holds up anyone goes first; of these, and of the others, as `tail_p` says."""
    return tail_p(decision) - (decision.holds_up > 0) * FIRST


def inside_tail_p(decision: EntryDecision) -> np.ndarray:
    """Who is in the shop goes first; of these, and of the new ones, as `tail_p` says."""
    return tail_p(decision) - (decision.on >= 0) * FIRST


FIRST = 1e9
"""More than any ratio of times."""

RULES: Mapping[str, Rule] = {
    "spt": spt,
    "lpt": lpt,
    "mwkr": mwkr,
    "tail": tail,
    "mor": mor,
    "lor": lor,
    "fdd_mwkr": fdd_mwkr,
    "tail_p": tail_p,
    "fifo": fifo,
    "edd": edd,
    "blk": blk,
    "blk_tail_p": blk_tail_p,
    "inside_tail_p": inside_tail_p,
}


class Dispatcher:
    """Goes by a rule, and lets in no more jobs than the shop can bear.

    Args:
        rule: of `RULES`.
        limit: no new job is let in while as many as this times the number of machines are in the
            shop, if that can wait (constant work in process, Spearman, Woodruff and Hopp, CONWIP,
            International Journal of Production Research 28, 1990).
    """

    def __init__(self, rule: Rule, limit: float = np.inf) -> None:
        self._rule, self._limit = rule, limit

    def __call__(self, decision: EntryDecision) -> int:
        priority = self._rule(decision)
        job = decision.lowest(priority)
        inside = decision.on >= 0
        if inside[job] or inside.sum() < self._limit * len(decision.occupant):
            return job
        if (decision.candidate & inside).any():
            return decision.lowest(np.where(inside, priority, np.inf))
        return decision.wait if decision.can_wait else job


class Random:
    """Any legal action, each as likely as another."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, decision: EntryDecision) -> int:
        return int(self._rng.choice(np.flatnonzero(decision.action_mask)))


def policy(name: str, limit: float = np.inf, seed: int = 0) -> Policy:
    """A policy for one run: a rule of `RULES`, or `random`.

    Args:
        limit: on the jobs in the shop, see `Dispatcher`; `random` has none.
        seed: of `random`.

    Raises:
        ValueError: there is no such rule.
    """
    if name == "random":
        return Random(seed)
    if name not in RULES:
        raise unknown_name("rule for blocking shops", name, [*RULES, "random"])
    return Dispatcher(RULES[name], limit)
