"""What can go wrong in a shop: frozen and validated."""

from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal, Self, get_args

from makespan.envs.core.registry import unknown_name

AfterRepair = Literal["resume", "repeat"]
Distribution = Literal["lognormal", "uniform"]


@dataclass(frozen=True)
class Conditions:
    """Breakdowns of machines, and how far durations are from what is planned.

    All machines are alike, and each breaks down on its own, by the calendar: whether it works or
    not, so that every policy sees the same breakdowns.

    Attributes:
        mean_up: mean time from a repair to the next failure, exponential; inf: never.
        mean_repair: mean time that a repair takes, exponential.
        after_repair: an operation whose machine fails stays there, and then goes on (`resume`) or
            begins once more, with the same duration (`repeat`; what takes several times mean_up
            is then hardly ever done).
        spread: standard deviation of a duration as a share of its planned value, which is its mean;
            0: everything takes as long as planned.
        distribution: of true per planned duration, the same for all options of an operation.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    mean_up: float = inf
    mean_repair: float = 0.0
    after_repair: AfterRepair = "resume"
    spread: float = 0.0
    distribution: Distribution = "lognormal"

    def __post_init__(self) -> None:
        if not self.mean_up > 0:
            raise ValueError(f"mean_up must be positive, not {self.mean_up}")
        if not 0 <= self.mean_repair < inf:
            raise ValueError(f"mean_repair must be finite, at least 0, not {self.mean_repair}")
        if self.after_repair not in get_args(AfterRepair):
            raise unknown_name("after_repair", self.after_repair, get_args(AfterRepair))
        if self.distribution not in get_args(Distribution):
            raise unknown_name("distribution", self.distribution, get_args(Distribution))
        widest = inf if self.distribution == "lognormal" else 1 / sqrt(3)
        if not 0 <= self.spread <= widest or self.spread == inf:
            raise ValueError(
                f"spread must be from 0 to {widest:.3g} ({self.distribution}), not {self.spread}"
            )

    @classmethod
    def with_availability(
        cls,
        availability: float,
        mean_repair: float,
        after_repair: AfterRepair = "resume",
        spread: float = 0.0,
        distribution: Distribution = "lognormal",
    ) -> Self:
        """The same by the share of time that a machine is up: mean_up / (mean_up + mean_repair).

        Raises:
            ValueError: the availability is not above 0 and up to 1, or another value out of range.
        """
        if not 0 < availability <= 1:
            raise ValueError(f"availability must be above 0, up to 1, not {availability}")
        never = availability == 1 or mean_repair == 0
        mean_up = inf if never else mean_repair * availability / (1 - availability)
        return cls(mean_up, mean_repair, after_repair, spread, distribution)
