"""Learners of which type of jobs is the shortest, while they are done.

There are n jobs of each of K types; sizes of a type are exponential with a mean that is not known,
and the total flow time is to be low. Non-preemptive learners finish a job that they began, the
others share the machine or leave jobs.

Source: On Preemption and Learning in Stochastic Scheduling (ICML 2023), with the constants of its
released code. What is not said otherwise: ties go to the first type, jobs of a type in the order of
their numbers.

What a learner chooses and what it learns are kernels over arrays with a row per type, which both
`Learner`, a policy for the simulator, and `makespan.baselines.jobshop.single_machine.fast` call.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.single.decision import MachineDecision, Service

FTPP, LSEPT, ETC_U, ETC_RR, UCB_U, UCB_RR = range(6)

LEARNERS: dict[str, int] = {
    "ftpp": FTPP,
    "lsept": LSEPT,
    "etc_u": ETC_U,
    "etc_rr": ETC_RR,
    "ucb_u": UCB_U,
    "ucb_rr": UCB_RR,
}
"""Name -> number in the kernels.

`ftpp`: follow the perfect prediction: the means are known, the lowest goes first. No learner.

`lsept`: the type with the lowest expected size, for a Gamma prior of the rates (`PRIOR`).

`etc_u`: explore uniformly, then commit: a job of each type in turn, until duels, of each type's
k-th job with the other's, tell one to be longer. A type that is alone is done to its end.

`etc_rr`: the same, but the types share the machine, and who finishes a job wins a duel with each of
the others.

`ucb_u`: the type with the lowest lower confidence bound of its mean.

`ucb_rr`: the type with the highest upper confidence bound of the rate by which jobs end in a short
slice of time; it may leave a job for one of another type at the end of each.
"""

PRIOR = 2
"""Shape of the Gamma prior; its rate is 0."""

SLICE = 0.001
"""Of UCB-RR, in the unit of sizes; the paper's in its first figure, where means are 0.25 and 1."""

NEARLY_0 = 1e-9
"""Kullback-Leibler divergences are taken between probabilities at least that far from 0 and 1, and
bounds are exact up to that."""


class Seen(NamedTuple):
    """What a learner knows, K = types.

    Attributes:
        jobs: n, of each type.
        slice: of UCB-RR.
        mean: float64 (K,), of the types, for those who may know.
        quantile: float64 (n + 1,): of chi-squared with 2 k degrees of freedom, for UCB-U.
        done: int64 (K,): jobs finished.
        work: float64 (K,): sum of their sizes.
        size: float64 (K, n): of those, in the order in which they ended.
        duels: float64 (K, K): between jobs of the types.
        wins: float64 (K, K): of those, by the type of the row.
        slices: float64 (K,): that each type has had.
        bound: float64 (K,): on the probability that a slice ends a job.
        committed: int64 (1,): the type that ETC-U does to its end; -1: none.
    """

    jobs: int
    slice: float
    mean: np.ndarray
    quantile: np.ndarray
    done: np.ndarray
    work: np.ndarray
    size: np.ndarray
    duels: np.ndarray
    wins: np.ndarray
    slices: np.ndarray
    bound: np.ndarray
    committed: np.ndarray


def number_of(name: str, means: np.ndarray | None) -> int:
    """Of a learner in the kernels.

    Raises:
        ValueError: there is no such learner, or it lacks the means.
    """
    if name not in LEARNERS:
        raise ValueError(f"a learner is one of {', '.join(LEARNERS)}, not {name!r}")
    if name == "ftpp" and means is None:
        raise ValueError("ftpp needs the means of the types")
    return LEARNERS[name]


def nothing_seen(
    types: int, jobs: int, means: np.ndarray | None = None, slice: float = SLICE
) -> Seen:
    """At the beginning, of `jobs` of each type.

    Raises:
        ValueError: there is not one mean for each type, or the slice is not positive.
    """
    if means is not None and np.shape(means) != (types,):
        raise ValueError(f"means must be one for each of {types} types, not {np.shape(means)}")
    if not slice > 0:
        raise ValueError(f"the slice must be positive, not {slice}")
    return Seen(
        jobs,
        slice,
        np.zeros(types) if means is None else np.asarray(means, np.float64),
        _quantiles(types, jobs),
        np.zeros(types, np.int64),
        np.zeros(types),
        np.zeros((types, jobs)),
        np.zeros((types, types)),
        np.zeros((types, types)),
        np.zeros(types),
        np.ones(types),
        np.full(1, -1),
    )


@cache
def _quantiles(types: int, jobs: int) -> np.ndarray:
    """Of level 1 - 1 / (2 K^2 n^2); see `Seen`."""
    from scipy.special import chdtri  # takes the probability of what is beyond

    beyond = 1 / (2 * types**2 * jobs**2)
    return np.append(0.0, chdtri(2.0 * np.arange(1, jobs + 1), beyond))


@kernel
def choose(rule, seen, left, active):
    """Mark the types in `active` whose first jobs are to share the machine, for how long at most.

    Args:
        left: int64 (K,): unfinished jobs of each type that are there; not all 0.
        active: bool (K,), filled.
    """
    active[:] = False
    if rule in (ETC_U, ETC_RR):
        _survive(seen, left, active)
        if rule == ETC_U:
            _explore_or_commit(seen, left, active)
        return np.inf
    lowest, chosen = np.inf, -1
    for t in range(len(left)):
        if left[t] > 0:
            index = _index(rule, seen, t)
            if chosen < 0 or index < lowest:
                lowest, chosen = index, t
    active[chosen] = True
    return _slices(seen, left, chosen) * seen.slice if rule == UCB_RR else np.inf


@kernel
def _index(rule, seen, t):
    """The type with the lowest is next."""
    done = seen.done[t]
    if rule == FTPP:
        return seen.mean[t]
    if rule == LSEPT:
        return seen.work[t] / (PRIOR + done - 1)
    if rule == UCB_U:
        return 2 * seen.work[t] / seen.quantile[done] if done > 0 else 0.0
    return -seen.bound[t]


@kernel
def _survive(seen, left, active):
    """Mark the types that none with jobs left is known to be shorter than."""
    for t in range(len(left)):
        active[t] = left[t] > 0
        for other in range(len(left)):
            if left[t] > 0 and left[other] > 0 and seen.duels[other, t] > 0:
                duels = seen.duels[other, t]
                width = math.sqrt(math.log(2 * 6 * seen.jobs**2) / (2 * duels))
                if seen.wins[other, t] / duels - width > 0.5:
                    active[t] = False
    if not active.any():  # each is longer than another, in a circle
        active[:] = left > 0


@kernel
def _explore_or_commit(seen, left, active):
    """Leave one type in `active`."""
    committed = seen.committed
    if committed[0] >= 0 and left[committed[0]] == 0:
        committed[0] = -1
    chosen = committed[0]
    if chosen < 0:
        for t in range(len(left)):
            if active[t] and (chosen < 0 or seen.done[t] < seen.done[chosen]):
                chosen = t
        if active.sum() == 1:
            committed[0] = chosen
    active[:] = False
    active[chosen] = True


@kernel
def _slices(seen, left, chosen):
    """Slices until UCB-RR decides again: 1, or its double and so on, as long as the type would be
    chosen still if no job ended in them."""
    other = -np.inf
    for t in range(len(left)):
        if t != chosen and left[t] > 0:
            other = max(other, seen.bound[t])
    if other < 0:
        return np.inf
    level = _level(seen)
    slices = 1
    while True:
        tried = seen.slices[chosen] + slices
        mean = seen.done[chosen] / tried
        # The bound is above the other's if that is not as far away as a bound may be.
        if other >= mean and _divergence(mean, other) >= level / tried:
            return max(1, slices // 2)
        slices *= 2


@kernel
def learn(rule, seen, t, time, size, finished, active):
    """The first job of type t had the machine for `time`, and `size` in all.

    Args:
        active: bool (K,): the types it shared with.
    """
    # The last slice ends with its job.
    seen.slices[t] += math.floor(time / seen.slice) + 1 if finished else time / seen.slice
    if finished:
        if rule == ETC_RR:
            _win(seen, t, active)
        else:
            _compare(seen, t, size)
        seen.size[t, seen.done[t]] = size
        seen.work[t] += size
        seen.done[t] += 1
    if rule == UCB_RR:
        seen.bound[t] = _upper_bound(seen.done[t] / seen.slices[t], _level(seen) / seen.slices[t])


@kernel
def _win(seen, t, active):
    """A job ended before those that it shared with."""
    for other in range(len(active)):
        if active[other] and other != t:
            seen.wins[t, other] += 1
            seen.duels[t, other] += 1
            seen.duels[other, t] += 1


@kernel
def _compare(seen, t, size):
    """The k-th job of a type is compared with the k-th of the others."""
    k = seen.done[t]
    for other in range(len(seen.done)):
        if other != t and seen.done[other] > k:
            seen.wins[t, other] += size < seen.size[other, k]
            seen.wins[other, t] += seen.size[other, k] < size
            seen.duels[t, other] += 1
            seen.duels[other, t] += 1


@kernel
def _level(seen):
    types = len(seen.done)
    return math.log(types**3 * seen.jobs**2)


@kernel
def _divergence(p, q):
    """Kullback-Leibler, of Bernoulli variables."""
    p = min(max(p, NEARLY_0), 1 - NEARLY_0)
    q = min(max(q, NEARLY_0), 1 - NEARLY_0)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@kernel
def _upper_bound(mean, most):
    """The highest probability whose divergence from `mean` is at most `most`, by bisection."""
    low, high = min(mean, 1.0), 1.0
    while high - low > NEARLY_0:
        middle = (low + high) / 2
        if _divergence(mean, middle) > most:
            high = middle
        else:
            low = middle
    return (low + high) / 2


class Learner:
    """A policy for `makespan.envs.jobshop.single.simulator.SingleMachine`; serves one run.

    Where jobs come over time, it knows how many there will have been of each type, and chooses
    between those that are there. On a machine without preemption, `etc_rr` and `ucb_rr` cannot be.

    Args:
        name: see `LEARNERS`.
        means: of the types, float64 (types,), for `ftpp`.
        slice: of `ucb_rr`.

    Raises:
        ValueError: there is no such learner, or it lacks the means; at the first decision: see
            `nothing_seen`.
    """

    def __init__(self, name: str, means: np.ndarray | None = None, slice: float = SLICE) -> None:
        self.rule = number_of(name, means)
        self.means = means
        self.slice = slice
        self._seen: Seen | None = None
        self._served: tuple[int, ...] = ()
        self._received = np.zeros(0)

    def __call__(self, decision: MachineDecision) -> Service:
        if self._seen is None:
            types, jobs = len(decision.jobs_of_type), int(decision.jobs_of_type.max())
            self._seen = nothing_seen(types, jobs, self.means, self.slice)
            self._active = np.zeros(types, np.bool_)
        self._learn(self._seen, decision)
        types = decision.type[decision.action_mask]
        left = np.bincount(types, minlength=len(self._active))
        at_most = choose(self.rule, self._seen, left, self._active)
        waiting = np.where(decision.action_mask, decision.type, -1).tolist()
        self._served = tuple(waiting.index(t) for t in np.flatnonzero(self._active).tolist())
        self._received = decision.received
        return Service(self._served, at_most)

    def _learn(self, seen: Seen, decision: MachineDecision) -> None:
        """From the jobs that it chose last."""
        for job in self._served:
            received = float(decision.received[job])
            time = received - float(self._received[job])
            finished = bool(decision.finished[job])
            learn(self.rule, seen, decision.type[job], time, received, finished, self._active)
