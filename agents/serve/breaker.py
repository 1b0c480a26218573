"""A circuit breaker: whether one backend gets requests, by how its last ones ended."""

from itertools import count
from typing import Literal, NewType

State = Literal["closed", "open", "half-open"]

Trial = NewType("Trial", int)
"""A request that was sent, as the breaker knows it."""


class Breaker:
    """Stops sending to a backend that fails, and tries it again with a few requests later.

    Closed, it lets everything through, and `failures` of them in a row open it. Open, it lets
    nothing through for `open_s` seconds. Then it is half-open: at most `successes` requests at once
    are trials, that many of which must succeed to close it, and one that fails opens it again.

    Every request that is sent has a `Trial` from `begin`, which one of `succeeded`, `failed` and
    `abandoned` settles. It counts for nothing if it is settled already, if the breaker has opened
    since it began, or if the breaker did not allow it.

    Constants: circuit breaker of the vLLM project's router (github.com/vllm-project/router), which
    counts failures within 120 s where this one counts failures in a row.

    Args:
        failures: in a row, that open it.
        successes: that close it again, and how many trials may be in flight.
        open_s: seconds it stays open.

    Raises:
        ValueError: a number below 1, or `open_s` negative.
    """

    def __init__(self, failures: int = 10, successes: int = 3, open_s: float = 60.0) -> None:
        if failures < 1 or successes < 1:
            raise ValueError("failures and successes must be at least 1")
        if not open_s >= 0:
            raise ValueError(f"open_s must not be negative, got {open_s}")
        self._failures, self._successes, self._open_s = failures, successes, open_s
        self._opened_s: float | None = None  # when it opened last; None: closed
        self._streak = 0  # failures in a row when closed, else successes since it opened
        self._numbers = count()
        self._in_flight: set[Trial] = set()  # those that count

    def state(self, now: float) -> State:
        """What it is at `now`, in seconds."""
        if self._opened_s is None:
            return "closed"
        return "half-open" if now - self._opened_s >= self._open_s else "open"

    def allows(self, now: float) -> bool:
        """Whether a request may be sent at `now`. Changes nothing."""
        state = self.state(now)
        if state == "half-open":
            return len(self._in_flight) < self._successes
        return state == "closed"

    def begin(self, now: float) -> Trial:
        """A request is sent at `now`."""
        trial = Trial(next(self._numbers))
        if self.allows(now):
            self._in_flight.add(trial)
        return trial

    def succeeded(self, trial: Trial, now: float) -> None:
        """The backend answered."""
        if not self._settle(trial):
            return
        self._streak = 0 if self._opened_s is None else self._streak + 1
        if self._streak == self._successes:
            self._opened_s, self._streak = None, 0

    def failed(self, trial: Trial, now: float) -> None:
        """The backend did not answer, or with an error that is its own."""
        if not self._settle(trial):
            return
        self._streak += 1
        if self._opened_s is not None or self._streak == self._failures:
            self._open(now)

    def abandoned(self, trial: Trial, now: float) -> None:
        """The request ended without a verdict on the backend: its client left, say."""
        self._settle(trial)

    def _settle(self, trial: Trial) -> bool:
        """Whether it counts; it will not do so again."""
        counts = trial in self._in_flight
        self._in_flight.discard(trial)
        return counts

    def _open(self, now: float) -> None:
        self._opened_s, self._streak = now, 0
        self._in_flight.clear()  # what they will say is about the time before
