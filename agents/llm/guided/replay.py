"""The transitions that the network learns from."""

import numpy as np

from makespan.agents.llm.guided.state import size


def transition(replicas: int) -> np.dtype:
    """One transition between two decisions about a fleet of `replicas`."""
    return np.dtype(
        [
            ("state", np.float32, size(replicas)),
            ("action", np.int64),
            ("reward", np.float32),
            ("guidance", np.float32),  # h(s, a), which the weight of the episode is still to meet
            ("next_state", np.float32, size(replicas)),
            ("next_mask", np.bool_, replicas + 1),
            ("steps", np.float32),  # of 0.02 s between the two
        ]
    )


class Replay:
    """The last transitions, up to a limit.

    Args:
        dtype: of a transition.
        limit: after which the oldest is forgotten.
    """

    def __init__(self, dtype: np.dtype, limit: int) -> None:
        self._rows = np.zeros(limit, dtype)
        self._seen = 0

    def __len__(self) -> int:
        return min(self._seen, len(self._rows))

    def add(self, *row: object) -> None:
        """Remember a transition, its fields in order."""
        self._rows[self._seen % len(self._rows)] = row
        self._seen += 1

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` of them at random, with replacement."""
        return self._rows[rng.integers(len(self), size=count)]
