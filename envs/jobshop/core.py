"""The static job shop as compiled code: what may be done next, and doing it.

Everything that makes schedules from choices stands on these few functions: rules
(`makespan.envs.jobshop.generation`), the environment, many episodes at once
(`makespan.envs.jobshop.batch`), and trained networks. A choice with one answer is made at once, so
that what is asked is worth asking.

The functions take the shop as `Columns` and what has been done so far as a `State`.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np

from makespan.envs.core.compiled import inlined_kernel, kernel
from makespan.traces.jobshop.instance import JobShop

Way = Literal["nondelay", "active", "append", "insert"]
"""Ways of making a schedule: what a choice is between, and where the chosen operation is put.

`nondelay`: time goes on, and no machine waits that could work: the choice is between operations
that can begin on one machine at the earliest moment at which any can begin anywhere.

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


class Columns(NamedTuple):
    """A plain job shop as compiled code takes it; see `JobShop` for the columns."""

    machines: int
    first: np.ndarray
    machine: np.ndarray
    duration: np.ndarray
    release: np.ndarray


class State(NamedTuple):
    """A schedule in the making.

    Attributes:
        following: int64 (jobs,): the next operation of each job; that of the next job if none.
        job_ready: int64 (jobs,): when what is placed of the job ends.
        machine_ready: int64 (machines,): the same of the machine.
        work: int64 (machines,): what each machine has to do that is not placed.
        start: int64 (operations,): of those that are placed.
        begins: int64 (jobs,): when the next operation could begin, for the way `insert` behind what
            its machine has (a gap may be earlier); `LATE` if there is none.
        candidates: int64 (jobs,): the jobs that the choice is between, ascending, come first.
        moment: int64 (2,): the earliest start of a candidate, and the machine that is asked about;
            -1 if it is about several.
        busy_from, busy_to: int64 (machines, operations): what each machine does, in order of time;
            no columns but for the way `insert`.
        busy: int64 (machines,): how many these are.
    """

    following: np.ndarray
    job_ready: np.ndarray
    machine_ready: np.ndarray
    work: np.ndarray
    start: np.ndarray
    begins: np.ndarray
    candidates: np.ndarray
    moment: np.ndarray
    busy_from: np.ndarray
    busy_to: np.ndarray
    busy: np.ndarray


def columns(shop: JobShop) -> Columns:
    """The columns of a shop.

    Raises:
        ValueError: operations have a choice of machines.
    """
    if shop.is_flexible:
        raise ValueError("only job shops without a choice of machines are dispatched by priority")
    return Columns(shop.machines, shop.first_operation, shop.machine, shop.duration, shop.release)


def way_number(way: str) -> int:
    """What compiled code calls a way.

    Raises:
        ValueError: there is no such way.
    """
    if way not in WAYS:
        raise ValueError(f"a schedule is made by {', '.join(WAYS)}, not by {way!r}")
    return WAYS.index(way)


@kernel
def begin(shop, way):
    """The `State` in which nothing has been placed."""
    jobs, operations = len(shop.first) - 1, len(shop.machine)
    width = operations if way == INSERT else 0
    state = State(
        np.empty(jobs, np.int64),
        np.empty(jobs, np.int64),
        np.empty(shop.machines, np.int64),
        np.empty(shop.machines, np.int64),
        np.zeros(operations, np.int64),
        np.empty(jobs, np.int64),
        np.empty(jobs, np.int64),
        np.zeros(2, np.int64),
        np.empty((shop.machines, width), np.int64),
        np.empty((shop.machines, width), np.int64),
        np.empty(shop.machines, np.int64),
    )
    restart(shop, state)
    return state


@kernel
def restart(shop, state):
    """Undo everything."""
    state.following[:] = shop.first[:-1]
    state.job_ready[:] = shop.release
    state.machine_ready[:] = 0
    state.busy[:] = 0
    state.work[:] = 0
    for operation in range(len(shop.machine)):
        state.work[shop.machine[operation]] += shop.duration[operation]


@inlined_kernel
def advance(shop, state, way):
    """Place what needs no choice; how many jobs the next choice is between, 0 at the end."""
    while True:
        count = _find_candidates(shop, state, way)
        if count != 1:
            return count
        place(shop, state, state.candidates[0], way)


@inlined_kernel
def place(shop, state, job, way):
    """Place the next operation of a job, which is a candidate."""
    operation = state.following[job]
    on = shop.machine[operation]
    start = state.begins[job]
    if way == INSERT:
        start = _insert(
            state.busy_from[on],
            state.busy_to[on],
            state.busy[on],
            state.job_ready[job],
            shop.duration[operation],
        )
        state.busy[on] += 1
    end = start + shop.duration[operation]
    state.start[operation] = start
    state.job_ready[job] = end
    state.machine_ready[on] = max(state.machine_ready[on], end)
    state.work[on] -= shop.duration[operation]
    state.following[job] += 1


@inlined_kernel
def makespan_of(state):
    """When the last of what is placed ends."""
    return state.job_ready.max()


@inlined_kernel
def _find_candidates(shop, state, way):
    """Fill `begins`, `candidates` and `moment`; how many candidates there are."""
    jobs = len(state.following)
    soonest, first_end = LATE, LATE
    machine = -1
    for job in range(jobs):
        operation = state.following[job]
        state.begins[job] = LATE
        if operation == shop.first[job + 1]:
            continue
        on = shop.machine[operation]
        begin = max(state.job_ready[job], state.machine_ready[on])
        state.begins[job] = begin
        if way == ACTIVE:
            end = begin + shop.duration[operation]
            if end < first_end:
                first_end, machine = end, on
        elif way == NONDELAY and begin < soonest:
            machine = on
        soonest = min(soonest, begin)
    count = 0
    if way == ACTIVE:
        soonest = LATE
    for job in range(jobs):
        begin = state.begins[job]
        if begin == LATE:
            continue
        operation = state.following[job]
        if way == NONDELAY and (begin > soonest or shop.machine[operation] != machine):
            continue
        if way == ACTIVE:
            # What takes no time begins at that end, and is not before it.
            late = begin >= first_end and begin + shop.duration[operation] > first_end
            if late or shop.machine[operation] != machine:
                continue
        state.candidates[count] = job
        count += 1
        soonest = min(soonest, begin)
    state.moment[0], state.moment[1] = soonest, machine
    return count


@inlined_kernel
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
