"""What a policy network sees of an `EntryDecision`: padded arrays with masks.

Times are in mean durations of the shop, so a shop in minutes looks as one in seconds does. Every
number x is shown as sign(x) * log1p(|x|) / log1p(reference), with the field's reference, a typical
large value, which is thus shown as 1, and cut to [-10, 10]. What is not known is shown as 0, with a
field beside it that says so. Jobs and machines that do not exist, and jobs that are gone, are rows
of zeros.
"""

import math

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.blocking.decision import (
    BLOCKED,
    BUSY,
    DOWN,
    ENDED,
    FREE,
    GONE,
    WORKED_ON,
    EntryDecision,
)

LIMIT = 10.0
"""Bound of every field."""

JOB_FIELDS: dict[str, float] = {
    "candidate": 1,
    "in_shop": 1,
    "worked_on": 1,
    "ended": 1,
    "duration": 4,
    "tail": 20,
    "operations_left": 20,
    "waited": 10,
    "ends_in": 4,
    "end_known": 1,
    "holds_up": 4,
    "last": 1,
    "next_free": 1,
    "next_busy": 1,
    "next_blocked": 1,
    "next_down": 1,
    "next_free_in": 4,
    "next_wanted_by": 4,
    "would_swap": 1,
}
"""Columns of `job` -> raw value that is shown as 1."""

MACHINE_FIELDS: dict[str, float] = {
    "asked": 1,
    "free": 1,
    "busy": 1,
    "blocked": 1,
    "down": 1,
    "free_in": 4,
    "wanted_by": 4,
    "load": 20,
}
"""Columns of `machine` -> raw value that is shown as 1."""

SHOP_FIELDS: dict[str, float] = {
    "in_shop": 1,
    "outside": 1,
    "machines": 20,
    "work_left": 20,
    "longest_left": 20,
    "can_wait": 1,
    "shutdown_probability": 0.1,
    "shutdown_mean": 1,
}
"""Entries of `shop` -> raw value that is shown as 1."""

EDGES = ("stands_on", "goes_to", "goes_then_to")
"""From jobs to machines: where a job is; where it goes next; and where after that."""


def _scale(fields: dict[str, float]) -> np.ndarray:
    return 1 / np.log1p(np.array(list(fields.values())))


_JOB, _MACHINE, _SHOP = (_scale(fields) for fields in (JOB_FIELDS, MACHINE_FIELDS, SHOP_FIELDS))


class Encoder:
    """Turns decisions into arrays of one shape.

    Args:
        max_jobs, max_machines: rows.

    Raises:
        ValueError: on a decision of a larger shop.
    """

    def __init__(self, max_jobs: int, max_machines: int) -> None:
        self.max_jobs, self.max_machines = max_jobs, max_machines

    def encode(self, decision: EntryDecision) -> dict[str, np.ndarray]:
        """New arrays, J = `max_jobs`, M = `max_machines`:

        float32 `job` (J, 19), `machine` (M, 8) and `shop` (8,), see `JOB_FIELDS` and so on;
        `job_mask` (J,), `machine_mask` (M,) and `action_mask` (J + 1,), of 0 and 1; and for each of
        `EDGES` int64 (2, J), rows of job and machine, and float32 (J,) of that name and `_mask`.
        """
        observation = self.padding(self.mask(decision))
        jobs, machines = len(decision.on), len(decision.occupant)
        observation["job_mask"][:jobs] = decision.state != GONE
        observation["machine_mask"][:machines] = 1
        targets = self._write_edges(decision, observation)
        routes, unit = decision.routes, decision.routes.mean_duration
        free_in = (decision.free_at - decision.time) / unit
        shown = decision.machine_state, free_in, decision.wanted_by
        _show_jobs(
            observation["job"],
            unit,
            decision.time,
            decision.candidate,
            decision.state,
            decision.on,
            decision.since,
            decision.end,
            decision.waits,
            decision.operation,
            routes.machine,
            routes.duration,
            routes.tail,
            routes.left,
            routes.following,
            targets,
            decision.occupant,
            *shown,
        )
        _show_machines(observation["machine"], decision.machine, decision.load / unit, *shown)
        _show(_shop_entries(decision), _SHOP, observation["shop"])
        return observation

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing, with `mask` as its `action_mask`."""
        observation = {
            "action_mask": mask.astype(np.float32),
            "job": np.zeros((self.max_jobs, len(JOB_FIELDS)), np.float32),
            "job_mask": np.zeros(self.max_jobs, np.float32),
            "machine": np.zeros((self.max_machines, len(MACHINE_FIELDS)), np.float32),
            "machine_mask": np.zeros(self.max_machines, np.float32),
            "shop": np.zeros(len(SHOP_FIELDS), np.float32),
        }
        for name in EDGES:
            observation[name] = np.zeros((2, self.max_jobs), np.int64)
            observation[name][0] = np.arange(self.max_jobs)
            observation[f"{name}_mask"] = np.zeros(self.max_jobs, np.float32)
        return observation

    def mask(self, decision: EntryDecision) -> np.ndarray:
        """New bool array (max_jobs + 1,): the actions that are legal."""
        jobs, machines = len(decision.on), len(decision.occupant)
        if jobs > self.max_jobs or machines > self.max_machines:
            raise ValueError(
                f"the shop has {jobs} jobs and {machines} machines, the observation room for "
                f"{self.max_jobs} and {self.max_machines}"
            )
        mask = np.zeros(self.max_jobs + 1, np.bool_)
        mask[:jobs] = decision.candidate
        mask[-1] = decision.can_wait
        return mask

    def _write_edges(
        self, decision: EntryDecision, observation: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Fill the edges; returns where each job goes next, int64 (jobs,), -1: out of the shop."""
        routes, jobs = decision.routes, len(decision.on)
        own, following = routes.machine[decision.operation], decision.next_machine
        after = routes.following[np.minimum(decision.operation + 1, len(routes.machine) - 1)]
        after[following < 0] = -1
        begun = (decision.state == WORKED_ON) | (decision.state == GONE)
        goes_to = np.where(begun, following, own)
        goes_then_to = np.where(begun, after, following)
        for name, target in zip(EDGES, (decision.on, goes_to, goes_then_to), strict=True):
            observation[name][1, :jobs] = np.maximum(target, 0)
            observation[f"{name}_mask"][:jobs] = target >= 0
        return goes_to


@kernel
def _show(values, scale, out):
    """Write the numbers `values` to `out` as they are shown."""
    for j in range(len(values)):
        value = values[j]
        shown = math.copysign(math.log1p(abs(value)), value) * scale[j]
        out[j] = 0.0 if math.isnan(value) else min(max(shown, -LIMIT), LIMIT)


@kernel
def _flag(condition):
    """1 if it holds, else 0."""
    return 1.0 if condition else 0.0


@kernel
def _show_jobs(
    out,
    unit,
    now,
    candidate,
    state,
    on,
    since,
    end,
    waits,
    operation,
    machine_of,
    duration,
    tail,
    left,
    following,
    goes_to,
    occupant,
    machine_state,
    free_in,
    wanted_by,
):
    """Fill one row of `out` per job that is not gone, in the order of `JOB_FIELDS`."""
    for job in range(len(on)):
        if state[job] == GONE:
            continue
        this, following_machine = operation[job], following[operation[job]]
        last = following_machine < 0
        next_state = -1 if last else machine_state[following_machine]
        # The job on the next machine goes to where this one is or would be: they may swap.
        neighbour = -1 if last else occupant[following_machine]
        would_swap = neighbour >= 0 and goes_to[neighbour] == machine_of[this]
        values = (
            _flag(candidate[job]),
            _flag(on[job] >= 0),
            _flag(state[job] == WORKED_ON),
            _flag(state[job] == ENDED),
            duration[this] / unit,
            tail[this] / unit,
            float(left[this]),
            (now - since[job]) / unit if waits[job] else 0.0,
            (end[job] - now) / unit,
            _flag(not math.isnan(end[job])),
            float(wanted_by[on[job]]) if on[job] >= 0 else 0.0,
            _flag(last),
            _flag(next_state == FREE),
            _flag(next_state == BUSY),
            _flag(next_state == BLOCKED),
            _flag(next_state == DOWN),
            0.0 if last else free_in[following_machine],
            0.0 if last else float(wanted_by[following_machine]),
            _flag(would_swap),
        )
        _show(values, _JOB, out[job])


@kernel
def _show_machines(out, asked, load, machine_state, free_in, wanted_by):
    """Fill one row of `out` per machine, in the order of `MACHINE_FIELDS`."""
    for machine in range(len(machine_state)):
        state = machine_state[machine]
        values = (
            _flag(machine == asked),
            _flag(state == FREE),
            _flag(state == BUSY),
            _flag(state == BLOCKED),
            _flag(state == DOWN),
            free_in[machine],
            float(wanted_by[machine]),
            load[machine],
        )
        _show(values, _MACHINE, out[machine])


def _shop_entries(decision: EntryDecision) -> tuple[float, ...]:
    """The raw values of `SHOP_FIELDS`."""
    machines, unit = len(decision.occupant), decision.routes.mean_duration
    here = decision.state != GONE
    in_shop, left = np.count_nonzero(decision.occupant >= 0), decision.work * here
    return (
        in_shop / machines,
        (np.count_nonzero(here) - in_shop) / machines,
        float(machines),
        float(left.sum()) / unit / machines,
        float(left.max()) / unit,
        float(decision.can_wait),
        float(decision.shutdown_probability),
        decision.shutdown_mean / unit,
    )
