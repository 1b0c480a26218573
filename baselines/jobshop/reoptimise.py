"""Plan anew at every decision: what is known of a running shop is solved by CP-SAT, and begun so.

The plan takes what is planned for the truth: no more jobs come, nothing fails any more, durations
are as planned, and what is down is repaired after the mean time of a repair. What has been begun is
frozen. A machine chooses the candidate that the plan puts first on it; it never waits for a better
one, since the shop does not.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from makespan.baselines.jobshop.dynamic_rules import policy
from makespan.baselines.jobshop.exact import solve
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.envs.jobshop.dynamic.simulation import DynamicJobShop
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop

Options = list[tuple[int, int]]
"""(machine, duration) of each option of an operation."""


@dataclass(frozen=True)
class Remaining:
    """What is left to do of a running shop, as a shop that begins now.

    Attributes:
        shop: the jobs that have come, from the operation on that each waits for or is in, and one
            job for each machine that is down and has begun nothing. Times are rounded up.
        frozen: operation of `shop` -> 0, of what was begun.
        place: job of the running shop -> its first operation in `shop`.
    """

    shop: JobShop
    frozen: dict[int, int]
    place: dict[int, int]


def remaining(run: DynamicJobShop, decision: DispatchDecision) -> Remaining:
    """What is left to do, as a dispatcher knows it."""
    repair = np.where(decision.up, 0.0, run.conditions.mean_repair)
    begun = {run.operation(option): (m, left + repair[m]) for m, option, left in run.begun()}
    jobs: list[list[Options]] = []
    frozen: dict[int, int] = {}
    place: dict[int, int] = {}
    count = 0
    for job, operation in run.unfinished():
        operations = _operations(run.shop, job, operation)
        place[job] = count
        if operation in begun:
            machine, left = begun[operation]
            operations[0] = [(machine, ceil(left))]
            frozen[count] = 0
        jobs.append(operations)
        count += len(operations)
    busy = {machine for machine, _ in begun.values()}
    for machine in np.flatnonzero(~decision.up).tolist():
        if machine not in busy:
            jobs.append([[(machine, ceil(repair[machine]))]])
            frozen[count] = 0
            count += 1
    return Remaining(JobShop.flexible(jobs, run.shop.machines), frozen, place)


def _operations(shop: JobShop, job: int, operation: int) -> list[Options]:
    """The options of the operations of a job from one on."""
    pairs = list(zip(shop.machine.tolist(), shop.duration.tolist(), strict=True))
    first = shop.first_option.tolist()
    whole = range(operation, int(shop.first_operation[job + 1]))
    return [pairs[first[o] : first[o + 1]] for o in whole]


class Reoptimise:
    """The candidate that begins first on the machine in the best plan found.

    Args:
        run: that it decides in; it reads what a dispatcher knows of it.
        limit_s: seconds for a plan; what is found in them differs from run to run.
        workers: threads of the search.
        fallback: rule that decides where no plan is found in time.

    Raises:
        ImportError: OR-Tools is not installed.
    """

    def __init__(
        self,
        run: DynamicJobShop,
        limit_s: float = 1.0,
        workers: int = 1,
        fallback: str = "tail_p",
    ) -> None:
        self._run = run
        self._limit_s = limit_s
        self._workers = workers
        self._fallback = policy(fallback)

    def __call__(self, decision: DispatchDecision) -> int:
        left = remaining(self._run, decision)
        plan = solve(left.shop, self._limit_s, workers=self._workers, frozen=left.frozen).schedule
        if plan is None:
            return self._fallback(decision)
        operations = np.array([left.place[job] for job in decision.job.tolist()])
        return _first(plan, operations, decision)


def _first(plan: Schedule, operations: np.ndarray, decision: DispatchDecision) -> int:
    """The candidate that the plan begins first, those first that it begins on this machine."""
    elsewhere = plan.machine[operations] != decision.machine
    return int(np.lexsort((plan.start[operations], elsewhere))[0])
