"""Orders of jobs on one machine that keep total tardiness low.

All jobs are there at the beginning; a job that ends after its due date is late by the difference,
and the sum of that is to be low (1 || sum T_j). EDDC, MDDC and the augmented rules are those of
Discovering Heuristics with LLMs for Single-Machine Total Tardiness (arXiv 2510.24013) as its
released notebook has them; the pseudo-code in the paper does not give its own tables, see each.
"""

from collections.abc import Callable, Mapping

import numpy as np

from makespan.envs.core.compiled import kernel

Order = np.ndarray
"""int64 (jobs,): the jobs, the first one first."""

Rule = Callable[[np.ndarray, np.ndarray], Order]
"""Durations and due dates, float64 (jobs,) -> the order."""


def tardiness(duration: np.ndarray, due: np.ndarray, order: Order) -> float:
    """Total tardiness of the jobs in that order."""
    ends = np.cumsum(duration[order])
    return float(np.maximum(ends - due[order], 0).sum())


def edd(duration: np.ndarray, due: np.ndarray) -> Order:
    """Earliest due date first; the first of equals."""
    return np.argsort(due, kind="stable")


def spt(duration: np.ndarray, due: np.ndarray) -> Order:
    """Shortest processing time first; the first of equals."""
    return np.argsort(duration, kind="stable")


def mdd(duration: np.ndarray, due: np.ndarray) -> Order:
    """Earliest modified due date: the due date, or the end if the job were next and later.

    Source: Baker and Bertrand, A dynamic priority rule for scheduling against due-dates, Journal of
    Operations Management 3 (1982).
    """
    return _one_by_one(duration, due, np.arange(len(duration)), _modified_due_date)


def _modified_due_date(now: float, duration: np.ndarray, due: np.ndarray) -> np.ndarray:
    return np.maximum(now + duration, due)


def mddc(duration: np.ndarray, due: np.ndarray) -> Order:
    """Modified due date with weights that were found by search.

    Equals go in the order of due dates, then durations (in the paper: of durations).
    """
    return _one_by_one(duration, due, np.lexsort((duration, due)), _weighted_due_date)


def _weighted_due_date(now: float, duration: np.ndarray, due: np.ndarray) -> np.ndarray:
    share = np.minimum(duration / (now + duration.max()), 1.0)
    weight = 1 + share**2 / (1 + share**2)
    return np.maximum(1.1 * duration + now, due) * weight + duration / (now + duration.mean())


def _one_by_one(
    duration: np.ndarray,
    due: np.ndarray,
    left: np.ndarray,
    index: Callable[[float, np.ndarray, np.ndarray], np.ndarray],
) -> Order:
    """Take the job with the lowest index again and again, the first of equals in `left`."""
    now, order = 0.0, []
    while len(left):
        k = int(index(now, duration[left], due[left]).argmin())
        order.append(int(left[k]))
        now += duration[left[k]]
        left = np.delete(left, k)
    return np.array(order, np.int64)


def eddc(duration: np.ndarray, due: np.ndarray) -> Order:
    """Shortest first, and then jobs move forward past later due dates that are still met.

    It begins with the order of durations, then due dates. In the paper it begins with that of due
    dates, which the rest then leaves as it is.
    """
    order = np.lexsort((due, duration))
    for i in range(1, len(order)):
        through = np.cumsum(duration[order])
        for j in range(i, 0, -1):
            before, job = order[j - 1], order[j]
            if due[job] < due[before] and due[before] > through[j - 1]:
                order[j - 1], order[j] = job, before
    return order


def psk(duration: np.ndarray, due: np.ndarray) -> Order:
    """In the order of durations, unless another job is due before it could be done.

    Source: Panwalkar, Smith and Koulamas, A heuristic for the single machine tardiness problem,
    EJOR 70 (1993).
    """
    left, now, order = np.argsort(duration, kind="stable").tolist(), 0.0, []
    while left:
        job = _psk_next(left, now, duration, due)
        left.remove(job)
        order.append(job)
        now += duration[job]
    return np.array(order, np.int64)


def _psk_next(left: list[int], now: float, duration: np.ndarray, due: np.ndarray) -> int:
    active = left[0]
    for other in left[1:]:
        if now + duration[active] >= due[active] or due[active] <= now + duration[other]:
            return active
        if due[other] < due[active]:
            active = other
    return active


def augmented(rule: Rule) -> Rule:
    """The rule, whose order is built up anew: after each job, one of those before it is moved to
    the end where that is better, and the best such move is made."""

    def improved(duration: np.ndarray, due: np.ndarray) -> Order:
        order: list[int] = []
        for job in rule(duration, due).tolist():
            order.append(job)
            moved = [order[:k] + order[k + 1 :] + [order[k]] for k in range(len(order) - 1)]
            order = min([order, *moved], key=lambda o: tardiness(duration, due, np.array(o)))
        return np.array(order, np.int64)

    return improved


MOST_JOBS = 22
"""That `optimal` takes: its table has an entry for each set of jobs."""


def optimal(duration: np.ndarray, due: np.ndarray) -> Order:
    """An order with the least total tardiness.

    For every set of jobs, the least tardiness if these are done first, whichever is the last of
    them (Held and Karp, A dynamic programming approach to sequencing problems, SIAM 10, 1962).

    Raises:
        ValueError: there are more than `MOST_JOBS` jobs.
    """
    if len(duration) > MOST_JOBS:
        raise ValueError(f"at most {MOST_JOBS} jobs, not {len(duration)}: 2 to the power of that")
    order = np.empty(len(duration), np.int64)
    _order_of_least(duration.astype(np.float64), due.astype(np.float64), order)
    return order


@kernel
def _order_of_least(duration, due, order):
    """Fill `order`."""
    jobs = len(duration)
    least = np.zeros(1 << jobs)
    takes = np.zeros(1 << jobs)
    last = np.zeros(1 << jobs, np.int8)
    for done in range(1, 1 << jobs):
        lowest = 0
        while not done >> lowest & 1:
            lowest += 1
        takes[done] = takes[done & ~(1 << lowest)] + duration[lowest]
        least[done] = np.inf
        for job in range(jobs):
            if done >> job & 1:
                total = least[done & ~(1 << job)] + max(takes[done] - due[job], 0.0)
                if total < least[done]:
                    least[done], last[done] = total, job
    done = (1 << jobs) - 1
    for place in range(jobs - 1, -1, -1):
        order[place] = last[done]
        done &= ~(1 << int(last[done]))


RULES: Mapping[str, Rule] = {
    "edd": edd,
    "spt": spt,
    "mdd": mdd,
    "mddc": mddc,
    "eddc": eddc,
    "psk": psk,
    "augmented_mdd": augmented(mdd),
    "augmented_mddc": augmented(mddc),
}
