"""What a policy network sees of a `DispatchDecision`: padded arrays with masks.

Times are divided by the mean planned duration of an operation, so that the unit of an instance does
not matter. Every number x of a field is then shown as

    sign(x) * log1p(|x|) / log1p(reference)

with the field's reference, a typical large value, which is thus shown as 1: small values stay
distinguishable, large ones stay small, zero is zero. A job without a due date has a slack of 0,
with a field beside it that says so.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from makespan.envs.jobshop.dynamic.decision import DispatchDecision

VERSION = 1
"""Goes up when a trained network would see something else."""

LIMIT = 10.0
"""Bound of every field; what would be beyond is cut."""

NOTHING = 1e-9
"""Stands for no time, where it is divided by."""


@dataclass(frozen=True)
class Field:
    """One column of an observation.

    Attributes:
        name: what it is; times in mean durations.
        reference: raw value that is shown as 1.
    """

    name: str
    reference: float


CANDIDATE_FIELDS = (
    Field("duration", 1),
    Field("tail", 20),
    Field("through", 20),
    Field("operations_left", 20),
    Field("waited", 20),
    Field("in_system", 40),
    Field("slack", 40),
    Field("has_due", 1),
    Field("weight", 1),
    Field("has_next", 1),
    Field("next_work", 20),
    Field("next_up", 1),
    Field("tail_per_duration", 20),
    Field("slack_to_horizon", 20),
    Field("excess_if_first", 20),
    Field("tail_lead", 20),
    Field("duration_lead", 1),
    Field("next_duration", 1),
    Field("next_free_after", 4),
    Field("next_share", 1),
    Field("comes_tail_lead", 20),
    Field("comes_after", 4),
)
"""Columns of `candidate`."""

MACHINE_FIELDS = (
    Field("up", 1),
    Field("down_for", 4),
    Field("left", 1),
    Field("queue_work", 20),
    Field("queue_length", 20),
    Field("deciding", 1),
    Field("load", 20),
    Field("share", 1),
    Field("comes", 1),
    Field("comes_in", 4),
)
"""Columns of `machine`."""

SHOP_FIELDS = (
    Field("candidates", 20),
    Field("jobs_in_system", 40),
    Field("work_per_machine", 40),
    Field("share_up", 1),
    Field("horizon", 40),
    Field("work_share", 1),
    Field("load", 20),
    Field("load_share", 1),
    Field("comes", 1),
    Field("comes_in", 4),
)
"""Entries of `shop`."""


def _scale(fields: tuple[Field, ...]) -> np.ndarray:
    return 1 / np.log1p(np.array([field.reference for field in fields]))


_CANDIDATE_SCALE = _scale(CANDIDATE_FIELDS)
_MACHINE_SCALE = _scale(MACHINE_FIELDS)
_SHOP_SCALE = _scale(SHOP_FIELDS)


def _show(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Numbers (..., fields) as they are shown."""
    shown = np.copysign(np.log1p(np.abs(values)), values) * scale
    return np.clip(shown, -LIMIT, LIMIT)


class Encoder:
    """Turns decisions of shops of any size up to its own into arrays of one shape.

    Action i is the candidate in row i.

    Raises:
        ValueError: on a decision with more than `max_machines` machines.
    """

    def __init__(self, max_candidates: int, max_machines: int) -> None:
        self.max_candidates = max_candidates
        self.max_machines = max_machines

    def encode(self, decision: DispatchDecision, mask: np.ndarray) -> dict[str, np.ndarray]:
        """New arrays, float32 but for `next_edge`, all 0 where there is nothing to show.

        With K = `max_candidates`, M = `max_machines`: `candidate` (K, 22), the columns
        `CANDIDATE_FIELDS`; `candidate_mask` (K,), 1 where a candidate exists; `machine` (M, 10),
        the columns `MACHINE_FIELDS`; `machine_mask` (M,); `shop` (10,), the entries `SHOP_FIELDS`;
        `next_edge` int64 (2, K): edge i leads from a candidate's row to the row of its next
        machine; `next_edge_mask` (K,), 1 where an edge exists; `action_mask` (K,).

        Args:
            decision: with no more than `max_machines` machines.
            mask: that of `mask(decision)`.
        """
        rows, machines = self.shown(decision), len(decision.up)
        if machines > self.max_machines:
            raise ValueError(
                f"the shop has {machines} machines, the encoder room for {self.max_machines}"
            )
        observation, n = self.padding(mask), len(rows)
        observation["candidate"][:n] = _show(_candidates(decision)[rows], _CANDIDATE_SCALE)
        observation["candidate_mask"][:n] = 1.0
        observation["machine"][:machines] = _show(_machines(decision), _MACHINE_SCALE)
        observation["machine_mask"][:machines] = 1.0
        observation["shop"][:] = _show(_shop(decision), _SHOP_SCALE)
        following = decision.next_machine[rows]
        exists = following >= 0
        observation["next_edge"][:, :n] = np.where(exists, (np.arange(n), following), 0)
        observation["next_edge_mask"][:n] = exists
        return observation

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing, with `mask` as its `action_mask`."""
        candidates, machines = self.max_candidates, self.max_machines
        return {
            "action_mask": mask.astype(np.float32),
            "candidate": np.zeros((candidates, len(CANDIDATE_FIELDS)), np.float32),
            "candidate_mask": np.zeros(candidates, np.float32),
            "machine": np.zeros((machines, len(MACHINE_FIELDS)), np.float32),
            "machine_mask": np.zeros(machines, np.float32),
            "next_edge": np.zeros((2, candidates), np.int64),
            "next_edge_mask": np.zeros(candidates, np.float32),
            "shop": np.zeros(len(SHOP_FIELDS), np.float32),
        }

    def shown(self, decision: DispatchDecision) -> np.ndarray:
        """int64 (n,): the candidates that have a row; of too many those that waited longest."""
        if len(decision.job) <= self.max_candidates:
            return np.arange(len(decision.job))
        longest = np.argsort(decision.ready, kind="stable")[: self.max_candidates]
        return np.sort(longest)

    def mask(self, decision: DispatchDecision) -> np.ndarray:
        """New bool array (max_candidates,): the actions that are legal."""
        return np.arange(self.max_candidates) < len(decision.job)

    def answer(self, decision: DispatchDecision, action: int) -> int:
        """The action of `decision` that `action` of the padded space stands for."""
        return int(self.shown(decision)[action])


def _candidates(decision: DispatchDecision) -> np.ndarray:
    """float64 (C, 22): the raw values of `CANDIDATE_FIELDS`."""
    time, unit, following = decision.time, decision.mean_duration, decision.next_machine
    has_due, has_next = np.isfinite(decision.due), following >= 0
    columns = (
        decision.duration / unit,
        decision.tail / unit,
        decision.through / unit,
        decision.operations_left,
        (time - decision.ready) / unit,
        (time - decision.release) / unit,
        np.where(has_due, decision.slack / unit, 0.0),
        has_due,
        decision.weight,
        has_next,
        decision.next_work / unit,
        has_next & decision.up[following],
        *_comparisons(decision),
    )
    return np.array(columns, np.float64).T


def _comparisons(decision: DispatchDecision) -> tuple[np.ndarray, ...]:
    """The raw values of `CANDIDATE_FIELDS` that set a candidate against the others, against what
    the shop needs at least, and against the job that comes next."""
    unit, horizon = decision.mean_duration, decision.horizon
    duration, tail, following = decision.duration, decision.tail, decision.next_machine
    has_next = following >= 0
    comes_in = decision.comes_in[decision.machine]
    comes = np.float64(comes_in < inf)
    return (
        tail / np.maximum(duration, NOTHING * unit),
        (horizon - decision.remaining) / unit,
        (duration + _greatest_other(decision.remaining) - horizon) / unit,
        (tail - _greatest_other(tail)) / unit,
        (duration + _greatest_other(-duration)) / unit,
        decision.next_duration / unit,
        np.where(has_next, decision.free_in[following] - duration, 0.0) / unit,
        np.where(has_next, decision.busy_for[following], 0.0) / max(horizon, NOTHING),
        comes * (decision.comes_tail[decision.machine] - tail) / unit,
        (comes_in - duration) / unit if comes else np.zeros(len(duration)),
    )


def _greatest_other(values: np.ndarray) -> np.ndarray:
    """Of each entry: the greatest of the others; the entry itself if there is none."""
    if len(values) == 1:
        return values
    second, first = np.partition(values, -2)[-2:]
    others = np.full(len(values), first)
    others[values.argmax()] = second
    return others


def _machines(decision: DispatchDecision) -> np.ndarray:
    """float64 (M, 10): the raw values of `MACHINE_FIELDS`."""
    unit, comes = decision.mean_duration, np.isfinite(decision.comes_in)
    columns = (
        decision.up,
        decision.down_for / unit,
        decision.left / unit,
        decision.queue_work / unit,
        decision.queue_length,
        np.arange(len(decision.up)) == decision.machine,
        decision.load / unit,
        decision.busy_for / max(decision.horizon, NOTHING),
        comes,
        np.where(comes, decision.comes_in, 0.0) / unit,
    )
    return np.array(columns, np.float64).T


def _shop(decision: DispatchDecision) -> np.ndarray:
    """float64 (10,): the raw values of `SHOP_FIELDS`."""
    unit, horizon, machine = decision.mean_duration, decision.horizon, decision.machine
    per_machine = decision.work_in_system / len(decision.up)
    load, comes_in = float(decision.load[machine]), float(decision.comes_in[machine])
    comes = comes_in < inf
    entries = (
        len(decision.job),
        decision.jobs_in_system,
        per_machine / unit,
        decision.up.mean(),
        horizon / unit,
        per_machine / max(horizon, NOTHING),
        load / unit,
        load / max(horizon, NOTHING),
        comes,
        comes_in / unit if comes else 0.0,
    )
    return np.array(entries, np.float64)
