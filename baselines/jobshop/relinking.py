"""Path relinking: tabu search that begins between two good schedules.

Source: Peng, Lu and Cheng, A tabu search/path relinking algorithm to solve the job shop scheduling
problem, Computers and Operations Research 53 (2015). Other than there, walks are by swaps of
neighbours that keep every schedule possible (as Nowicki and Smutnicki, An advanced tabu search
algorithm for the job shop problem, Journal of Scheduling 8, 2005) and end anywhere on a part of the
way, and a group of schedules is given up when nothing new gets into it.
"""

from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from makespan.baselines.jobshop import n7
from makespan.baselines.jobshop.tabu import Improvement, Progress, TabuResult, silent
from makespan.envs.jobshop.critical import NONE, Graph, Selection, find_heads, swap
from makespan.envs.jobshop.generation import generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop

GROUP = 12
"""Schedules that are kept. The paper has 30; with fewer, other groups are begun sooner."""

SEARCH = 12_500
"""Moves of each tabu search (as in the paper)."""

STARTS = 20
"""Random schedules without delay; a search of a new group begins with the shortest of so many."""

PATIENCE = 30
"""Searches in a row that change nothing in the group before another is begun."""


def path_relinking(
    shop: JobShop,
    seed: int | np.random.SeedSequence = 0,
    steps: int = 1_000_000,
    limit_s: float = float("inf"),
    progress: Progress = silent,
) -> TabuResult:
    """Search, for so many moves or seconds; 100,000 moves of 15 jobs on 15 machines take 0.6 s.

    A group of schedules is found by tabu search from random ones. Then, again and again, a walk
    leads from one of two of them towards the other, by swaps of neighbours that these have in
    another order; a tabu search begins where it ends, between a fifth and a half of the way, and
    what it finds takes the place of the longest of the group, if it is shorter and the group does
    not have it. When that has changed nothing for `PATIENCE` searches, another group is begun.

    Args:
        seed: of all draws. With the same seed and no limit of time the result is the same.
        steps: moves of all searches together.
        limit_s: seconds; looked at between searches.
        progress: is told of every improvement when it is found.

    Raises:
        ValueError: a limit is not positive, or operations have a choice of machines.
    """
    if not (steps > 0 and limit_s > 0):
        raise ValueError(f"steps and seconds must be positive: {steps} and {limit_s}")
    run = _Run(shop, np.random.default_rng(seed), steps, limit_s, progress)
    while run.goes_on:
        run.breed()
    assert run.best is not None
    return TabuResult(run.best, run.trajectory, run.done)


@dataclass
class _Run:
    """What has been found, and what is left of the limits."""

    shop: JobShop
    rng: np.random.Generator
    steps: int
    limit_s: float
    progress: Progress
    done: int = 0
    best: Schedule | None = None
    trajectory: list[Improvement] = field(default_factory=list)
    began_s: float = field(default_factory=perf_counter)

    @property
    def goes_on(self) -> bool:
        """Whether something is left of the limits and to gain; there is always a first search."""
        if self.best is None:
            return True
        in_time = self.done < self.steps and perf_counter() - self.began_s < self.limit_s
        return in_time and self.best.makespan > self.shop.lower_bound()

    def breed(self) -> None:
        """Make a group, and relink it until nothing changes any more."""
        group: list[Schedule] = []
        while len(group) < GROUP and self.goes_on:
            group.append(self._search(self._random()))
        idle = 0
        while idle < PATIENCE and self.goes_on:
            one, other = self.rng.choice(GROUP, 2, replace=False).tolist()
            child = self._search(between(group[one], group[other], self.rng))
            idle = 0 if _enter(group, child) else idle + 1

    def _random(self) -> Schedule:
        drawn = (self.rng.random(self.shop.operations) for _ in range(STARTS))
        made = (generate(self.shop, priority, "nondelay") for priority in drawn)
        return min(made, key=lambda schedule: schedule.makespan)

    def _search(self, start: Schedule) -> Schedule:
        found = np.empty(self.shop.operations, np.int64)
        steps = min(SEARCH, self.steps - self.done)
        makespan, made = n7.search(order_of(start), steps, self.rng, found)
        self.done += made or steps  # a search that found nothing to move counts as a whole one
        schedule = Schedule.plain(self.shop, found)
        if self.best is None or makespan < self.best.makespan:
            self.best = schedule
            seconds = perf_counter() - self.began_s
            self.trajectory.append(Improvement(self.done, seconds, self.best.makespan))
            self.progress(self.trajectory[-1])
        return schedule


def _enter(group: list[Schedule], child: Schedule) -> bool:
    """Let it take the place of the longest; False if it is no shorter, or the group has it."""
    longest = max(range(len(group)), key=lambda k: group[k].makespan)
    if child.makespan >= group[longest].makespan:
        return False
    if any(np.array_equal(child.start, schedule.start) for schedule in group):
        return False
    group[longest] = child
    return True


def between(one: Schedule, other: Schedule, rng: np.random.Generator) -> Schedule:
    """A schedule on the way from one to the other.

    A random fifth to half of the pairs on machines that these have in another order are as in the
    other; everything begins as early as the order permits.
    """
    graph = order_of(one)
    head, order = np.empty((2, one.shop.operations), np.int64)
    apart = distance(one, other)
    for _ in range(int(rng.integers(apart // 5, apart // 2, endpoint=True))):
        firsts = np.flatnonzero(graph.machine_after != NONE)
        seconds = graph.machine_after[firsts]
        differ = np.flatnonzero(other.start[firsts] > other.start[seconds])
        for k in rng.permutation(differ).tolist():
            first, second = int(firsts[k]), int(seconds[k])
            swap(graph, first, second)
            if find_heads(graph, head, order) >= 0:
                break
            swap(graph, second, first)  # they waited for each other
    find_heads(graph, head, order)
    return Schedule.plain(one.shop, head)


def order_of(schedule: Schedule) -> Graph:
    """That of its machines, to be changed."""
    graph = Selection.of_schedule(schedule).graph
    return graph._replace(
        machine_before=graph.machine_before.copy(), machine_after=graph.machine_after.copy()
    )


def distance(one: Schedule, other: Schedule) -> int:
    """Pairs of operations on a machine that are in another order in the other schedule."""
    apart = 0
    for machine in range(one.shop.machines):
        on = np.flatnonzero(one.shop.machine == machine)
        orders = [schedule.start[on][:, None] < schedule.start[on] for schedule in (one, other)]
        apart += int((orders[0] & ~orders[1] & ~np.eye(len(on), dtype=bool)).sum())
    return apart
