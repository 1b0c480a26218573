"""Length tables of conversations (CSV: conversation, turn, user_tokens, assistant_tokens).

The form in which the turn lengths of ShareGPT are kept here. The table says nothing of time:
conversations start as a Poisson process and pauses are exponential.
"""

from pathlib import Path

import numpy as np

from makespan.traces.arrivals import Poisson
from makespan.traces.errors import TraceError
from makespan.traces.readers.assemble import assemble
from makespan.traces.readers.table import line_of, read_table, whole_numbers
from makespan.traces.sessions import SharedPrompts, Turns, hash_rows
from makespan.traces.workload import Workload

THINK_S = 30.0
"""Mean pause between an answer and the next message; an assumption, as no table tells it."""

COLUMNS = (
    whole_numbers("conversation", 0),
    whole_numbers("turn", 0),
    whole_numbers("user_tokens", 0),
    whole_numbers("assistant_tokens", 0),
)


def read(path: Path, rate: float, seed: int) -> Workload:
    """Lay the conversations out in time, at `rate` requests per second on the whole.

    Each prompt holds all earlier messages and answers of its conversation, and prefix hashes say
    so. The rate falls off at both ends, where conversations begin and run out.
    """
    table = read_table(path, COLUMNS)
    session = _sessions(path, table["conversation"], table["turn"])
    turns = Turns(session, table["user_tokens"], table["assistant_tokens"])
    shared = SharedPrompts.none(turns.sessions)
    arrival_s = _arrivals(turns, rate, seed)
    order = np.argsort(arrival_s, kind="stable")
    hashes, offsets = hash_rows(turns, shared, order)
    return assemble(
        path,
        arrival_s[order],
        turns.prompts(shared.session_tokens)[order],
        turns.answer_tokens[order],
        hashes=hashes,
        hash_offsets=offsets,
        session=session[order],
    )


def _arrivals(turns: Turns, rate: float, seed: int) -> np.ndarray:
    start_seed, think_seed = np.random.SeedSequence(seed).spawn(2)
    starts = Poisson(rate * turns.sessions / len(turns.session))
    pauses = np.random.default_rng(think_seed).exponential(THINK_S, len(turns.session))
    start_s = starts.times(np.random.default_rng(start_seed), turns.sessions)
    return turns.arrivals(start_s, pauses)


def _sessions(path: Path, conversation: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Conversations numbered from 0 in order of appearance, each one's rows together."""
    begins = np.concatenate([[True], conversation[1:] != conversation[:-1]])
    back = ~begins[1:] & (turn[1:] <= turn[:-1])
    if back.any():
        row = int(back.argmax()) + 1
        reason = f"expected a turn after {turn[row - 1]}, found {turn[row]}"
        raise TraceError(path, reason, line=line_of(path, row), column="turn")
    starts = np.flatnonzero(begins)
    _, first = np.unique(conversation[starts], return_index=True)
    again = np.setdiff1d(np.arange(len(starts)), first)
    if len(again):
        row = int(starts[again[0]])
        reason = f"conversation {conversation[row]} comes back; keep its turns together"
        raise TraceError(path, reason, line=line_of(path, row), column="conversation")
    return np.cumsum(begins) - 1
