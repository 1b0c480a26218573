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
from makespan.envs.jobshop.simulation import ShopDecision
from makespan.traces.errors import unknown_name
from makespan.traces.jobshop.instance import JobShop

DELAY_COST = 10.0
"""What `tail_p_wait` takes for a delay of a mean duration: the best of eight values on 280 random
shops of seven sizes (4, 6, 8 and 12 were about as good)."""

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


def tail_p_wait(shop: JobShop) -> np.ndarray:
    """The logarithm of that ratio, each part plus one; `DELAY_COST` is for the way `active`.

    Source: this project. A machine may wait for a job whose ratio is far better.
    """
    return -np.log((remaining(shop) - spt(shop) + 1) / (spt(shop) + 1))


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
    "tail_p_wait": tail_p_wait,
    "fifo": fifo,
    "edd": edd,
}


def delay_cost(shop: JobShop, rule: str) -> float:
    """What a rule adds to a priority per unit of time that the operation could begin later."""
    return DELAY_COST / max(float(spt(shop).mean()), NOTHING_LEFT) if rule == "tail_p_wait" else 0.0


def dispatch(shop: JobShop, rule: str, way: Way = "nondelay") -> Schedule:
    """The schedule that a rule makes.

    Raises:
        ValueError: there is no such rule or way, or operations have a choice of machines.
    """
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    return generate(shop, RULES[rule](shop), way, rule == "fifo", delay_cost(shop, rule))


class RulePolicy:
    """A rule as a policy over the decisions of `makespan.envs.jobshop.simulation`.

    Raises:
        ValueError: there is no such rule.
    """

    def __init__(self, rule: str) -> None:
        if rule not in RULES:
            raise unknown_name("rule", rule, RULES)
        self.rule = rule
        self._shop: JobShop | None = None

    def __call__(self, decision: ShopDecision) -> int:
        """The candidate with the lowest priority."""
        if self.rule == "fifo":
            return int(decision.jobs[decision.ready.argmin()])
        if decision.shop is not self._shop:
            self._shop, self._priority = decision.shop, RULES[self.rule](decision.shop)
            self._delay_cost = delay_cost(decision.shop, self.rule)
        delay = decision.begins - decision.begins.min()
        keys = self._priority[decision.operations] + self._delay_cost * delay
        return int(decision.jobs[keys.argmin()])


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
