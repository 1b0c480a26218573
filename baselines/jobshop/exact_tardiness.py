"""The least total tardiness of jobs on one machine, weighted or not, by OR-Tools' CP-SAT.

Unlike `makespan.baselines.jobshop.tardiness.optimal` it takes any number of jobs, but with many it
may not prove its best order within the time.
"""

import itertools
from typing import Any

import numpy as np

from makespan.baselines.jobshop.cpsat import Progress, Search, Solution, load_cp_model, silent
from makespan.baselines.jobshop.tardiness import Order


def solve_tardiness(
    duration: np.ndarray,
    due: np.ndarray,
    weight: np.ndarray | None = None,
    limit_s: float = 60.0,
    hint: Order | None = None,
    workers: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Solution[Order]:
    """Find the order with the least total tardiness.

    Args:
        duration: whole numbers (jobs,), at least 1.
        due: whole numbers (jobs,); they may be negative.
        weight: whole numbers (jobs,), not negative, of a unit of each job's tardiness; None: all
            are 1.
        limit_s: after which the best so far is taken.
        hint: where to begin; it is the answer if nothing better is found.
        workers: threads; 0: one for each core.
        seed: of the search.
        progress: is told of better orders.

    Raises:
        ImportError: OR-Tools is not installed.
        ValueError: the limit, `workers` or `seed` is out of range, the columns are not whole
            numbers in their range or of one length, or the hint is no order of these jobs.
    """
    search = Search(limit_s, workers, seed, progress)
    weight = np.ones(len(duration), np.int64) if weight is None else weight
    _check(duration, due, weight)
    duration, due, weight = (column.astype(np.int64) for column in (duration, due, weight))
    if hint is not None and sorted(hint.tolist()) != list(range(len(duration))):
        raise ValueError(f"the hint is no order of {len(duration)} jobs")
    model = _Model(load_cp_model(), duration, due, weight)
    if hint is not None:
        model.hint(hint)

    def total(order: Order) -> int:
        late = np.maximum(np.cumsum(duration[order]) - due[order], 0)
        return int((weight[order] * late).sum())

    return search.run(model.model, model.order, total, 0, hint)


def _check(duration: np.ndarray, due: np.ndarray, weight: np.ndarray) -> None:
    for name, column, least in (
        ("duration", duration, 1),
        ("due", due, None),
        ("weight", weight, 0),
    ):
        if column.shape != (len(duration),) or not len(column) or column.dtype.kind not in "iu":
            raise ValueError(f"{name} must be a whole number for each of {len(duration)} jobs")
        if least is not None and (column < least).any():
            job = int((column < least).argmax())
            raise ValueError(f"{name} of job {job} must be at least {least}, not {column[job]}")


class _Model:
    """Of every two jobs one is first, and a job begins when all before it are done.

    That the durations of those before it sum up to its start makes the linear relaxation strong:
    with intervals alone, 20 jobs may take minutes instead of a second.
    """

    def __init__(
        self, cp_model: Any, duration: np.ndarray, due: np.ndarray, weight: np.ndarray
    ) -> None:
        self._duration, self._due, self._weight = duration, due, weight
        self.model = model = cp_model.CpModel()
        total = int(duration.sum())
        takes = duration.tolist()
        self._start = [model.new_int_var(0, total - p, f"start{j}") for j, p in enumerate(takes)]
        model.add_no_overlap(
            model.new_fixed_size_interval_var(start, p, f"job{j}")
            for j, (start, p) in enumerate(zip(self._start, takes, strict=True))
        )
        self._order_pairs(takes)
        late = []
        for job, (start, p, d) in enumerate(zip(self._start, takes, due.tolist(), strict=True)):
            late.append(model.new_int_var(0, max(total - d, 0), f"late{job}"))
            model.add(late[job] >= start + (p - d))
        model.minimize(sum(w * late for w, late in zip(weight.tolist(), late, strict=True)))

    def _order_pairs(self, takes: list[int]) -> None:
        model, jobs = self.model, range(len(takes))
        first: dict[tuple[int, int], Any] = {}
        for one, other in itertools.combinations(jobs, 2):
            first[one, other] = model.new_bool_var(f"first{one}_{other}")
            first[other, one] = first[one, other].negated()
        for (one, other), before in first.items():
            done = model.add(self._start[other] >= self._start[one] + takes[one])
            done.only_enforce_if(before)
        for job in jobs:
            before = sum(takes[other] * first[other, job] for other in jobs if other != job)
            model.add(self._start[job] == before)
        for pair in _dominated(self._duration, self._due, self._weight):
            model.add(first[pair] == 1)

    def hint(self, order: Order) -> None:
        ends = np.cumsum(self._duration[order])
        for job, begin in zip(order.tolist(), (ends - self._duration[order]).tolist(), strict=True):
            self.model.add_hint(self._start[job], begin)

    def order(self, solver: Any) -> Order:
        return np.argsort([solver.value(start) for start in self._start], kind="stable")


def _dominated(duration: np.ndarray, due: np.ndarray, weight: np.ndarray) -> list[tuple[int, int]]:
    """Jobs (before, after): in some optimal order, all of these are so.

    Who is no longer, due no later and weighs no less is first, and of equals the lower number
    (Emmons, One-machine sequencing to minimize certain functions of job tardiness, Operations
    Research 17, 1969, corollary 1.1; with weights: Rinnooy Kan, Lageweg and Lenstra, Minimizing
    total costs in one-machine scheduling, Operations Research 23, 1975).
    """
    jobs = range(len(duration))
    keys = list(zip(duration.tolist(), due.tolist(), (-weight).tolist(), strict=True))
    return [
        (i, j)
        for i in jobs
        for j in jobs
        if i != j
        and all(a <= b for a, b in zip(keys[i], keys[j], strict=True))
        and (keys[i] != keys[j] or i < j)
    ]
