"""Distributions of token counts, and those of the published traces.

`sample(rng, count)` gives int64 counts, at least 1.

The constants at the end are quantiles measured on the public traces, interpolated in the logarithm:
`AZURE_*` on the Azure LLM inference traces of 2023, `MOONCAKE_*` on Mooncake's FAST'25 conversation
trace, `ARXIV_*` on the arXiv summarisation lengths of Vidur, `SHAREGPT_*` on the first part of
ShareGPT V3 (cl100k tokens; first and later user messages apart; the longest message, of 161,281
tokens, and answers above 2,000 are left out). Against the traces, 400,000 samples are off by at
most 4 % in the mean and 1.5 % in p50, p95 and p99, and the largest difference between the two
distribution functions is 0.07 for Azure conversation prompts (which cluster at a few lengths) and
0.04 or less for the others. Prompt and answer lengths are drawn apart: their rank correlation in
these traces is between -0.11 and 0.07.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

KNOTS = (
    0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95,
    0.98, 0.99, 0.995, 0.999, 1.0,
)  # fmt: skip
"""Probabilities at which the quantile tables of this module are given."""


class Lengths(Protocol):
    """A distribution of token counts."""

    @property
    def mean(self) -> float:
        """Expected count, before rounding."""
        ...

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """int64 (count,), at least 1."""
        ...


def _whole(values: np.ndarray) -> np.ndarray:
    return np.maximum(np.rint(values), 1).astype(np.int64)


@dataclass(frozen=True)
class Fixed:
    """Always the same count."""

    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, not {self.tokens}")

    @property
    def mean(self) -> float:
        return float(self.tokens)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return np.full(count, self.tokens, np.int64)


@dataclass(frozen=True)
class LogNormal:
    """Lognormal with a given mean and median, cut off at `longest`; for when no more is known."""

    mean: float
    median: float
    longest: int = 1_000_000

    def __post_init__(self) -> None:
        if not self.mean >= self.median > 0:
            raise ValueError(f"needs mean >= median > 0, not {self.mean} and {self.median}")

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        sigma = math.sqrt(2 * math.log(self.mean / self.median))
        drawn = rng.lognormal(math.log(self.median), sigma, count)
        return _whole(np.minimum(drawn, self.longest))


@dataclass(frozen=True)
class Quantiles:
    """Interpolates the logarithm of the count between known quantiles.

    Attributes:
        tokens: counts at the probabilities `at`; positive, not decreasing.
        at: probabilities from 0 to 1, increasing.
    """

    tokens: tuple[float, ...]
    at: tuple[float, ...] = KNOTS

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.at) or min(self.tokens) <= 0:
            raise ValueError("needs one positive count per probability")
        if list(self.tokens) != sorted(self.tokens):
            raise ValueError("quantiles must not decrease")
        if self.at[0] != 0 or self.at[-1] != 1 or min(np.diff(self.at)) <= 0:
            raise ValueError("probabilities must increase from 0 to 1")

    @property
    def mean(self) -> float:
        low, high = np.array(self.tokens[:-1]), np.array(self.tokens[1:])
        ratio = np.log(high / low)
        flat = ratio == 0
        # The mean of an exponential curve from low to high is its logarithmic mean.
        means = np.where(flat, low, (high - low) / np.where(flat, 1.0, ratio))
        return float(np.dot(means, np.diff(self.at)))

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return _whole(np.exp(np.interp(rng.random(count), self.at, np.log(self.tokens))))


# fmt: off
AZURE_CONV_PROMPT = Quantiles((
    2, 29, 181, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2734, 4083, 4098, 4142, 4831,
    6179, 14050,
))
AZURE_CONV_OUTPUT = Quantiles((
    7, 16, 41, 54, 77, 91, 103, 129, 177, 384, 400, 424, 451, 540, 601, 643, 954, 1000,
))
AZURE_CODE_PROMPT = Quantiles((
    3, 17, 75, 147, 386, 770, 1075, 1469, 1909, 2433, 3192, 5188, 7303, 7436, 7436, 7436,
    7437, 7437,
))
AZURE_CODE_OUTPUT = Quantiles((
    6, 6, 6, 7, 8, 9, 11, 13, 16, 20, 29, 55, 90, 171, 251, 359, 825, 1899,
))
MOONCAKE_PROMPT = Quantiles((
    891, 894, 901, 964, 1662, 3263, 4993, 6909, 9570, 13196, 17869, 27367, 39550, 66449,
    85400, 100810, 121301, 126195,
))
MOONCAKE_OUTPUT = Quantiles((
    1, 3, 10, 24, 100, 213, 291, 350, 399, 447, 504, 597, 698, 892, 1119, 1568, 2000, 2000,
))
ARXIV_PROMPT = Quantiles((
    1, 73, 749, 1242, 1802, 2150, 2453, 2730, 2996, 3249, 3490, 3702, 3813, 3892, 3933,
    3963, 4012, 4054,
))
ARXIV_OUTPUT = Quantiles((
    5, 36, 60, 78, 104, 125, 145, 167, 192, 222, 268, 372, 736, 2775, 3271, 3582, 3844, 4056,
))
SHAREGPT_FIRST = Quantiles((
    1, 1, 3, 6, 10, 13, 18, 24, 36, 60, 125, 437, 977, 1811, 2581, 3046, 5962, 8000,
))
SHAREGPT_LATER = Quantiles((
    1, 1, 3, 5, 8, 10, 13, 16, 21, 29, 44, 86, 171, 366, 551, 731, 1134, 1817,
))
SHAREGPT_ANSWER = Quantiles((
    1, 3, 24, 50, 108, 160, 210, 255, 300, 349, 420, 550, 676, 767, 769, 770, 803, 2000,
))
# fmt: on
