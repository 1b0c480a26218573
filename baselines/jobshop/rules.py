"""Dispatching rules: the operation with the lowest priority is next.

What is published under these names differs in two ways: how a schedule is made from the priorities
(`makespan.envs.jobshop.generation.Way`), and, for the rules that go by the work that remains,
whether that includes the operation itself. Both are said here.

Panwalkar and Iskander, A survey of scheduling rules, Operations Research 25 (1977), name most of
them.
"""

from collections.abc import Callable, Mapping

import numpy as np

from makespan.envs.jobshop.generation import Way, generate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.errors import unknown_name
from makespan.traces.jobshop.instance import JobShop

Rule = Callable[[JobShop], np.ndarray]
"""float64 (operations,): the priorities, lowest first."""

NOTHING_LEFT = 1e-9
"""Stands for no work, where it is divided by."""


def spt(shop: JobShop) -> np.ndarray:
    """Shortest processing time."""
    return shop.duration.astype(np.float64)


def lpt(shop: JobShop) -> np.ndarray:
    """Longest processing time."""
    return -spt(shop)


def mwkr(shop: JobShop) -> np.ndarray:
    """Most work remaining in the job, the operation included."""
    return -remaining(shop)


def tail(shop: JobShop) -> np.ndarray:
    """Most work remaining in the job after the operation."""
    return -(remaining(shop) - spt(shop))


def mor(shop: JobShop) -> np.ndarray:
    """Most operations remaining in the job."""
    return -_operations_left(shop)


def mor_spt(shop: JobShop) -> np.ndarray:
    """Most operations remaining; the shortest of those with as many."""
    return -_operations_left(shop) + spt(shop) / (1 + spt(shop).max())


def fdd_mwkr(shop: JobShop) -> np.ndarray:
    """Least flow due date, the job's work up to the end of the operation, per work remaining."""
    return _flow_due_date(shop) / np.maximum(remaining(shop), NOTHING_LEFT)


def fdd_tail(shop: JobShop) -> np.ndarray:
    """The same per work remaining after the operation."""
    return _flow_due_date(shop) / np.maximum(remaining(shop) - spt(shop), NOTHING_LEFT)


def tail_p(shop: JobShop) -> np.ndarray:
    """Most work remaining after the operation per processing time of it.

    Source: this project's notes; of the ratio kind that the older literature has. Without delay it
    is better on Taillard's instances than any other rule here, and otherwise it is not.
    """
    return -(remaining(shop) - spt(shop)) / np.maximum(spt(shop), NOTHING_LEFT)


def fifo(shop: JobShop) -> np.ndarray:
    """First in, first out: whose job was ready first. The priorities say nothing."""
    return np.zeros(shop.operations)


def edd(shop: JobShop) -> np.ndarray:
    """Earliest due date of the job; those without one come last."""
    return shop.due[shop.job].astype(np.float64)


RULES: Mapping[str, Rule] = {
    "spt": spt,
    "lpt": lpt,
    "mwkr": mwkr,
    "tail": tail,
    "mor": mor,
    "mor_spt": mor_spt,
    "fdd_mwkr": fdd_mwkr,
    "fdd_tail": fdd_tail,
    "tail_p": tail_p,
    "fifo": fifo,
    "edd": edd,
}


def dispatch(shop: JobShop, rule: str, way: Way = "nondelay") -> Schedule:
    """The schedule that a rule makes.

    Raises:
        ValueError: there is no such rule or way, or operations have a choice of machines.
    """
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    return generate(shop, RULES[rule](shop), way, by_arrival=rule == "fifo")


def remaining(shop: JobShop) -> np.ndarray:
    """float64 (operations,): work of the job from the operation on, itself included."""
    return _job_work(shop) - _flow_due_date(shop) + spt(shop)


def _flow_due_date(shop: JobShop) -> np.ndarray:
    """float64 (operations,): work of the job up to the end of the operation."""
    through = np.cumsum(shop.duration, dtype=np.float64)
    before = np.concatenate([[0.0], through])[shop.first_operation[:-1]]
    return through - before[shop.job]


def _job_work(shop: JobShop) -> np.ndarray:
    """float64 (operations,): work of the job."""
    return np.add.reduceat(spt(shop), shop.first_operation[:-1])[shop.job]


def _operations_left(shop: JobShop) -> np.ndarray:
    """float64 (operations,): of the job, from the operation on."""
    return (shop.first_operation[1:][shop.job] - np.arange(shop.operations)).astype(np.float64)
