"""Learning rates as functions of the remaining progress, which falls from 1 to 0."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from makespan.envs.core.registry import unknown_name

WARM_UP = 0.05
"""Share of training in which the warmed-up schedules rise from 0."""


def constant(left: float) -> float:
    """The peak throughout."""
    return 1.0


def linear(left: float) -> float:
    """Linearly to zero.

    Source: Defazio et al., "When, Why and How Much? Adaptive Learning Rate Scheduling by
    Refinement" (2023): optimal in the worst case.
    """
    return left


def cosine(left: float) -> float:
    """Half a period of the cosine, to zero.

    Source: Loshchilov and Hutter, "SGDR" (ICLR 2017), without restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * (1 - left)))


def rex(left: float) -> float:
    """Slowly at first, then faster, to zero.

    Source: Chen et al., "REX: Revisiting Budgeted Training with an Improved Schedule" (MLSys 2022).
    """
    return left / (0.5 + 0.5 * left)


def warmup_stable_decay(left: float, decay: float = 0.2) -> float:
    """Warm-up, the peak, and linearly to zero in the last `decay` of training.

    Source: Hu et al., "MiniCPM" (2024), section 4; the decay's shape is linear, one of several in
    use.
    """
    return min(_warmed_up(left), left / decay, 1.0)


def power(left: float, exponent: float = 0.51) -> float:
    """Warm-up, a power of the progress, and linearly to zero in the last tenth.

    Source: Shen et al., "Power Scheduler" (2024): rate = a * n^b with b = -0.51 after n samples,
    cut at a peak. Here the cut falls at the end of the warm-up, so that the peak is as asked for.
    """
    done = max(1 - left, WARM_UP)
    return _warmed_up(left) * (done / WARM_UP) ** -exponent * min(1.0, left / 0.1)


def uba(left: float, phi: float = 1.0) -> float:
    """A family between a late drop (phi near 0) and, at phi = 2, the cosine.

    Source: Tang et al., "Stepsize anything: a unified learning rate schedule for budgeted-iteration
    training" (UBA, NeurIPS 2025), one period, to zero.
    """
    wave = 1 + math.cos(math.pi * (1 - left))
    return 2 * wave / (2 * phi + (2 - phi) * wave)


def _warmed_up(left: float) -> float:
    return min(1.0, (1 - left) / WARM_UP)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "rex": rex,
    "wsd": warmup_stable_decay,
    "power": power,
    "uba": uba,
}
"""Name -> share of the peak, in [0, 1], by remaining progress."""


@dataclass(frozen=True)
class Schedule:
    """A learning rate by remaining progress; picklable, as environments in processes need it."""

    name: str
    peak: float

    def __call__(self, left: float) -> float:
        return self.peak * SCHEDULES[self.name](min(max(left, 0.0), 1.0))


def schedule(name: str, peak: float) -> Schedule:
    """The learning rate that rises to `peak` and falls in the way of that name.

    Raises:
        ValueError: there is no schedule of that name, or `peak` is not positive.
    """
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, SCHEDULES)
    if not 0 < peak < math.inf:
        raise ValueError(f"the learning rate must be positive, not {peak}")
    return Schedule(name, peak)
