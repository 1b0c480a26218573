"""What follows from the order of the operations on each machine: starts, critical paths, moves.

An order for every machine is a complete selection of the disjunctive graph (Roy and Sussmann 1964):
its nodes are the operations, its arcs lead from each to the next of its job and to the next on its
machine. Longest paths in it say when everything can begin. `Selection` is that graph and its
longest paths; the functions below it are the same for those who change one selection many times.

The moves are those of Nowicki and Smutnicki, A fast taboo search algorithm for the job shop
problem, Management Science 42 (1996), called N5: of one critical path, cut into blocks
of operations that follow each other on one machine, the first two or the last two operations of a
block change places; of the first block only the last two, and of the last block only the first two.
Nothing else inside of a block can make the schedule shorter. Without any such move the path is one
job, or what one machine does from 0 on, and no schedule is shorter; that is so for jobs that visit
no machine twice and operations that take time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop

NONE = -1
"""Stands for no operation."""


class Graph(NamedTuple):
    """A plain job shop and an order for each machine; complete or not.

    All are int64 (operations,). The last two, which say the order, are changed in place; an
    operation that is not in the order of its machine has `NONE` in both.

    Attributes:
        duration: of each operation.
        release: before which it cannot begin: that of the job for its first operation, else 0.
        job_before, job_after: the one before and after it in its job, or `NONE`.
        machine_before, machine_after: the same on its machine.
    """

    duration: np.ndarray
    release: np.ndarray
    job_before: np.ndarray
    job_after: np.ndarray
    machine_before: np.ndarray
    machine_after: np.ndarray


def unordered(shop: JobShop) -> Graph:
    """The graph of a shop in which no machine has an order yet.

    Raises:
        ValueError: operations have a choice of machines.
    """
    if shop.is_flexible:
        raise ValueError("an order needs a job shop without a choice of machines")
    numbers = np.arange(shop.operations)
    first, last = shop.first_operation[:-1], shop.first_operation[1:] - 1
    release = np.zeros(shop.operations, np.int64)
    release[first] = shop.release
    before, after = numbers - 1, numbers + 1
    before[first], after[last] = NONE, NONE
    nothing = np.full(shop.operations, NONE)
    return Graph(shop.duration.copy(), release, before, after, nothing.copy(), nothing.copy())


@dataclass(frozen=True)
class Selection:
    """An order of the operations on every machine, and what follows from it.

    Attributes:
        shop: that is scheduled.
        graph: with that order; not to be changed.
        head: int64 (operations,): the earliest start.
        tail: int64 (operations,): at least so much time passes between the end of the operation and
            the end of the schedule.
        makespan: when the last operation ends.
    """

    shop: JobShop
    graph: Graph
    head: np.ndarray
    tail: np.ndarray
    makespan: int

    @classmethod
    def of(cls, shop: JobShop, sequences: Iterable[Sequence[int] | np.ndarray]) -> Self:
        """Of the operations of each machine in their order.

        Raises:
            ValueError: there are choices of machines, a sequence is not of the machine's
                operations, or operations wait for each other.
        """
        graph = unordered(shop)
        orders = [np.asarray(sequence, np.int64) for sequence in sequences]
        if len(orders) != shop.machines:
            raise ValueError(f"needs a sequence for each of {shop.machines} machines")
        for machine, order in enumerate(orders):
            if not np.array_equal(np.sort(order), np.flatnonzero(shop.machine == machine)):
                raise ValueError(f"the sequence of machine {machine} is not of its operations")
            link(graph, order)
        return cls._evaluated(shop, graph)

    @classmethod
    def of_schedule(cls, schedule: Schedule) -> Self:
        """In the order of a valid schedule.

        Everything then begins as early as the order permits. What takes no time may lie within
        another operation, where no order has it: it goes behind that one.

        Raises:
            ValueError: operations have a choice of machines.
        """
        shop, numbers = schedule.shop, np.arange(schedule.shop.operations)
        graph = unordered(shop)
        order = np.lexsort((numbers, schedule.end, schedule.start))
        for machine in range(shop.machines):
            link(graph, order[shop.machine[order] == machine])
        return cls._evaluated(shop, graph)

    @classmethod
    def _evaluated(cls, shop: JobShop, graph: Graph) -> Self:
        head, tail, order = (np.empty(shop.operations, np.int64) for _ in range(3))
        makespan = evaluate(graph, head, tail, order)
        if makespan < 0:
            raise ValueError("operations wait for each other")
        return cls(shop, graph, head, tail, makespan)

    @property
    def schedule(self) -> Schedule:
        """In which everything begins as early as the order permits."""
        return Schedule.plain(self.shop, self.head.copy())

    @cached_property
    def sequences(self) -> list[list[int]]:
        """Of every machine, its operations in their order."""
        found = []
        for machine in range(self.shop.machines):
            operations = np.flatnonzero(self.shop.machine == machine)
            begin = operations[self.graph.machine_before[operations] == NONE]
            sequence = begin.tolist()
            while sequence and (after := int(self.graph.machine_after[sequence[-1]])) != NONE:
                sequence.append(after)
            found.append(sequence)
        return found

    def critical_path(self, rng: np.random.Generator) -> np.ndarray:
        """int64 (length,): operations of one longest path in order; of several, a random one."""
        path = np.empty(self.shop.operations, np.int64)
        chances = rng.random(self.shop.operations + 1)
        return path[: trace(self.graph, self.head, self.makespan, chances, path)]

    def blocks(self, path: np.ndarray) -> list[np.ndarray]:
        """A critical path, cut where it goes on to another machine."""
        return np.split(path, 1 + np.flatnonzero(self.graph.machine_after[path[:-1]] != path[1:]))

    def moves(self, path: np.ndarray) -> np.ndarray:
        """int64 (moves, 2): the pairs that N5 has on this critical path, along it."""
        moves = np.empty((len(path), 2), np.int64)
        return moves[: n5(self.graph, self.head, path, moves)]

    def swapped(self, first: int, second: int) -> Self:
        """Another selection, in which `second` is in front of `first`, which is in front of it.

        Raises:
            ValueError: these do not follow each other on a machine, or wait for each other then.
        """
        if self.graph.machine_after[first] != second:
            raise ValueError(f"operation {second} does not follow {first} on a machine")
        graph = self.graph._replace(
            machine_before=self.graph.machine_before.copy(),
            machine_after=self.graph.machine_after.copy(),
        )
        swap(graph, first, second)
        return self._evaluated(self.shop, graph)


@kernel
def link(graph, sequence):
    """Let a machine have this order."""
    for k in range(len(sequence)):
        graph.machine_before[sequence[k]] = sequence[k - 1] if k > 0 else NONE
        graph.machine_after[sequence[k]] = sequence[k + 1] if k + 1 < len(sequence) else NONE


@kernel
def swap(graph, first, second):
    """Let `second`, which follows `first` on its machine, be in front of it."""
    before, after = graph.machine_before[first], graph.machine_after[second]
    if before != NONE:
        graph.machine_after[before] = second
    if after != NONE:
        graph.machine_before[after] = first
    graph.machine_before[second], graph.machine_after[second] = before, first
    graph.machine_before[first], graph.machine_after[first] = second, after


@kernel
def find_heads(graph, head, order):
    """Fill `head`, and `order` with the operations, such that none waits for a later one.

    Returns the makespan, or -1 if operations wait for each other.
    """
    operations = len(head)
    waits = np.zeros(operations, np.int8)
    found = 0
    for operation in range(operations):
        waits[operation] += graph.job_before[operation] != NONE
        waits[operation] += graph.machine_before[operation] != NONE
        head[operation] = graph.release[operation]
        if waits[operation] == 0:
            order[found] = operation
            found += 1
    done, makespan = 0, 0
    while done < found:
        operation = order[done]
        done += 1
        end = head[operation] + graph.duration[operation]
        makespan = max(makespan, end)
        for after in (graph.job_after[operation], graph.machine_after[operation]):
            if after != NONE:
                head[after] = max(head[after], end)
                waits[after] -= 1
                if waits[after] == 0:
                    order[found] = after
                    found += 1
    return makespan if found == operations else -1


@kernel
def find_tails(graph, tail, order):
    """Fill `tail`, given the `order` of `find_heads`."""
    for k in range(len(order) - 1, -1, -1):
        operation = order[k]
        tail[operation] = 0
        for after in (graph.job_after[operation], graph.machine_after[operation]):
            if after != NONE:
                tail[operation] = max(tail[operation], graph.duration[after] + tail[after])


@kernel
def evaluate(graph, head, tail, order):
    """Fill `head`, `tail` and `order`; the makespan, or -1 if operations wait for each other."""
    makespan = find_heads(graph, head, order)
    if makespan >= 0:
        find_tails(graph, tail, order)
    return makespan


@kernel
def trace(graph, head, makespan, chances, path):
    """Write a critical path to `path`; its length.

    Args:
        chances: float64 (operations + 1,), from 0 to 1, that choose where several ways lead on.
    """
    operations = len(head)
    operation = _last_one(graph, head, makespan, chances[operations])
    length = 0
    while operation != NONE:
        path[length] = operation
        in_job, on_machine = graph.job_before[operation], graph.machine_before[operation]
        if in_job != NONE and head[in_job] + graph.duration[in_job] < head[operation]:
            in_job = NONE
        if on_machine != NONE and head[on_machine] + graph.duration[on_machine] < head[operation]:
            on_machine = NONE
        if in_job == NONE or (on_machine != NONE and chances[length] < 0.5):
            operation = on_machine
        else:
            operation = in_job
        length += 1
    for k in range(length // 2):  # from the start on
        path[k], path[length - 1 - k] = path[length - 1 - k], path[k]
    return length


@kernel
def _last_one(graph, head, makespan, chance):
    """One of those that end with the schedule."""
    ends = 0
    for operation in range(len(head)):
        ends += head[operation] + graph.duration[operation] == makespan
    place = int(chance * ends)
    for operation in range(len(head)):
        if head[operation] + graph.duration[operation] == makespan:
            if place == 0:
                return operation
            place -= 1
    return NONE


@kernel
def n5(graph, head, path, moves):
    """Write the pairs of N5 on a critical path to `moves`; their number.

    The first two of the first block are left out because the path begins at 0; where it begins with
    the release of a job, another order there can help, and they are not.
    """
    count, begin = 0, 0
    for k in range(len(path)):
        last = k + 1 == len(path)
        if not last and graph.machine_after[path[k]] == path[k + 1]:
            continue
        if k > begin:
            at_start = begin == 0 and head[path[0]] == 0
            if not at_start and _can_swap(graph, path[begin], path[begin + 1]):
                moves[count, 0], moves[count, 1] = path[begin], path[begin + 1]
                count += 1
            same = k == begin + 1 and not at_start
            if not last and not same and _can_swap(graph, path[k - 1], path[k]):
                moves[count, 0], moves[count, 1] = path[k - 1], path[k]
                count += 1
        begin = k + 1
    return count


@kernel
def _can_swap(graph, first, second):
    """Whether two that follow each other on a critical path can change places.

    They cannot if a second path leads from one to the other, through jobs. Being no longer than the
    first one, it could only have operations that take no time; where it might, the answer is no.
    """
    after, before = graph.job_after[first], graph.job_before[second]
    if after == second:
        return False
    if after == NONE or before == NONE:
        return True
    return graph.duration[after] > 0 or graph.duration[before] > 0


@kernel
def makespans_of(graph, moves, head, order, makespans):
    """Fill `makespans` with those of the schedules after each of the moves.

    `head` and `order` are overwritten; `graph` is afterwards what it was.
    """
    for k in range(len(moves)):
        swap(graph, moves[k, 0], moves[k, 1])
        makespans[k] = find_heads(graph, head, order)
        swap(graph, moves[k, 1], moves[k, 0])


@kernel
def estimate(graph, head, tail, first, second):
    """How long the longest path through either of two is once they have changed places.

    The makespan is no shorter then, and just that if such a path is critical (Taillard, Parallel
    taboo search techniques for the job shop scheduling problem, ORSA Journal on Computing 6, 1994).
    """
    before, after = graph.machine_before[first], graph.machine_after[second]
    second_head = max(_ready(graph, head, second), _end(graph, head, before))
    second_end = second_head + graph.duration[second]
    first_end = max(_ready(graph, head, first), second_end) + graph.duration[first]
    first_tail = max(_rest(graph, tail, graph.job_after[first]), _rest(graph, tail, after))
    second_tail = max(
        _rest(graph, tail, graph.job_after[second]), graph.duration[first] + first_tail
    )
    return max(second_end + second_tail, first_end + first_tail)


@kernel
def estimates_of(graph, head, tail, moves, estimates):
    """Fill `estimates` with that of each of the moves."""
    for k in range(len(moves)):
        estimates[k] = estimate(graph, head, tail, moves[k, 0], moves[k, 1])


@kernel
def _ready(graph, head, operation):
    """When its job is there for it."""
    return max(graph.release[operation], _end(graph, head, graph.job_before[operation]))


@kernel
def _end(graph, head, operation):
    """When an operation ends; 0 of none."""
    return 0 if operation == NONE else head[operation] + graph.duration[operation]


@kernel
def _rest(graph, tail, operation):
    """From the start of an operation to the end of the schedule; 0 of none."""
    return 0 if operation == NONE else graph.duration[operation] + tail[operation]
