"""How a schedule is made from priorities: the ways that published results differ by.

The same rule gives makespans that differ by factors, depending on what it may choose from and where
its choice is put. `WAYS` has the four that the literature uses; a result means nothing without the
name of its way.

At every step a rule chooses one operation, the next of its job, with the lowest priority; the job
with the lowest number of equals. Results of all published rules depend on such ties.
"""

from typing import Literal, get_args

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop

Way = Literal["nondelay", "active", "append", "insert"]
"""Ways of making a schedule.

`nondelay`: time goes on, and no machine waits that could work: the choice is between operations
that can begin at the earliest moment at which any can.

`active` (Giffler and Thompson, Operations Research 8, 1960): of all that could be next, take the
one that would end first, and its machine; the choice is between what could begin on that machine
before that end. No operation could begin earlier without another's being late.

`append`: the choice is between all jobs, and the operation is put behind what its machine has
(semi-active).

`insert`: the same, but it is put into the earliest gap on its machine that is long enough.
"""

WAYS: tuple[Way, ...] = get_args(Way)

NONDELAY, ACTIVE, APPEND, INSERT = range(4)

LATE = np.iinfo(np.int64).max // 4
"""After everything."""


def generate(shop: JobShop, priority: np.ndarray, way: Way, by_arrival: bool = False) -> Schedule:
    """The schedule of a plain job shop that these priorities make.

    Args:
        priority: float64 (operations,), finite; the lowest is first.
        by_arrival: who was ready first is first instead, whatever the priorities.
        way: see `Way`.

    Raises:
        ValueError: operations have a choice of machines, the priorities are not one for each
            operation, or there is no such way.
    """
    if shop.is_flexible:
        raise ValueError("only job shops without a choice of machines are dispatched by priority")
    if priority.shape != (shop.operations,) or not np.isfinite(priority).all():
        raise ValueError(f"needs {shop.operations} priorities that are finite")
    if way not in WAYS:
        raise ValueError(f"a schedule is made by {', '.join(WAYS)}, not by {way!r}")
    start = np.empty(shop.operations, np.int64)
    _generate(
        shop.machines,
        shop.first_operation,
        shop.machine,
        shop.duration,
        shop.release,
        priority.astype(np.float64),
        by_arrival,
        WAYS.index(way),
        start,
    )
    return Schedule.plain(shop, start)


@kernel
def _generate(machines, first, machine, duration, release, priority, by_arrival, way, start):
    """Fill `start`; returns the makespan."""
    jobs = len(first) - 1
    following = first[:-1].copy()
    job_ready = release.copy()
    machine_ready = np.zeros(machines, np.int64)
    begins = np.empty(jobs, np.int64)
    # Of every machine, what it does, in order of time; only for insertion.
    width = len(machine) if way == INSERT else 0
    busy_from = np.empty((machines, width), np.int64)
    busy_to = np.empty((machines, width), np.int64)
    count = np.zeros(machines, np.int64)
    makespan = 0
    for _ in range(len(machine)):
        chosen = _choose(
            first,
            following,
            machine,
            duration,
            job_ready,
            machine_ready,
            priority,
            by_arrival,
            way,
            begins,
        )
        operation = following[chosen]
        on = machine[operation]
        begin = begins[chosen]
        if way == INSERT:
            begin = _insert(
                busy_from[on], busy_to[on], count[on], job_ready[chosen], duration[operation]
            )
            count[on] += 1
        start[operation] = begin
        end = begin + duration[operation]
        job_ready[chosen] = end
        machine_ready[on] = max(machine_ready[on], end)
        following[chosen] += 1
        makespan = max(makespan, end)
    return makespan


@kernel
def _choose(
    first,
    following,
    machine,
    duration,
    job_ready,
    machine_ready,
    priority,
    by_arrival,
    way,
    begins,
):
    """The job that is next; `begins` says when each could begin."""
    jobs = len(following)
    soonest, first_end, busy = LATE, LATE, -1
    for job in range(jobs):
        begins[job] = LATE
        operation = following[job]
        if operation == first[job + 1]:
            continue
        begin = max(job_ready[job], machine_ready[machine[operation]])
        begins[job] = begin
        soonest = min(soonest, begin)
        if begin + duration[operation] < first_end:
            first_end, busy = begin + duration[operation], machine[operation]
    chosen, lowest = -1, np.inf
    for job in range(jobs):
        operation = following[job]
        if operation == first[job + 1]:
            continue
        if way == NONDELAY and begins[job] > soonest:
            continue
        end = begins[job] + duration[operation]
        # What takes no time begins at that end, and is not before it.
        late = begins[job] >= first_end and end > first_end
        if way == ACTIVE and (machine[operation] != busy or late):
            continue
        key = float(job_ready[job]) if by_arrival else priority[operation]
        if key < lowest:
            chosen, lowest = job, key
    return chosen


@kernel
def _insert(busy_from, busy_to, count, ready, duration):
    """Put it into the first gap that is long enough; when it begins there."""
    place, begin = count, ready
    for k in range(count):
        begin = ready if k == 0 else max(ready, busy_to[k - 1])
        if begin + duration <= busy_from[k]:
            place = k
            break
    else:
        begin = ready if count == 0 else max(ready, busy_to[count - 1])
    for k in range(count, place, -1):
        busy_from[k], busy_to[k] = busy_from[k - 1], busy_to[k - 1]
    busy_from[place], busy_to[place] = begin, begin + duration
    return begin
