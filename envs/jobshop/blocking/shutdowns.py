"""When machines are shut down: this project's protocol, since the paper released none.

The problem is that of Wong et al., the interrupting swap-allowed blocking job shop (ISBJSSP, arXiv
2302.02506): machines shut down at random with a probability that differs between instances, and
jobs wait. Here:

- With probability q, a machine that is about to begin an operation is shut down first. The job has
  entered already and waits on the machine, which nobody else can use.
- How long is random and not known until it is over: the geometric distribution, which is what the
  exponential is among whole numbers, with `mean` times the mean duration of the shop.
- The draws belong to the operations, one by one. Every operation is done once, so every policy
  meets the same shutdowns, at whatever time; what differs between two policies is their own doing.
  And the best that a clairvoyant could do is a blocking job shop whose operations are longer.
- An operation that is hit with one q is hit with every greater one, and for as long.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence

from makespan.traces.jobshop.instance import JobShop


@dataclass(frozen=True)
class Shutdowns:
    """The shutdowns of one run.

    Attributes:
        probability: that an operation is hit.
        mean: of the lengths, in the shop's unit of time.
        length: int64 (operations,): how long the machine is down before each; 0: it is not. Hidden
            from policies.

    Raises:
        ValueError: something is out of range, or lengths are no whole numbers.
    """

    probability: float
    mean: float
    length: np.ndarray

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"the probability must be in [0, 1], not {self.probability}")
        if not 0 <= self.mean < np.inf:
            raise ValueError(f"the mean must be finite and not negative, not {self.mean}")
        if self.length.dtype.kind not in "iu":
            raise ValueError(f"length must be whole numbers, not {self.length.dtype}")
        if (bad := self.length < 0).any():
            operation = int(bad.argmax())
            raise ValueError(
                f"operation {operation} must have a length of 0 or more, "
                f"not {self.length[operation]}"
            )


def no_shutdowns(shop: JobShop) -> Shutdowns:
    """None at all."""
    return Shutdowns(0.0, 0.0, np.zeros(shop.operations, np.int64))


def draw_shutdowns(
    shop: JobShop, probability: float, seed: SeedSequence, mean: float = 1.0
) -> Shutdowns:
    """Random shutdowns.

    Args:
        probability: of each operation, in [0, 1].
        mean: of their lengths, in mean durations of the shop.

    Raises:
        ValueError: the probability or the mean is out of range.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"the shutdown probability must be in [0, 1], not {probability}")
    if not 0 < mean < np.inf:
        raise ValueError(f"the mean shutdown must be positive, not {mean}")
    whether, how_long = (np.random.default_rng(child) for child in seed.spawn(2))
    length = max(mean * float(shop.duration.mean()), 1.0)
    hit = whether.random(shop.operations) < probability
    lengths = how_long.geometric(1 / length, shop.operations)
    return Shutdowns(probability, length, np.where(hit, lengths, 0).astype(np.int64))
