"""The contract between a simulated world and whatever decides in it.

A world is a `Simulation`: it runs on a SimPy clock until a decision is due, shows the decision,
and carries out the answer. A policy is anything that turns a decision into an action: a function,
or a small object with `__call__`. The loop that joins them, `simulate`, is the same for the
baselines, the experiments and the tests; the gymnasium environments
(`makespan.envs.core.environment`) turn it inside out.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import simpy


class Decision(Protocol):
    """What a real scheduler could see at one moment, and nothing more.

    Attributes:
        time: seconds on the simulation's clock.
        action_mask: bool array of shape (actions,); at least one entry is True.
    """

    @property
    def time(self) -> float: ...

    @property
    def action_mask(self) -> np.ndarray: ...


Policy = Callable[[Any], int]
"""A policy maps a decision of its world to the index of an action."""


class Simulation(Protocol):
    """A SimPy model that runs until a decision is due.

    Attributes:
        clock: the `simpy.Environment`; its `now` is in seconds.
        log: what happened, as plain columns, one row per request, job or task. Complete once
            `next_decision` has returned None.
    """

    clock: simpy.Environment

    @property
    def log(self) -> dict[str, np.ndarray]: ...

    def next_decision(self) -> Any | None:
        """Advance to the next decision point; the decision, or None when the run is over."""
        ...

    def decide(self, action: int) -> None:
        """Carry out `action` for the decision that is due."""
        ...


S = TypeVar("S", bound=Simulation)


def simulate(simulation: S, policy: Policy) -> S:
    """Run `simulation` to its end, `policy` deciding; return it, its log complete."""
    while (decision := simulation.next_decision()) is not None:
        simulation.decide(policy(decision))
    return simulation
