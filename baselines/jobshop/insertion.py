"""INSA: every operation, the longest first, is inserted where the path through it stays shortest.

Source: Nowicki and Smutnicki, A fast taboo search algorithm for the job shop problem, Management
Science 42 (1996), after Werner and Winkler, Insertion techniques for the heuristic
solution of the job shop problem, Discrete Applied Mathematics 58 (1995).
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.critical import NONE, find_heads, find_tails, unordered
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop


def insa(shop: JobShop) -> Schedule:
    """The schedule that insertion makes.

    The job with the most work comes first, as a whole, and then the operations of all others by
    falling duration; of equals, the lowest number. The jobs' own order counts from the beginning
    on, also for what is not inserted yet. Of equally good places an operation gets the earliest.

    Raises:
        ValueError: operations have a choice of machines.
    """
    graph = unordered(shop)
    work = np.add.reduceat(shop.duration, shop.first_operation[:-1])
    others = shop.job != work.argmax()
    turn = np.lexsort((np.where(others, -shop.duration, 0), others))
    head = np.empty(shop.operations, np.int64)
    _insert_all(graph, shop.machine, shop.machines, turn, head)
    return Schedule.plain(shop, head)


@kernel
def _insert_all(graph, machine, machines, turn, head):
    """Insert the operations in the order of `turn`, and fill `head`."""
    tail, order = np.empty_like(head), np.empty_like(head)
    first = np.full(machines, NONE)  # on each machine
    find_heads(graph, head, order)
    for operation in turn:
        find_tails(graph, tail, order)
        on = machine[operation]
        before = _place(graph, head, tail, order, operation, first[on])
        after = first[on] if before == NONE else graph.machine_after[before]
        graph.machine_before[operation], graph.machine_after[operation] = before, after
        if before == NONE:
            first[on] = operation
        else:
            graph.machine_after[before] = operation
        if after != NONE:
            graph.machine_before[after] = operation
        find_heads(graph, head, order)


@kernel
def _place(graph, head, tail, order, operation, first):
    """The operation behind which it is best on its machine, or `NONE`: in front of all.

    It must be behind all that lead to it, and in front of all that it leads to.
    """
    leads, led = _around(graph, order, operation)
    in_job, next_in_job = graph.job_before[operation], graph.job_after[operation]
    ready = graph.release[operation]
    if in_job != NONE:
        ready = head[in_job] + graph.duration[in_job]
    after_it = 0
    if next_in_job != NONE:
        after_it = graph.duration[next_in_job] + tail[next_in_job]
    best, shortest = NONE, -1
    before, after = NONE, first
    while True:
        if after == NONE or not leads[after]:
            begin, rest = ready, after_it
            if before != NONE:
                begin = max(begin, head[before] + graph.duration[before])
            if after != NONE:
                rest = max(rest, graph.duration[after] + tail[after])
            if shortest < 0 or begin + rest < shortest:
                best, shortest = before, begin + rest
        if after == NONE or led[after]:
            return best
        before, after = after, graph.machine_after[after]


@kernel
def _around(graph, order, operation):
    """bool (operations,) twice: what leads to an operation, and what it leads to."""
    leads, led = np.zeros(len(order), np.bool_), np.zeros(len(order), np.bool_)
    leads[operation] = led[operation] = True
    for other in order:
        for before in (graph.job_before[other], graph.machine_before[other]):
            if before != NONE:
                led[other] |= led[before]
    for other in order[::-1]:
        for after in (graph.job_after[other], graph.machine_after[other]):
            if after != NONE:
                leads[other] |= leads[after]
    return leads, led
