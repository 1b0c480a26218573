"""What a policy network sees of a `MachineDecision`: padded float32 arrays with a mask.

A number x is shown as sign(x) * log1p(|x|), cut to `LIMIT`: small values stay distinguishable, and
large ones small. What is not known is shown as 0, with a column beside it that says so.
"""

import numpy as np

from makespan.envs.jobshop.single.decision import MachineDecision

LIMIT = 20.0
"""Bound of every number; what would be beyond is cut."""

JOB_COLUMNS = (
    "waited",
    "received",
    "operation_left",
    "operation_known",
    "job_left",
    "job_known",
    "slack",
    "has_due",
)
"""Columns of `job`."""

TYPE_COLUMNS = ("there", "to_come", "finished", "work", "mean")
"""Columns of `type`."""


class Encoder:
    """Encodes decisions about up to `jobs` jobs of up to `types` types."""

    def __init__(self, jobs: int, types: int) -> None:
        self.jobs = jobs
        self.types = types

    def mask(self, decision: MachineDecision) -> np.ndarray:
        """New bool array (jobs,)."""
        mask = np.zeros(self.jobs, np.bool_)
        mask[: len(decision.action_mask)] = decision.action_mask
        return mask

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """Zeros, and the mask."""
        return {
            "action_mask": mask.astype(np.float32),
            "job": np.zeros((self.jobs, len(JOB_COLUMNS)), np.float32),
            "job_type": np.zeros((self.jobs, self.types), np.float32),
            "type": np.zeros((self.types, len(TYPE_COLUMNS)), np.float32),
        }

    def encode(self, decision: MachineDecision, mask: np.ndarray) -> dict[str, np.ndarray]:
        """A new observation; shapes and columns are in the documentation of the environment."""
        shown = self.padding(mask)
        there = np.flatnonzero(decision.action_mask)
        shown["job"][there] = _show(_job_columns(decision)[there])
        shown["job_type"][there, decision.type[there]] = 1
        columns = _type_columns(decision)
        shown["type"][: len(columns)] = _show(columns)
        return shown


def _show(values: np.ndarray) -> np.ndarray:
    shown = np.copysign(np.log1p(np.abs(values)), values)
    return np.clip(np.nan_to_num(shown), -LIMIT, LIMIT)


def _job_columns(decision: MachineDecision) -> np.ndarray:
    """float64 (jobs, columns), those of a job that is there; the known is 1 before `_show`."""
    has_due = np.isfinite(decision.due)
    return np.column_stack(
        [
            decision.time - decision.release,
            decision.received,
            decision.operation_left,
            ~np.isnan(decision.operation_left),
            decision.job_left,
            ~np.isnan(decision.job_left),
            np.where(has_due, decision.due - decision.time, 0.0),
            has_due,
        ]
    )


def _type_columns(decision: MachineDecision) -> np.ndarray:
    """float64 (types, columns)."""
    types = len(decision.jobs_of_type)
    there, finished = (
        np.bincount(decision.type[jobs], minlength=types)
        for jobs in (decision.action_mask, decision.finished)
    )
    work = np.bincount(
        decision.type[decision.finished], decision.received[decision.finished], types
    )
    to_come = decision.jobs_of_type - there - finished
    return np.column_stack([there, to_come, finished, work, work / np.maximum(finished, 1)])
