"""Optimal job-shop schedules, or the best in a given time, by OR-Tools' CP-SAT.

An operation is an interval; a machine's intervals do not overlap; the last end is minimised.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from makespan.baselines.jobshop.cpsat import (
    Progress,
    Search,
    Solution,
    if_valid,
    load_cp_model,
    makespan,
    silent,
)
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop


def solve(
    shop: JobShop,
    limit_s: float = 60.0,
    blocking: bool = False,
    swap: bool = True,
    hint: Schedule | None = None,
    workers: int = 0,
    seed: int = 0,
    frozen: Mapping[int, int] | None = None,
    progress: Progress = silent,
    work: float = float("inf"),
) -> Solution[Schedule]:
    """Find the shortest schedule.

    Args:
        limit_s: after which the best so far is taken.
        blocking: a job stays on its machine until the next one is free, since nothing lies between
            machines.
        swap: whether jobs that block each other, two or more in a circle, may all go on at the same
            moment. Without swaps, a job goes on only when the one before it has left. Asked only
            where jobs block.
        hint: where to begin; it is the answer if it can be and nothing better is found.
        workers: threads; 0: one for each core.
        seed: of the search.
        frozen: operation -> when it begins, of those that can no longer be moved.
        progress: is told of better schedules.
        work: after which the best so far is taken, in CP-SAT's deterministic time: with one worker
            and no other limit, every run gives the same.

    Raises:
        ImportError: OR-Tools is not installed.
        ValueError: a limit, `workers` or `seed` is out of range, the hint is of another shop, what
            is frozen is no operation, or what is asked without swaps takes no time or may stay on
            its machine, which this model does not have.
    """
    frozen = frozen or {}
    search = Search(limit_s, workers, seed, progress, work=work)
    if hint is not None and hint.shop is not shop:
        raise ValueError("the hint is of another job shop")
    if unknown := set(frozen) - set(range(shop.operations)):
        raise ValueError(f"frozen operations must be 0 to {shop.operations - 1}, not {unknown}")
    model = _Model(load_cp_model(), shop, blocking, frozen)
    if blocking and not swap:
        model.forbid_swaps()
    if hint is not None:
        model.hint(hint)
    known = if_valid(hint, blocking, swap)
    if known is not None and any(known.start[o] != start for o, start in frozen.items()):
        known = None
    return search.run(model.model, model.schedule, makespan, shop.lower_bound(), known)


class _Model:
    """The intervals of a shop, and what holds between them."""

    def __init__(
        self, cp_model: Any, shop: JobShop, blocking: bool, frozen: Mapping[int, int]
    ) -> None:
        self._shop = shop
        self.model = cp_model.CpModel()
        last = max([int(shop.release.max()), *frozen.values()])
        self._horizon = last + int(self._longest().sum())
        whole = range(shop.operations)
        self._start = [self.model.new_int_var(0, self._horizon, f"start{o}") for o in whole]
        self._end = [self.model.new_int_var(0, self._horizon, f"end{o}") for o in whole]
        self._takes: dict[int, Any] = {}  # option -> whether an operation is done by it
        on_machine: list[list[Any]] = [[] for _ in range(shop.machines)]
        self._last = set((shop.first_operation[1:] - 1).tolist())
        leaves = self._leaves(blocking)
        for operation in whole:
            self._choose(operation, leaves[operation], on_machine)
        for intervals in on_machine:
            self.model.add_no_overlap(intervals)
        self._order_jobs()
        self._freeze(frozen)
        makespan = self.model.new_int_var(shop.lower_bound(), self._horizon, "makespan")
        self.model.add_max_equality(makespan, [self._end[o - 1] for o in shop.first_operation[1:]])
        self.model.minimize(makespan)

    def _longest(self) -> np.ndarray:
        return np.maximum.reduceat(self._shop.duration, self._shop.first_option[:-1])

    def _leaves(self, blocking: bool) -> list[Any]:
        """When each operation's machine is free again."""
        if not blocking:
            return self._end
        count = self._shop.operations
        return [self._end[o] if o in self._last else self._start[o + 1] for o in range(count)]

    def _choose(self, operation: int, leaves: Any, on_machine: list[list[Any]]) -> None:
        """The operation is done by one of its options, and occupies that machine."""
        shop, model = self._shop, self.model
        first, last = shop.first_option[operation : operation + 2].tolist()
        start, end = self._start[operation], self._end[operation]
        alone = last == first + 1
        for option in range(first, last):
            takes = 1 if alone else model.new_bool_var(f"option{option}")
            self._takes[option] = takes
            done = model.add(end == start + int(shop.duration[option]))
            if not alone:
                done.only_enforce_if(takes)
            stays = takes
            if not shop.duration[option]:
                if leaves is end:
                    continue  # what takes no time is in nobody's way
                stays = self._waits(option, start, leaves)
            stay = model.new_int_var(0, self._horizon, f"stay{option}")
            interval = model.new_optional_interval_var(start, stay, leaves, stays, f"on{option}")
            on_machine[shop.machine[option]].append(interval)
        if not alone:
            model.add_exactly_one(self._takes[option] for option in range(first, last))

    def _waits(self, option: int, start: Any, leaves: Any) -> Any:
        """Whether a job waits for its next machine where it takes no time.

        If it does not, it is in nobody's way; CP-SAT forbids an interval of no length inside
        another.
        """
        waits = self.model.new_bool_var(f"waits{option}")
        self.model.add_implication(waits, self._takes[option])
        self.model.add(leaves == start).only_enforce_if(self._takes[option], ~waits)
        return waits

    def _order_jobs(self) -> None:
        first = self._shop.first_operation.tolist()
        for job, release in enumerate(self._shop.release.tolist()):
            self.model.add(self._start[first[job]] >= release)
            for operation in range(first[job] + 1, first[job + 1]):
                self.model.add(self._start[operation] >= self._end[operation - 1])

    def _freeze(self, frozen: Mapping[int, int]) -> None:
        for operation, start in frozen.items():
            self.model.add(self._start[operation] == start)

    def forbid_swaps(self) -> None:
        """What goes on at the same moment goes one after the other.

        Every start gets a rank among those of its moment. A job goes to a machine at a later moment
        than that at which it gets free, or at the same with a higher rank; jobs that would wait for
        each other in a circle have no such ranks. As many ranks as jobs are enough, since an
        operation takes time, so that no job goes on twice in a moment.

        Raises:
            ValueError: an operation may take no time, or be on the machine of the one before it.
        """
        shop, model = self._shop, self.model
        _check_for_swaps(shop)
        ranks = shop.jobs
        on_machine: list[list[Any]] = [[] for _ in range(shop.machines)]
        latest = (self._horizon + 1) * ranks
        moves = [model.new_int_var(0, latest, f"moves{o}") for o in range(shop.operations)]
        for operation, move in enumerate(moves):
            rank = model.new_int_var(0, ranks - 1, f"rank{operation}")
            model.add(move == ranks * self._start[operation] + rank)
            last = operation in self._last
            leaves = ranks * self._end[operation] if last else moves[operation + 1] + 1
            for option in range(*shop.first_option[operation : operation + 2].tolist()):
                stay = model.new_int_var(0, latest, f"ranked_stay{option}")
                takes = self._takes[option]
                interval = model.new_optional_interval_var(move, stay, leaves, takes, f"in{option}")
                on_machine[shop.machine[option]].append(interval)
        for intervals in on_machine:
            model.add_no_overlap(intervals)

    def hint(self, schedule: Schedule) -> None:
        for variables, values in ((self._start, schedule.start), (self._end, schedule.end)):
            for variable, value in zip(variables, values.tolist(), strict=True):
                self.model.add_hint(variable, value)
        chosen = set(schedule.option.tolist())
        for option, takes in self._takes.items():
            if not isinstance(takes, int):
                self.model.add_hint(takes, option in chosen)

    def schedule(self, solver: Any) -> Schedule:
        shop = self._shop
        start = np.array([solver.value(start) for start in self._start], np.int64)
        done = [o for o, t in self._takes.items() if isinstance(t, int) or solver.value(t)]
        return Schedule(shop, start, np.array(done, np.int64))


def _check_for_swaps(shop: JobShop) -> None:
    """See that every operation takes time, and that a job changes machines after each."""
    if (shop.duration == 0).any():
        raise ValueError("without swaps every operation must take time")
    options = np.split(shop.machine, shop.first_option[1:-1])
    for job, first in enumerate(shop.first_operation[:-1].tolist()):
        for operation in range(first + 1, int(shop.first_operation[job + 1])):
            if np.intersect1d(options[operation - 1], options[operation]).size:
                raise ValueError(
                    f"job {job}, operation {operation - first} may be on the machine of the one "
                    "before it; without swaps it must not"
                )
