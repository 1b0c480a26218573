"""Tabu search over N7: what is inside a critical block goes to an end of it, or an end goes inside.

Source: Zhang, Li, Guan and Rao, A tabu search algorithm with a new neighborhood structure for the
job shop scheduling problem, Computers and Operations Research 34 (2007). A move is made where the
condition of Balas and Vazacopoulos (Guided local search with shifting bottleneck for job shop
scheduling, Management Science 44, 1998) holds, and is judged by their estimate. Compiled as a
whole, it makes some seven times the moves of `makespan.baselines.jobshop.tabu` in the same time.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.critical import NONE, find_heads, find_tails, trace

FAR = np.iinfo(np.int64).max

TENURE, SPREAD = 10, 0.4
"""A pair is tabu for `TENURE` moves and as many as there are jobs per machine, and for up to that
share more (Zhang et al.)."""


@kernel
def search(graph, steps, rng, best):
    """Search from the order of `graph`, which is changed, for so many moves.

    Two operations whose order a move has turned round may not get it back for a while, unless the
    schedule may be the shortest so far. Where every move is tabu a random one is made.

    Args:
        rng: of the choice between critical paths, and of how long a pair is tabu.
        best: int64 (operations,): filled with the starts of the shortest schedule.

    Returns:
        Its makespan, and how many moves were made: fewer if there were none.
    """
    operations = len(best)
    head, tail, order = np.empty_like(best), np.empty_like(best), np.empty_like(best)
    path, line, starts = np.empty_like(best), np.empty_like(best), np.empty_like(best)
    moves, chances = np.empty((4 * operations, 3), np.int64), np.empty(operations + 1)
    until = np.zeros((operations, operations), np.int32)
    tenure = _tenure(graph)
    makespan = find_heads(graph, head, order)
    shortest = makespan
    best[:] = head
    for step in range(steps):
        find_tails(graph, tail, order)
        for k in range(operations + 1):
            chances[k] = rng.random()
        length = trace(graph, head, makespan, chances, path)
        count = n7(graph, head, tail, path[:length], moves)
        if count == 0:
            return shortest, step
        chosen, least = int(rng.random() * count), FAR
        for k in range(count):
            size = _line(graph, moves[k], line)
            makes = _estimate(graph, head, tail, line[:size], moves[k, 2], starts)
            if makes < least and (
                makes < shortest or not _tabu(until, moves[k], line[:size], step)
            ):
                chosen, least = k, makes
        move = moves[chosen]
        size = _line(graph, move, line)
        last = step + 1 + int(tenure * (1 + SPREAD * rng.random()))
        _forbid(until, move, line[:size], last)
        before, after = _around(graph, line[:size], move[2])
        _put(graph, line[:size], before, after)
        makespan = find_heads(graph, head, order)
        if makespan < 0:  # operations that take no time waited for each other
            _turn_back(line[:size], move[2])
            _put(graph, line[:size], before, after)
            makespan = find_heads(graph, head, order)
        if makespan < shortest:
            shortest = makespan
            best[:] = head
    return shortest, steps


@kernel
def _tenure(graph):
    jobs, machines = 0, 0
    for operation in range(len(graph.duration)):
        jobs += graph.job_before[operation] == NONE
        machines += graph.machine_before[operation] == NONE
    return TENURE + jobs / machines


@kernel
def n7(graph, head, tail, path, moves):
    """Write the moves on a critical path: an operation, the one it goes next to, and 1 for behind
    it, 0 for in front of it; their number.

    As with N5, of the first block nothing goes to its beginning, and of the last to its end.
    """
    count, begin = 0, 0
    for end in range(len(path)):
        last = end + 1 == len(path)
        if not last and graph.machine_after[path[end]] == path[end + 1]:
            continue
        first = begin == 0 and head[path[0]] == 0
        for k in range(begin, end):
            if not last:
                count = _add(graph, head, tail, path[k], path[end], 1, moves, count)
            if not first and (last or end > begin + 1):
                count = _add(graph, head, tail, path[k + 1], path[begin], 0, moves, count)
            if k > begin and not last:
                count = _add(graph, head, tail, path[end], path[k], 0, moves, count)
            if k > begin and not first:
                count = _add(graph, head, tail, path[begin], path[k], 1, moves, count)
        begin = end + 1
    return count


@kernel
def _add(graph, head, tail, moved, target, behind, moves, count):
    """Write a move if no operation waits for itself then; how many there are."""
    duration = graph.duration
    if behind:
        after = graph.job_after[moved]
        if after != NONE and duration[target] + tail[target] < duration[after] + tail[after]:
            return count
    else:
        before = graph.job_before[moved]
        if before != NONE and head[target] + duration[target] < head[before] + duration[before]:
            return count
    moves[count, 0], moves[count, 1], moves[count, 2] = moved, target, behind
    return count + 1


@kernel
def _line(graph, move, line):
    """Write the operations whose places a move changes, in the order that it gives them."""
    moved, target, behind = move
    size = 0
    if behind:
        operation = moved
        while operation != target:
            operation = graph.machine_after[operation]
            line[size] = operation
            size += 1
        line[size] = moved
        return size + 1
    line[0], size, operation = moved, 1, target
    while operation != moved:
        line[size] = operation
        size += 1
        operation = graph.machine_after[operation]
    return size


@kernel
def _estimate(graph, head, tail, line, behind, starts):
    """How long the longest path through any of these is in the order of `line`."""
    duration = graph.duration
    before, after = _around(graph, line, behind)
    end = 0 if before == NONE else head[before] + duration[before]
    for k in range(len(line)):
        operation = line[k]
        in_job = graph.job_before[operation]
        starts[k] = max(graph.release[operation], end)
        if in_job != NONE:
            starts[k] = max(starts[k], head[in_job] + duration[in_job])
        end = starts[k] + duration[operation]
    rest = 0 if after == NONE else duration[after] + tail[after]
    longest = 0
    for k in range(len(line) - 1, -1, -1):
        operation = line[k]
        in_job = graph.job_after[operation]
        if in_job != NONE:
            rest = max(rest, duration[in_job] + tail[in_job])
        rest += duration[operation]
        longest = max(longest, starts[k] + rest)
    return longest


@kernel
def _around(graph, line, behind):
    """What is in front of and behind these on their machine; the move is not made yet."""
    if behind:
        return graph.machine_before[line[-1]], graph.machine_after[line[-2]]
    return graph.machine_before[line[1]], graph.machine_after[line[0]]


@kernel
def _put(graph, line, before, after):
    """Let these have the order of `line`, between those two."""
    for k in range(len(line)):
        graph.machine_before[line[k]] = before
        if before != NONE:
            graph.machine_after[before] = line[k]
        before = line[k]
    graph.machine_after[before] = after
    if after != NONE:
        graph.machine_before[after] = before


@kernel
def _turn_back(line, behind):
    """The order before the move."""
    if behind:
        moved = line[-1]
        for k in range(len(line) - 1, 0, -1):
            line[k] = line[k - 1]
        line[0] = moved
    else:
        moved = line[0]
        for k in range(len(line) - 1):
            line[k] = line[k + 1]
        line[len(line) - 1] = moved


@kernel
def _tabu(until, move, line, step):
    """Whether two of them would get back an order that may not be."""
    moved = move[0]
    for other in line:
        if other != moved:
            forbidden = until[other, moved] if move[2] else until[moved, other]
            if forbidden > step:
                return True
    return False


@kernel
def _forbid(until, move, line, last):
    """The order that the move ends may not be again before the step `last`."""
    moved = move[0]
    for other in line:
        if other != moved:
            if move[2]:
                until[moved, other] = last
            else:
                until[other, moved] = last
