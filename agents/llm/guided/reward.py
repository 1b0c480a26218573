"""What a transition earns."""

from dataclasses import dataclass

import numpy as np

from makespan.agents.llm.guided.config import GuidedConfig

STEP_S = 0.02
"""Seconds between two actions in the paper: the shortest step of an engine."""

UNIT = 60.0
"""Rewards are given in completions of the paper, so that values are of the order of 1."""


@dataclass(frozen=True)
class Moment:
    """What the trainer notes at a decision.

    Attributes:
        time: seconds.
        state, mask: as the network sees them; mask bool (N + 1,).
        impacts: float64 (N + 1,), r_mixing of every action.
        unfinished: `Survey.unfinished`.
        finished: requests completed so far.
    """

    time: float
    state: np.ndarray
    mask: np.ndarray
    impacts: np.ndarray
    unfinished: float
    finished: int


def reward(config: GuidedConfig, before: Moment, action: int, after: Moment) -> float:
    """Of `action` at the decision `before`, when the next one comes, in `UNIT`.

    (r_w * completions - queue penalty + weight * r_mixing) / 60. The queue penalty is the paper's,
    every request by the fraction that is not done, per second that it lasts (the paper's scale is
    in an image): the integral between the decisions by the trapezoidal rule.
    """
    elapsed_s = after.time - before.time
    waited = (before.unfinished + after.unfinished) / 2 * elapsed_s
    earned = config.completion * (after.finished - before.finished) - waited
    if config.variant != "baseline":
        earned += config.mixing * float(before.impacts[action])
    return earned / UNIT


def steps(before: Moment, after: Moment) -> float:
    """Steps of the paper between two decisions; none if they are at the same moment."""
    return (after.time - before.time) / STEP_S
