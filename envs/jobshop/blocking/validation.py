"""Whether what is logged of a blocking shop can be, told from the log alone."""

from collections.abc import Mapping

import numpy as np

from makespan.traces.jobshop.instance import JobShop

COLUMNS = ("entered", "start", "end", "left", "shutdown")


def validate(shop: JobShop, log: Mapping[str, np.ndarray]) -> None:
    """See that nothing is wrong with the log of a run that is over (`BlockingShop.log`).

    Raises:
        ValueError: something is; the message names the rule, and jobs and operations, from 0.
    """
    for name in COLUMNS:
        if log[name].shape != (shop.operations,):
            raise ValueError(f"{name} must say something of each of {shop.operations} operations")
    entered, start, end, left, shutdown = (log[name] for name in COLUMNS)
    last = np.isin(np.arange(shop.operations), shop.first_operation[1:] - 1)
    goes_on = np.where(last, end, np.append(entered[1:], 0))
    rules = {
        "enters before its job is released": entered >= shop.release[shop.job],
        "is not begun right after the shutdown": (shutdown >= 0) & (start == entered + shutdown),
        "does not take its duration": end == start + shop.duration,
        "leaves its machine before it is done": left >= end,
        "does not leave its machine for the next one, in the same moment": left == goes_on,
    }
    for rule, good in rules.items():
        if not good.all():
            raise ValueError(f"{_name(shop, int(good.argmin()))} {rule}")
    for machine in range(shop.machines):
        _one_at_a_time(shop, machine, entered, left)


def _one_at_a_time(shop: JobShop, machine: int, entered: np.ndarray, left: np.ndarray) -> None:
    """Nobody enters before the one there has left; who stays for no time is never in the way."""
    there = np.flatnonzero((shop.machine == machine) & (left > entered))
    there = there[np.argsort(entered[there])]
    early = entered[there[1:]] < left[there[:-1]]
    if early.any():
        one, other = there[early.argmax() : early.argmax() + 2].tolist()
        both = f"{_name(shop, one)} and {_name(shop, other)}"
        raise ValueError(f"machine {machine} has {both} at once")


def _name(shop: JobShop, operation: int) -> str:
    job = int(shop.job[operation])
    return f"job {job}, operation {operation - shop.first_operation[job]}"
