"""What describes a choice, in numbers that do not depend on the size of a shop or its unit of time.

One row per candidate. The environment shows these rows, and a network that schedules reads them, so
they are compiled code over the same `State`.
"""

from typing import NamedTuple

import numpy as np

from makespan.envs.core.compiled import inlined_kernel, kernel
from makespan.envs.jobshop.core import LATE, Columns, columns
from makespan.traces.jobshop.instance import JobShop

VERSION = 1
"""Goes up when a trained network would see something else."""

OPERATION_FEATURES = ("duration", "head", "tail", "machine_load", "place", "share_before")
"""Of an operation, whatever the schedule: duration, by the mean; work of the job before it and
after it, and its machine's load, by the lower bound on the makespan; shares of the job's operations
and of its work that come before."""

MACHINE_FEATURES = ("load", "relative_load", "jobs_per_machine")
"""Of a machine: its load by the lower bound, and by the mean load; log of jobs per machine."""

FEATURES = (
    "duration",
    "log_duration",
    "tail",
    "tail_per_duration",
    "slack",
    "operations_after",
    "next_wait",
    "next_queue",
    "next_load",
    "next_duration",
    "has_next",
    "waited",
    "delay",
    "regret",
    "tail_lead",
    "duration_lead",
    "choices",
    "load",
    "queue",
    "arrival",
    "arrival_tail",
    "mean_load",
    "jobs_per_machine",
    "horizon",
)
"""Names of the columns, in order. Times are in mean durations m and squashed: sign(x) log(1 + |x|).
The bound is that on the makespan, given what is placed; the horizon is the bound minus now; now is
when the first candidate could begin.

duration: p / m. log_duration: log((p + 1) / (m + 1)). tail: work of the job after the operation,
per horizon. tail_per_duration: log((tail + 1) / (p + 1)). slack: how much later the job could go on
without exceeding the bound. operations_after: of the job, per machine. next_wait: how long the job
would wait for its next machine (negative: the machine for the job). next_queue: work of the jobs
that wait for that machine. next_load: what it has to do, per horizon. next_duration: p of the job's
next operation / m. has_next: 1 if there is one. waited: since the job was ready. delay: until the
operation can begin, from now, / m, not squashed. regret: how far the bound is exceeded if another
candidate goes next after this one, the worst case. tail_lead: tail, minus the longest of other
candidates. duration_lead: p, minus the shortest of others. choices: log of how many candidates.
load: what the machine has to do, per horizon. queue: work of those that wait for it. arrival: until
the first job comes that does not wait yet, 0 if none. arrival_tail: that job's tail, minus this
one's. mean_load: mean over machines of what they have to do, per horizon. jobs_per_machine: log of
unfinished jobs per machine. horizon: in units of the bound at the beginning.
"""

NOTHING = 1e-9
"""Stands for no time, where it is divided by."""


class Facts(NamedTuple):
    """What is always true of a shop.

    Attributes:
        tail: int64 (operations,): work of the job after the operation.
        mean: float64: duration of an operation.
        bound: float64: lower bound on the makespan.
    """

    tail: np.ndarray
    mean: float
    bound: float


def facts(shop: JobShop) -> tuple[Columns, Facts]:
    """A plain job shop for compiled code, with what is always true of it."""
    through = np.cumsum(shop.duration)
    last = through[shop.first_operation[1:] - 1]
    tail = last[shop.job] - through
    mean = max(float(shop.duration.mean()), NOTHING)
    return columns(shop), Facts(tail, mean, float(max(shop.lower_bound(), 1)))


def describe_shop(shop: JobShop) -> tuple[np.ndarray, np.ndarray]:
    """What describes operations and machines before anything is placed.

    Returns:
        float32 (operations, 6), by `OPERATION_FEATURES`, and (machines, 3), by `MACHINE_FEATURES`.
    """
    p = shop.duration.astype(np.float64)
    job, first = shop.job, shop.first_operation[:-1]
    started = np.cumsum(p) - p
    before = started - started[first][job]
    work = np.add.reduceat(p, first)[job]
    load = np.bincount(shop.machine, p, shop.machines)
    bound, mean = max(shop.lower_bound(), 1), max(p.mean(), NOTHING)
    place = (np.arange(shop.operations) - first[job]) / np.diff(shop.first_operation)[job]
    share = before / np.maximum(work, NOTHING)
    columns = [p / mean, before / bound, (work - before - p) / bound]
    columns += [load[shop.machine] / bound, place, share]
    jobs = np.full(shop.machines, np.log(shop.jobs / shop.machines))
    machines = [load / bound, load / max(load.mean(), NOTHING), jobs]
    return np.stack(columns, 1).astype(np.float32), np.stack(machines, 1).astype(np.float32)


@inlined_kernel
def squash(x):
    """log(1 + |x|), with the sign of x."""
    return np.log1p(x) if x >= 0 else -np.log1p(-x)


@kernel
def describe(shop, facts, state, count, queue, rows):
    """Fill `rows` float32 (count, features) for the candidates of a state; the lower bound.

    Args:
        queue: int64 (machines,), to work in.
    """
    now, mean = state.moment[0], facts.mean
    bound = lower_bound(shop, facts, state)
    unfinished = _survey(shop, state, now, queue)
    horizon = max(float(bound - now), 1.0)
    mean_load = state.work.sum() / shop.machines / horizon
    one = state.candidates[0]
    on = shop.machine[state.following[one]]
    arrival, arrival_tail = _next_arrival(shop, facts, state, on, now)
    for k in range(count):
        job, row = state.candidates[k], rows[k]
        operation = state.following[job]
        on = shop.machine[operation]
        p, tail = shop.duration[operation], facts.tail[operation]
        end = state.begins[job] + p
        row[0] = p / mean
        row[1] = np.log((p + 1) / (mean + 1))
        row[2] = tail / horizon
        row[3] = np.log((tail + 1) / (p + 1))
        row[4] = squash((bound - end - tail) / mean)
        after = shop.first[job + 1] - operation - 1
        row[5] = after / shop.machines
        row[6:11] = 0.0
        if after > 0:
            then = shop.machine[operation + 1]
            row[6] = squash((state.machine_ready[then] - end) / mean)
            row[7] = squash(queue[then] / mean)
            row[8] = state.work[then] / horizon
            row[9] = shop.duration[operation + 1] / mean
            row[10] = 1.0
        row[11] = squash((now - state.job_ready[job]) / mean)
        row[12] = (state.begins[job] - now) / mean
        regret, longest, shortest = _others(shop, facts, state, count, k, end)
        row[13] = squash((regret - bound) / mean)
        row[14] = squash((tail - longest) / mean)
        row[15] = squash((p - shortest) / mean)
        row[16] = np.log(count)
        row[17] = state.work[on] / horizon
        row[18] = squash(queue[on] / mean)
        row[19] = squash(arrival / mean)
        row[20] = squash((arrival_tail - tail) / mean) if arrival > 0 else 0.0
        row[21] = mean_load
        row[22] = np.log(unfinished / shop.machines)
        row[23] = horizon / facts.bound
    return bound


@inlined_kernel
def lower_bound(shop, facts, state):
    """No schedule that goes on from here ends earlier: the longest job, or the busiest machine.

    Where gaps are filled, what comes may begin before `begins`, and a machine's idle time counts
    for nothing.
    """
    gaps = state.busy_from.shape[1] > 0
    bound = 0
    for job in range(len(state.following)):
        operation = state.following[job]
        end = state.job_ready[job]
        if operation < shop.first[job + 1]:
            begin = end if gaps else state.begins[job]
            end = begin + shop.duration[operation] + facts.tail[operation]
        bound = max(bound, end)
    for machine in range(shop.machines):
        ready = state.machine_ready[machine]
        if gaps:
            ready = 0
            for k in range(state.busy[machine]):
                ready += state.busy_to[machine, k] - state.busy_from[machine, k]
        bound = max(bound, ready + state.work[machine])
    return bound


@inlined_kernel
def _survey(shop, state, now, queue):
    """How many jobs are unfinished; fills `queue` with the work that waits for each machine."""
    unfinished = 0
    queue[:] = 0
    for job in range(len(state.following)):
        operation = state.following[job]
        if operation < shop.first[job + 1]:
            unfinished += 1
            if state.job_ready[job] <= now:
                queue[shop.machine[operation]] += shop.duration[operation]
    return unfinished


@inlined_kernel
def _next_arrival(shop, facts, state, machine, now):
    """When the first job comes whose next operation is on the machine, from now, and its tail."""
    soonest, tail = 0, 0
    for job in range(len(state.following)):
        operation = state.following[job]
        if operation == shop.first[job + 1] or shop.machine[operation] != machine:
            continue
        comes = state.job_ready[job] - now
        if comes > 0 and (soonest == 0 or comes < soonest):
            soonest, tail = comes, facts.tail[operation]
    return soonest, tail


@inlined_kernel
def _others(shop, facts, state, count, chosen, end):
    """Of the other candidates: the latest end of a job if it goes on at `end` or after; the longest
    tail, and the shortest duration."""
    latest, longest, shortest = 0, 0, LATE
    for k in range(count):
        if k == chosen:
            continue
        job = state.candidates[k]
        operation = state.following[job]
        p, tail = shop.duration[operation], facts.tail[operation]
        latest = max(latest, max(end, state.begins[job]) + p + tail)
        longest = max(longest, tail)
        shortest = min(shortest, p)
    return latest, longest, shortest
