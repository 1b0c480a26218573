"""One cell of a comparison: one policy on one job shop with one seed."""

import time
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from makespan.envs.jobshop.schedule import Schedule
from makespan.experiments.jobshop.instances import Instance
from makespan.experiments.jobshop.policies import Policy
from makespan.traces.jobshop import JobShop

WARM_UP = Instance(JobShop.of([[(0, 1), (1, 1)], [(1, 1), (0, 1)]], name="warm-up"))
"""A job shop that each policy schedules first, so that compiling it is not counted as its time."""


@dataclass(frozen=True)
class Cell:
    """What one policy made of one job shop.

    Attributes:
        policy: its label.
        instance: that was scheduled.
        seed: of the draws; the first one stands for all where nothing is drawn.
        schedule: that has been validated; None where the policy found none.
        seconds: wall-clock time that it took.
        curve: float64 (n, 2), seconds and makespan of every better schedule on the way; the last
            one is the schedule.
    """

    policy: str
    instance: Instance
    seed: int
    schedule: Schedule | None
    seconds: float
    curve: np.ndarray

    @property
    def name(self) -> str:
        """Of its file."""
        return cell_name(self.policy, self.instance, self.seed)

    @property
    def makespan(self) -> float:
        """nan where there is no schedule."""
        return float("nan") if self.schedule is None else self.schedule.makespan

    def arrays(self) -> dict[str, np.ndarray]:
        """What is kept of it."""
        none, schedule = np.zeros(0, np.int64), self.schedule
        return {
            "start": none if schedule is None else schedule.start,
            "option": none if schedule is None else schedule.option,
            "seconds": np.array(self.seconds),
            "curve": self.curve,
        }


def measure(policy: Policy, instance: Instance, seed: int) -> Cell:
    """Schedule a job shop.

    Raises:
        ValueError: the policy cannot, or its schedule is not valid; the message names both.
    """
    better: list[tuple[float, float]] = []
    began_s = time.perf_counter()
    try:
        schedule = policy.solve(
            instance.shop, seed, lambda m: better.append((time.perf_counter() - began_s, m))
        )
        seconds = time.perf_counter() - began_s
        if schedule is not None:
            schedule.validate()
    except ValueError as error:
        raise ValueError(f"{policy.label} on {instance.name}: {error}") from error
    if schedule is not None and not better:
        better = [(seconds, schedule.makespan)]
    curve = np.array(better, np.float64).reshape(-1, 2)
    return Cell(policy.label, instance, seed, schedule, seconds, curve)


def restored(policy: str, instance: Instance, seed: int, arrays: dict[str, np.ndarray]) -> Cell:
    """The cell of which `Cell.arrays` kept these."""
    schedule = None
    if len(arrays["start"]):
        schedule = Schedule(instance.shop, arrays["start"], arrays["option"])
    seconds = float(arrays["seconds"])
    return Cell(policy, instance, seed, schedule, seconds, arrays["curve"])


def cell_name(policy: str, instance: Instance, seed: int) -> str:
    """Of the cell's file, of no other one, and a name on every system."""
    return "-".join(quote(part, safe="") for part in (policy, instance.name, str(seed)))
