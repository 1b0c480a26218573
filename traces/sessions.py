"""Conversations that re-send their history, laid out in time and hashed.

The prompt of a turn is the system prompt, every message and answer before it, and the new message.
All turns of a session are therefore prefixes of one growing text, and a block of that text has one
identity, which is all that chained prefix hashes have to say.
"""

from dataclasses import dataclass

import numpy as np

from makespan.traces.prefixes import offsets_of
from makespan.traces.workload import HASH_BLOCK_TOKENS

ANSWER_TOKEN_S = 0.05
"""Seconds a reader is taken to wait per token of an answer before thinking about it: the slower
end of the usual targets for time per output token (20 to 50 ms)."""


@dataclass(frozen=True)
class Turns:
    """Turns of conversations, each conversation's together and in order. Columns of shape (rows,).

    Attributes:
        session: int64, from 0, not decreasing, without gaps.
        user_tokens: int64, length of the new message.
        answer_tokens: int64.
    """

    session: np.ndarray
    user_tokens: np.ndarray
    answer_tokens: np.ndarray

    @property
    def sessions(self) -> int:
        """Number of conversations."""
        return int(self.session[-1]) + 1 if len(self.session) else 0

    @property
    def first_rows(self) -> np.ndarray:
        """int64 (sessions,): row of the first turn of each conversation."""
        return np.searchsorted(self.session, np.arange(self.sessions))

    def before(self, values: np.ndarray) -> np.ndarray:
        """(rows,): sum of `values` over the earlier turns of the same conversation."""
        earlier = np.cumsum(values) - values
        return earlier - earlier[self.first_rows][self.session]

    def prompts(self, system_tokens: np.ndarray) -> np.ndarray:
        """int64 (rows,): prompt length, given system prompt lengths of shape (sessions,)."""
        history = self.before(self.user_tokens + self.answer_tokens)
        return system_tokens[self.session] + history + self.user_tokens

    def arrivals(self, start_s: np.ndarray, think_s: np.ndarray) -> np.ndarray:
        """float64 (rows,): when each turn is sent.

        The next turn follows an answer after the time to read it as it is written and the think
        time. That is fixed beforehand: a slow fleet does not delay the next question (open loop).

        Args:
            start_s: (sessions,) arrival of the first turn.
            think_s: (rows,) seconds between the end of a turn's answer and the next turn.
        """
        gap = self.answer_tokens * ANSWER_TOKEN_S + think_s
        return start_s[self.session] + self.before(gap)

    def kept(self, rows: np.ndarray) -> "Turns":
        """The turns where `rows` (bool) holds; sessions are numbered afresh."""
        _, session = np.unique(self.session[rows], return_inverse=True)
        return Turns(session, self.user_tokens[rows], self.answer_tokens[rows])


@dataclass(frozen=True)
class SharedPrompts:
    """System prompts and who uses them.

    Attributes:
        tokens: int64 (prompts,): length of each system prompt.
        of_session: int64 (sessions,): system prompt of each session.
    """

    tokens: np.ndarray
    of_session: np.ndarray

    @classmethod
    def none(cls, sessions: int) -> "SharedPrompts":
        """No system prompt for anybody."""
        return cls(np.zeros(1, np.int64), np.zeros(sessions, np.int64))

    @property
    def session_tokens(self) -> np.ndarray:
        """int64 (sessions,): length of each session's system prompt."""
        return self.tokens[self.of_session]


def hash_rows(
    turns: Turns, shared: SharedPrompts, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Prefix hashes of prompt and answer of the turns `rows` (indices), in that order.

    Blocks that lie wholly inside a system prompt belong to it; all others belong to the session.

    Returns:
        (hashes, offsets), int64, as in `Workload`.
    """
    end = turns.prompts(shared.session_tokens) + turns.answer_tokens
    blocks = end // HASH_BLOCK_TOKENS
    shared_blocks = shared.tokens // HASH_BLOCK_TOKENS
    shared_base = offsets_of(shared_blocks)
    longest = np.zeros(turns.sessions, np.int64)
    np.maximum.at(longest, turns.session, blocks)
    session_base = shared_base[-1] + offsets_of(longest)[:-1]
    prompt = shared.of_session[turns.session[rows]]
    common = np.minimum(shared_blocks[prompt], blocks[rows])
    offsets = offsets_of(blocks[rows])
    # Each row is two runs of consecutive identities: the system prompt's, then the session's.
    runs = np.stack([common, blocks[rows] - common], axis=1).ravel()
    base = np.stack([shared_base[prompt], session_base[turns.session[rows]]], axis=1)
    shift = (base - offsets[:-1, None]).ravel()
    return np.arange(offsets[-1]) + np.repeat(shift, runs), offsets
