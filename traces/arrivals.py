"""Arrival processes. Each is a frozen description with a rate in requests per second.

`times(rng, count)` gives the arrival times of the first `count` requests, float64 seconds, not
decreasing, the first at 0.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _from_gaps(gaps: np.ndarray) -> np.ndarray:
    times = np.cumsum(gaps)
    return times - times[:1]


class Arrivals(Protocol):
    """An arrival process."""

    @property
    def rate(self) -> float:
        """Mean requests per second in the long run."""
        ...

    def at_rate(self, rate: float) -> Self:
        """The same process at another mean rate."""
        ...

    def times(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """float64 (count,): arrival times in seconds."""
        ...


@dataclass(frozen=True)
class Poisson:
    """Independent exponential gaps: coefficient of variation 1."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        _require(self.rate > 0, f"rate must be positive, not {self.rate}")

    def at_rate(self, rate: float) -> Self:
        return replace(self, rate=rate)

    def times(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return _from_gaps(rng.exponential(1 / self.rate, count))


@dataclass(frozen=True)
class Gamma:
    """Independent gamma gaps of a given coefficient of variation; above 1 is burstier than Poisson.

    ServeGen (arXiv 2505.09999) finds gamma or Weibull gaps to fit production clients best.
    """

    rate: float = 1.0
    cv: float = 2.0

    def __post_init__(self) -> None:
        _require(self.rate > 0, f"rate must be positive, not {self.rate}")
        _require(self.cv > 0, f"cv must be positive, not {self.cv}")

    def at_rate(self, rate: float) -> Self:
        return replace(self, rate=rate)

    def times(self, rng: np.random.Generator, count: int) -> np.ndarray:
        shape = self.cv**-2
        return _from_gaps(rng.gamma(shape, 1 / (self.rate * shape), count))


@dataclass(frozen=True)
class MarkovModulated:
    """Poisson arrivals whose rate jumps between a calm and a busy state (a two-state MMPP).

    Stays in a state are exponential; the first is calm.

    Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook",
    Performance Evaluation 18 (1993).

    Attributes:
        rate: mean requests per second over both states.
        burst: rate in the busy state over rate in the calm state.
        calm_s: mean seconds spent calm before a burst.
        busy_s: mean seconds a burst lasts.
    """

    rate: float = 1.0
    burst: float = 5.0
    calm_s: float = 60.0
    busy_s: float = 15.0

    def __post_init__(self) -> None:
        for name in ("rate", "burst", "calm_s", "busy_s"):
            value = getattr(self, name)
            _require(value > 0, f"{name} must be positive, not {value}")

    @property
    def calm_rate(self) -> float:
        """Requests per second in the calm state."""
        weighted = self.calm_s + self.burst * self.busy_s
        return self.rate * (self.calm_s + self.busy_s) / weighted

    def at_rate(self, rate: float) -> Self:
        return replace(self, rate=rate)

    def times(self, rng: np.random.Generator, count: int) -> np.ndarray:
        # In operational time, where one unit is one expected arrival, the process is Poisson(1).
        # The map back to seconds is piecewise linear with a knot at every change of state.
        work = np.cumsum(rng.exponential(1.0, count))
        knots_s, knots_work = self._knots(rng, float(work[-1]) if count else 0.0)
        times = np.interp(work, knots_work, knots_s)
        return times - times[:1]

    def _knots(self, rng: np.random.Generator, work: float) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and expected arrivals at each change of state, until `work` arrivals."""
        cycle = self.rate * (self.calm_s + self.busy_s)
        seconds, arrivals = [np.zeros(1)], [np.zeros(1)]
        while arrivals[-1][-1] < work:
            cycles = int((work - arrivals[-1][-1]) / cycle) + 16
            stays = rng.exponential([self.calm_s, self.busy_s], (cycles, 2))
            expected = stays * (self.calm_rate * np.array([1.0, self.burst]))
            seconds.append(seconds[-1][-1] + np.cumsum(stays))
            arrivals.append(arrivals[-1][-1] + np.cumsum(expected))
        return np.concatenate(seconds), np.concatenate(arrivals)
