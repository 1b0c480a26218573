"""Whole schedules by a trained network, compiled: thousands of choices in the time of one in torch.

The network looks at the shop once (`makespan.agents.jobshop.network`); what is left for a choice is
a small perceptron over what the look gave of each candidate and the numbers that describe it now.
"""

from typing import NamedTuple

import numpy as np

from makespan.envs.core.compiled import inlined_kernel, kernel
from makespan.envs.jobshop.core import advance, begin, makespan_of, place, restart
from makespan.envs.jobshop.features import FEATURES, describe

WIDTH = len(FEATURES)

RULE = FEATURES.index("tail_per_duration")
"""The column that the rule `tail_p` goes by."""

DELAY = FEATURES.index("delay")
"""The column that says how long a machine would wait for a job."""


class Head(NamedTuple):
    """The part of a network that makes choices, for one shop; all float32.

    Attributes:
        looked: (operations, hidden): what the look at the shop gave of each operation.
        first: (features, hidden): weights of what describes a candidate.
        second: (hidden, narrow), second_bias: (narrow,).
        last: (narrow,).
        trust: factor on the score of the rule.
        delay_cost: what a delay of a mean duration costs.
    """

    looked: np.ndarray
    first: np.ndarray
    second: np.ndarray
    second_bias: np.ndarray
    last: np.ndarray
    trust: np.float32
    delay_cost: np.float32


class Choices(NamedTuple):
    """What was chosen along some schedules, and between what; rows of all schedules in a row.

    Attributes:
        rows: float32 (candidates, features).
        operation: int64 (candidates,): each candidate's next operation.
        choice: int64 (candidates,): the choice that a candidate is part of.
        chosen: int64 (choices,): the row that was chosen.
        bound: float64 (choices,): lower bound on the makespan when the choice was due, by that at
            the beginning.
        schedule: int64 (choices,): the schedule that a choice is part of.
        schedules: how many.
    """

    rows: np.ndarray
    operation: np.ndarray
    choice: np.ndarray
    chosen: np.ndarray
    bound: np.ndarray
    schedule: np.ndarray
    schedules: int


@inlined_kernel
def score(head, operation, row, hidden, narrow):
    """Of one candidate; `hidden` and `narrow` are to work in."""
    hidden[:] = head.looked[operation]
    for f in range(len(row)):
        x, weights = row[f], head.first[f]
        for h in range(len(hidden)):
            hidden[h] += x * weights[h]
    narrow[:] = head.second_bias
    for h in range(len(hidden)):
        x = hidden[h]
        if x > 0:
            weights = head.second[h]
            for n in range(len(narrow)):
                narrow[n] += x * weights[n]
    total = head.trust * row[RULE] - head.delay_cost * row[DELAY]
    for n in range(len(narrow)):
        if narrow[n] > 0:
            total += narrow[n] * head.last[n]
    return total


@kernel
def score_rows(head, operations, rows):
    """float32 (candidates,): of the candidates of one choice."""
    hidden = np.empty(head.second.shape[0], np.float32)
    narrow = np.empty(head.second.shape[1], np.float32)
    scores = np.empty(len(operations), np.float32)
    for k in range(len(operations)):
        scores[k] = score(head, operations[k], rows[k], hidden, narrow)
    return scores


@inlined_kernel
def sample(scores, count, uniform):
    """The place of a candidate, drawn by the softmax of the scores."""
    top = scores[:count].max()
    total = 0.0
    for k in range(count):
        total += np.exp(scores[k] - top)
    left = uniform * total
    for k in range(count):
        left -= np.exp(scores[k] - top)
        if left < 0:
            return k
    return count - 1


@kernel
def roll_out(shop, facts, way, head, uniform, makespans, picks, candidates, starts):
    """Make schedules; the first is greedy if `uniform` has one row less than there are.

    Args:
        uniform: float32 (sampled, operations), of which each choice of a schedule takes one.
        makespans: int64 (schedules,), filled.
        picks: int16 (schedules, operations), filled: the places that were chosen, choice by choice;
            -1 after the last.
        candidates: int64 (schedules,), filled: how many there were over all choices.
        starts: int64 (operations,), filled with the best schedule.
    """
    state = begin(shop, way)
    jobs = len(state.following)
    rows = np.empty((jobs, WIDTH), np.float32)
    scores = np.empty(jobs, np.float32)
    hidden = np.empty(head.second.shape[0], np.float32)
    narrow = np.empty(head.second.shape[1], np.float32)
    queue = np.empty(shop.machines, np.int64)
    greedy = len(makespans) - len(uniform)
    best = -1
    for k in range(len(makespans)):
        restart(shop, state)
        made = 0
        candidates[k] = 0
        count = advance(shop, state, way)
        while count > 0:
            describe(shop, facts, state, count, queue, rows)
            for c in range(count):
                operation = state.following[state.candidates[c]]
                scores[c] = score(head, operation, rows[c], hidden, narrow)
            if k < greedy:
                pick = np.argmax(scores[:count])
            else:
                pick = sample(scores, count, uniform[k - greedy, made])
            picks[k, made] = pick
            made += 1
            candidates[k] += count
            place(shop, state, state.candidates[pick], way)
            count = advance(shop, state, way)
        picks[k, made:] = -1
        makespans[k] = makespan_of(state)
        if best < 0 or makespans[k] < makespans[best]:
            best = k
            starts[:] = state.start


@kernel
def retrace(shop, facts, way, picks, rows, operation, choice, chosen, bound):
    """Fill what the choices of one schedule were between; see `Choices`."""
    state = begin(shop, way)
    queue = np.empty(shop.machines, np.int64)
    made, filled = 0, 0
    count = advance(shop, state, way)
    while count > 0:
        bound[made] = describe(shop, facts, state, count, queue, rows[filled:]) / facts.bound
        for k in range(count):
            operation[filled + k] = state.following[state.candidates[k]]
            choice[filled + k] = made
        chosen[made] = filled + picks[made]
        place(shop, state, state.candidates[picks[made]], way)
        made += 1
        filled += count
        count = advance(shop, state, way)
    return made


def retrace_all(shop, facts, way, picks: np.ndarray, candidates: np.ndarray) -> Choices:
    """The choices of some schedules of a shop, by what `roll_out` filled for them."""
    total, counts = int(candidates.sum()), (picks >= 0).sum(1)
    rows = np.empty((total, WIDTH), np.float32)
    operation, choice = np.empty(total, np.int64), np.empty(total, np.int64)
    chosen, bound = np.empty(int(counts.sum()), np.int64), np.empty(int(counts.sum()))
    row = made = 0
    for k, count in enumerate(counts):
        end = row + candidates[k]
        part = slice(row, end)
        retrace(
            shop,
            facts,
            way,
            picks[k],
            rows[part],
            operation[part],
            choice[part],
            chosen[made:],
            bound[made:],
        )
        choice[row:end] += made
        chosen[made : made + count] += row
        row, made = end, made + count
    schedule = np.repeat(np.arange(len(picks)), counts)
    return Choices(rows, operation, choice, chosen, bound, schedule, len(picks))


@kernel
def follow(shop, way, target):
    """The schedule whose choices begin first in a given one.

    Args:
        target: int64 (operations,): when each operation begins there.

    Returns:
        Its picks, how many candidates there were, and the makespan; see `roll_out`.
    """
    state = begin(shop, way)
    picks = np.full(len(target), -1, np.int16)
    made = candidates = 0
    count = advance(shop, state, way)
    while count > 0:
        best = 0
        for k in range(count):
            mine = target[state.following[state.candidates[k]]]
            if mine < target[state.following[state.candidates[best]]]:
                best = k
        picks[made] = best
        made += 1
        candidates += count
        place(shop, state, state.candidates[best], way)
        count = advance(shop, state, way)
    return picks, candidates, makespan_of(state)


@kernel
def retrace_starts(shop, way, picks, made):
    """When each operation of a schedule begins; and bool (operations,), what was placed when so
    many choices had been made."""
    state = begin(shop, way)
    before = np.zeros(len(shop.machine), np.bool_)
    count = advance(shop, state, way)
    k = 0
    while count > 0:
        if k == made:
            for job in range(len(state.following)):
                before[shop.first[job] : state.following[job]] = True
        place(shop, state, state.candidates[picks[k]], way)
        k += 1
        count = advance(shop, state, way)
    return state.start, before
