"""The shifting bottleneck: machine after machine gets its best order, the worst of them first.

Sources: Adams, Balas and Zawack, The shifting bottleneck procedure for job shop scheduling,
Management Science 34 (1988), the procedure SBI; Carlier, The one-machine sequencing problem, EJOR
11 (1982), for the orders. Operations of one machine may depend on each other through other machines
(Dauzere-Peres and Lasserre, IJPR 31, 1993): such an order is kept, so nothing ever waits in a
circle; that time must pass between the two counts in the search only where it changes heads and
tails.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.critical import NONE, Graph, evaluate, link, unordered
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop

ROUNDS = 3
"""Of re-optimisation after each machine but the last, as in the paper; then until nothing helps."""

NODES = 10_000
"""Of the branch and bound, after which the best order so far is taken: with 100 operations on a
machine a few searches in a thousand would take seconds or minutes, and all others far fewer."""


def shifting_bottleneck(shop: JobShop) -> Schedule:
    """The schedule of the procedure. Of machines that are equally bad, the lowest number is first.

    Raises:
        ValueError: operations have a choice of machines.
    """
    graph = unordered(shop)
    operations = [np.flatnonzero(shop.machine == machine) for machine in range(shop.machines)]
    waiting = [machine for machine in range(shop.machines) if len(operations[machine])]
    ordered: list[int] = []
    while waiting:
        solved = {machine: _best_order(graph, operations[machine]) for machine in waiting}
        bottleneck = max(waiting, key=lambda machine: solved[machine][1])
        link(graph, solved[bottleneck][0])
        waiting.remove(bottleneck)
        ordered.append(bottleneck)
        _reoptimise(graph, [operations[machine] for machine in ordered], not waiting)
    return Schedule.plain(shop, _heads(graph)[0])


def _heads(graph: Graph) -> tuple[np.ndarray, int]:
    """Heads, and the makespan."""
    head, tail, order = (np.empty_like(graph.duration) for _ in range(3))
    return head, evaluate(graph, head, tail, order)


def _reoptimise(graph: Graph, machines: list[np.ndarray], to_the_end: bool) -> None:
    """Order one machine after the other anew, given all others; the worst of a round first.

    Args:
        machines: operations of each that has an order.
        to_the_end: not only `ROUNDS` times, but until a round does not help.
    """
    rounds, before = 0, _heads(graph)[1]
    while to_the_end or rounds < ROUNDS:
        values = [_order_anew(graph, operations) for operations in machines]
        machines = [machines[k] for k in np.argsort(values, kind="stable")[::-1]]
        rounds, after = rounds + 1, _heads(graph)[1]
        if after == before:
            return
        before = after


def _order_anew(graph: Graph, operations: np.ndarray) -> int:
    """Give a machine the best order that it has, unless that makes the whole longer.

    Returns the length that the order of this machine alone would allow.
    """
    before = _heads(graph)[1]
    old = (graph.machine_before[operations], graph.machine_after[operations])
    graph.machine_before[operations] = graph.machine_after[operations] = NONE
    sequence, value = _best_order(graph, operations)
    link(graph, sequence)
    if _heads(graph)[1] > before:
        graph.machine_before[operations], graph.machine_after[operations] = old
    return value


@kernel
def _best_order(graph, operations):
    """The best order of a machine that has none yet, and the length that this machine asks for."""
    head, tail, order = (
        np.empty_like(graph.duration),
        np.empty_like(graph.duration),
        np.empty_like(graph.duration),
    )
    evaluate(graph, head, tail, order)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    # Whoever depends on another is behind it already, so that of equals the first can be taken.
    sorted_ones = operations[np.argsort(place[operations])]
    delay = _delays(graph, order, place, sorted_ones)
    sequence, value = carlier(
        head[sorted_ones], graph.duration[sorted_ones], tail[sorted_ones], delay
    )
    return sorted_ones[sequence], value


@kernel
def _delays(graph, order, place, operations):
    """int64 (n, n): so long after the start of one can another begin at the earliest, or -1."""
    n = len(operations)
    delay = np.full((n, n), -1)
    distance = np.empty(len(order), np.int64)
    for i in range(n):
        distance[:] = -1
        distance[operations[i]] = 0
        for k in range(place[operations[i]], len(order)):
            operation = order[k]
            if distance[operation] < 0:
                continue
            end = distance[operation] + graph.duration[operation]
            for after in (graph.job_after[operation], graph.machine_after[operation]):
                if after != NONE:
                    distance[after] = max(distance[after], end)
        for j in range(i + 1, n):
            delay[i, j] = distance[operations[j]]
    return delay


@kernel
def carlier(head, duration, tail, delay):
    """The best order of operations on one machine: branch and bound over Schrage's schedules.

    Args:
        head, duration, tail: int64 (n,).
        delay: int64 (n, n): j begins so long after the start of i at the earliest, or -1: whenever
            it likes; no j depends on one with a greater number. Heads and tails are so already.

    Returns:
        The order, int64 (n,), which respects who depends on whom, and a value. The order's greatest
        sum of end and tail is no greater, as long as nobody waits for delays; and where they do, no
        order has a smaller one (if fewer than `NODES` were searched).
    """
    best, least = schrage(head, duration, tail)[:2]
    nodes = [(preemptive(head, duration, tail), head.copy(), tail.copy())]
    for _ in range(NODES):
        if len(nodes) == 0:
            break
        bound, heads, tails = nodes.pop()
        if bound >= least:
            continue
        sequence, value, start = schrage(heads, duration, tails)
        if value < least:
            best, least = sequence, value
        critical, last = _critical(sequence, start, duration, tails, value)
        if critical < 0 or bound >= least:
            continue
        one, others = sequence[critical], sequence[critical + 1 : last + 1]
        work = duration[others].sum()
        # Either it comes in front of all the others, or behind them all.
        longer = _in_front(one, work + tails[others].min(), duration, tails, delay)
        nodes.append((max(bound, preemptive(heads, duration, longer)), heads, longer))
        if not (delay[one][others] >= 0).any():
            later = _behind(one, heads[others].min() + work, heads, delay)
            nodes.append((max(bound, preemptive(later, duration, tails)), later, tails))
            if nodes[-1][0] > nodes[-2][0]:
                nodes[-1], nodes[-2] = nodes[-2], nodes[-1]
    return best, least


@kernel
def _behind(one, head, heads, delay):
    """Heads, where that of one is raised, and so are those of all that depend on it."""
    later = heads.copy()
    later[one] = max(heads[one], head)
    for j in range(len(heads)):
        if delay[one, j] >= 0:
            later[j] = max(later[j], later[one] + delay[one, j])
    return later


@kernel
def _in_front(one, tail, duration, tails, delay):
    """Tails, where that of one is raised, and so are those of all that it depends on."""
    longer = tails.copy()
    longer[one] = max(tails[one], tail)
    for i in range(len(tails)):
        if delay[i, one] >= 0:
            through = delay[i, one] + duration[one] + longer[one] - duration[i]
            longer[i] = max(longer[i], through)
    return longer


@kernel
def schrage(head, duration, tail):
    """Always the longest tail of what could begin: the order, its value, and the starts."""
    n = len(head)
    sequence, start = np.empty(n, np.int64), np.empty(n, np.int64)
    done = np.zeros(n, np.bool_)
    now, value = 0, 0
    for k in range(n):
        soonest = head[~done].min()
        now = max(now, soonest)
        chosen = -1
        for i in range(n):
            if not done[i] and head[i] <= now and (chosen < 0 or tail[i] > tail[chosen]):
                chosen = i
        sequence[k], start[chosen], done[chosen] = chosen, now, True
        now += duration[chosen]
        value = max(value, now + tail[chosen])
    return sequence, value, start


@kernel
def preemptive(head, duration, tail):
    """The value of the best schedule in which operations may be interrupted: no other is better."""
    left = duration.copy()
    now, value = 0, 0
    while True:
        chosen, following = -1, -1
        for i in range(len(head)):
            if left[i] == 0:
                continue
            if head[i] > now:
                following = head[i] if following < 0 else min(following, head[i])
            elif chosen < 0 or tail[i] > tail[chosen]:
                chosen = i
        if chosen < 0 and following < 0:
            return value
        if chosen < 0:
            now = following
            continue
        run = left[chosen] if following < 0 else min(left[chosen], following - now)
        now += run
        left[chosen] -= run
        if left[chosen] == 0:
            value = max(value, now + tail[chosen])


@kernel
def _critical(sequence, start, duration, tail, value):
    """Places of the operation that delays the critical ones behind it, or -1, and of the last."""
    last = len(sequence) - 1
    while start[sequence[last]] + duration[sequence[last]] + tail[sequence[last]] < value:
        last -= 1
    at = last
    while at > 0:
        before = sequence[at - 1]
        if start[before] + duration[before] < start[sequence[at]]:
            break
        at -= 1
        if tail[before] < tail[sequence[last]]:
            return at, last
    return -1, last
