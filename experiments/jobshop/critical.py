"""The critical path of a schedule: why it is no shorter."""

from collections import defaultdict
from itertools import pairwise

import numpy as np

from makespan.envs.jobshop.schedule import Schedule


def critical_path(schedule: Schedule) -> np.ndarray:
    """int64: a chain of operations, the last of which ends the schedule.

    Each begins when the one before it ends, which is of the same job or on the same machine. Where
    there is a choice, the chain goes back as far as it can: to the beginning, unless the schedule
    has time to spare. Such a path of the disjunctive graph is in Pinedo, Scheduling, section 7.1.
    """
    job, machine = schedule.shop.job.tolist(), schedule.machine.tolist()
    start, end = schedule.start.tolist(), schedule.end.tolist()
    since, before = list(start), [-1] * len(start)  # where the longest chain to each began
    ended: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    # What takes no time comes before what begins when it ends.
    for operation in np.lexsort((schedule.end, schedule.start)).tolist():
        begin = start[operation]
        joints = ("job", job[operation], begin), ("machine", machine[operation], begin)
        for other in (other for joint in joints for other in ended[joint]):
            if before[operation] < 0 or since[other] < since[operation]:
                since[operation], before[operation] = since[other], other
        ended["job", job[operation], end[operation]].append(operation)
        ended["machine", machine[operation], end[operation]].append(operation)
    last = [o for o in range(len(end)) if end[o] == schedule.makespan]
    path = [min(last, key=since.__getitem__)]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return np.array(path[::-1], np.int64)


def blocks(schedule: Schedule, path: np.ndarray) -> list[tuple[int, int]]:
    """First and last place in the path of every block: operations in a row on one machine."""
    machine = schedule.machine[path]
    change = np.flatnonzero(np.diff(machine)) + 1
    bounds = [0, *change.tolist(), len(path)]
    return [(first, last - 1) for first, last in pairwise(bounds)]
