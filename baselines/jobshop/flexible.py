"""Dispatching rules where operations have a choice of machines.

A job waits for every machine that could do its next operation, and the first that is idle chooses,
as in a shop that runs (`makespan.envs.jobshop.dynamic.simulation`) to which nothing happens.
"""

import numpy as np

from makespan.baselines.jobshop import dynamic_rules
from makespan.baselines.jobshop.rules import RULES
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.dynamic import DynamicJobShop
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.errors import unknown_name
from makespan.traces.jobshop.instance import JobShop

FLEXIBLE_RULES: tuple[str, ...] = tuple(name for name in RULES if name in dynamic_rules.PRIORITIES)
"""The rules that are defined for a choice of machines, too."""


def dispatch_flexible(shop: JobShop, rule: str) -> Schedule:
    """The schedule without delay that a rule makes, machines chosen.

    Without a choice of machines it is that of `makespan.baselines.jobshop.dispatch`, if everything
    takes time.

    Raises:
        ValueError: there is no such rule.
    """
    if rule not in FLEXIBLE_RULES:
        raise unknown_name("rule", rule, FLEXIBLE_RULES)
    run = simulate(DynamicJobShop(shop), dynamic_rules.policy(rule)).schedule()
    start, option = np.empty((2, shop.operations), np.int64)
    # Each is one piece, and times are sums of whole numbers.
    start[run.operation], option[run.operation] = run.start, run.option
    return Schedule(shop, start, option)
