"""Dispatching rules for shops that run: the candidate with the lowest priority is next.

Each rule is a function of a `DispatchDecision`. Of equals the first is next, the job with the
lowest number. Where nothing happens to a shop they decide as the rules of the same name in
`makespan.baselines.jobshop.rules` without delay.

    >>> from makespan.baselines.jobshop.dynamic_rules import policy
    >>> rule = policy("atc")
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from makespan.envs.core.contract import Policy
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.traces.errors import unknown_name

Priority = Callable[[DispatchDecision], np.ndarray]
"""float64 (C,): the priorities of the candidates, lowest first."""

NOTHING_LEFT = 1e-9
"""Stands for no work, where it is divided by."""


def spt(decision: DispatchDecision) -> np.ndarray:
    """Shortest processing time."""
    return decision.duration


def lpt(decision: DispatchDecision) -> np.ndarray:
    """Longest processing time."""
    return -decision.duration


def mwkr(decision: DispatchDecision) -> np.ndarray:
    """Most work remaining in the job, the operation included."""
    return -decision.remaining


def tail(decision: DispatchDecision) -> np.ndarray:
    """Most work remaining in the job after the operation."""
    return -decision.tail


def mor(decision: DispatchDecision) -> np.ndarray:
    """Most operations remaining in the job."""
    return -decision.operations_left


def fdd_mwkr(decision: DispatchDecision) -> np.ndarray:
    """Least work of the job up to the end of the operation, per work remaining.

    The flow due date counts from the job's release, so that it does not grow with the clock.
    """
    return decision.through / np.maximum(decision.remaining, NOTHING_LEFT)


def fdd_tail(decision: DispatchDecision) -> np.ndarray:
    """The same per work remaining after the operation."""
    return decision.through / np.maximum(decision.tail, NOTHING_LEFT)


def tail_p(decision: DispatchDecision) -> np.ndarray:
    """Most work remaining after the operation per processing time of it."""
    return -decision.tail / np.maximum(decision.duration, NOTHING_LEFT)


def fifo(decision: DispatchDecision) -> np.ndarray:
    """First in, first out: who waits longest."""
    return decision.ready


def edd(decision: DispatchDecision) -> np.ndarray:
    """Earliest due date."""
    return decision.due


def mdd(decision: DispatchDecision) -> np.ndarray:
    """Earliest modified due date: the due date, or if the job cannot meet it when it could be done.

    Source: Baker and Bertrand, A dynamic priority rule for scheduling against due-dates, Journal of
    Operations Management 3 (1982).
    """
    return np.maximum(decision.due, decision.time + decision.remaining)


def mod(decision: DispatchDecision) -> np.ndarray:
    """Earliest modified operation due date: the same of the operation alone.

    An operation is due when the share of the job's time has passed that its work up to the end of
    the operation is of all of it.

    Source: Baker and Kanet, Job shop scheduling with modified due dates, Journal of Operations
    Management 4 (1983).
    """
    share = decision.through / np.maximum(decision.through + decision.tail, NOTHING_LEFT)
    allowance = decision.due - decision.release
    due = decision.release + allowance * np.maximum(share, NOTHING_LEFT)
    return np.maximum(due, decision.time + decision.duration)


def cr(decision: DispatchDecision) -> np.ndarray:
    """Critical ratio: least time until the due date per work remaining."""
    return (decision.due - decision.time) / np.maximum(decision.remaining, NOTHING_LEFT)


def atc(decision: DispatchDecision, k: float = 3.0, b: float = 2.0) -> np.ndarray:
    """Highest apparent tardiness cost: weight per processing time, less the more slack there is.

    The slack is what is left when the job waits b times the duration of each later operation; it
    counts in units of k mean durations of the candidates.

    Source: Vepsalainen and Morton, Priority rules for job shops with weighted tardiness costs,
    Management Science 33 (1987); k = 3 and b = 2 as it is usually run in job shops.
    """
    slack = np.maximum(decision.slack - b * decision.tail, 0.0)
    scale = k * max(float(decision.duration.mean()), NOTHING_LEFT)
    cost = decision.weight / np.maximum(decision.duration, NOTHING_LEFT)
    return -cost * np.exp(-slack / scale)


def winq(decision: DispatchDecision) -> np.ndarray:
    """Least work in the next queue, what that machine does included; first who needs no other."""
    return decision.next_work


PRIORITIES: Mapping[str, Priority] = {
    "spt": spt,
    "lpt": lpt,
    "mwkr": mwkr,
    "tail": tail,
    "mor": mor,
    "fdd_mwkr": fdd_mwkr,
    "fdd_tail": fdd_tail,
    "tail_p": tail_p,
    "fifo": fifo,
    "edd": edd,
    "mdd": mdd,
    "mod": mod,
    "cr": cr,
    "atc": atc,
    "winq": winq,
}
"""Name -> priorities."""


@dataclass(frozen=True)
class Rule:
    """The policy of a rule: the first candidate with the lowest priority."""

    priority: Priority

    def __call__(self, decision: DispatchDecision) -> int:
        return int(self.priority(decision).argmin())


class Random:
    """Any candidate, all equally likely."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, decision: DispatchDecision) -> int:
        return int(self._random.integers(len(decision.job)))


def policy(name: str, seed: int = 0) -> Policy:
    """A fresh policy, its randomness (if any) drawn from `seed`.

    Raises:
        ValueError: there is no such rule; the message offers the nearest names.
    """
    if name not in POLICIES:
        raise unknown_name("rule", name, POLICIES)
    return POLICIES[name](seed)


def _of(priority: Priority) -> Callable[[int], Policy]:
    return lambda seed: Rule(priority)


POLICIES: Mapping[str, Callable[[int], Policy]] = {
    **{name: _of(priority) for name, priority in PRIORITIES.items()},
    "random": Random,
}
"""Name -> what makes a policy from a seed."""
