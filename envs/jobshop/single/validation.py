"""Whether what is logged of one machine can be, told from the log alone."""

from collections.abc import Mapping

import numpy as np

from makespan.traces.jobshop.single_machine import MachineJobs

COLUMNS = ("operation", "start", "end", "amount")

TOLERANCE = 1e-9
"""Times are sums of numbers that are not whole; this share of the last one is no difference."""


def validate(
    jobs: MachineJobs,
    log: Mapping[str, np.ndarray],
    services: Mapping[str, np.ndarray],
    preemptive: bool = True,
) -> None:
    """See that nothing is wrong with the log of a run that is over.

    Args:
        log: when each job ends (`SingleMachine.log`).
        services: who had the machine when (`SingleMachine.services`).
        preemptive: whether operations may be interrupted, and the machine shared.

    Raises:
        ValueError: something is wrong; the message names the rule, and jobs and operations, from 0.
    """
    operation, start, end, amount = _columns(jobs, log, services)
    job = np.repeat(np.arange(jobs.jobs), np.diff(jobs.first_operation))
    near = TOLERANCE * (1 + end.max())
    pieces = {
        "is served before its job comes": start >= jobs.release[job[operation]] - near,
        "is served for less than no time": (end >= start) & (amount >= 0),
        "gets more than the machine can do": amount <= end - start + near,
    }
    for rule, good in pieces.items():
        _require(jobs, good, operation, rule)
    every = np.arange(len(jobs.size))
    served = np.bincount(operation, amount, len(every))
    _require(jobs, abs(served - jobs.size) <= near, every, "does not get its size")
    begun, done = np.full(len(every), np.inf), np.zeros(len(every))
    np.minimum.at(begun, operation, start)
    np.maximum.at(done, operation, end)
    first = np.isin(every, jobs.first_operation)
    in_order = first | (begun >= np.append(0, done[:-1]) - near)
    _require(jobs, in_order, every, "is served before the one before it ends")
    last = jobs.first_operation[1:] - 1
    _require(
        jobs, abs(log["end"] - done[last]) <= near, last, "is the last, and its job ends elsewhen"
    )
    _one_machine(start, end, amount, near)
    if not preemptive:
        alone = (np.bincount(operation) == 1) & (abs(done - begun - jobs.size) <= near)
        _require(jobs, alone, every, "is interrupted, or shares the machine")


def _columns(
    jobs: MachineJobs, log: Mapping[str, np.ndarray], services: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    if log["end"].shape != (jobs.jobs,):
        raise ValueError(f"end must say something of each of {jobs.jobs} jobs")
    columns = [services[name] for name in COLUMNS]
    if not len(columns[0]) or {column.shape for column in columns} != {columns[0].shape}:
        raise ValueError("there must be services, and every column must say something of each")
    unknown = (columns[0] < 0) | (columns[0] >= len(jobs.size))
    if unknown.any():
        raise ValueError(f"there is no operation {columns[0][unknown.argmax()]} to be served")
    return columns


def _one_machine(start: np.ndarray, end: np.ndarray, amount: np.ndarray, near: float) -> None:
    """All that are served at a time do not get more than one machine can do."""
    takes = end > start
    start, end, amount = start[takes], end[takes], amount[takes]
    moment = np.unique(np.append(start, end))
    change = np.zeros(len(moment))
    rate = amount / (end - start)
    np.add.at(change, np.searchsorted(moment, start), rate)
    np.add.at(change, np.searchsorted(moment, end), -rate)
    rate, length = change.cumsum()[:-1], np.diff(moment)
    over = rate * length > length + near
    if over.any():
        k = int(over.argmax())
        between = f"from {moment[k]:.9g} to {moment[k + 1]:.9g}"
        raise ValueError(f"{between} jobs get {rate[k]:.6g} times what the machine can do")


def _require(jobs: MachineJobs, good: np.ndarray, operation: np.ndarray, rule: str) -> None:
    """See that all rows are good; `operation` says of which operation each is."""
    if not good.all():
        bad = int(operation[good.argmin()])
        job = int(np.searchsorted(jobs.first_operation, bad, side="right")) - 1
        raise ValueError(f"job {job}, operation {bad - jobs.first_operation[job]} {rule}")
