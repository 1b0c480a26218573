"""Schedules from priorities, in one of the ways that published results differ by.

The same rule gives makespans that differ by factors, depending on what it may choose from and where
its choice is put. `WAYS` has the four that the literature uses; a result means nothing without the
name of its way.

At every step a rule chooses one operation, the next of its job, with the lowest priority; the job
with the lowest number of equals. Results of all published rules depend on such ties.
"""

import numpy as np

from makespan.envs.core.compiled import inlined_kernel, kernel
from makespan.envs.jobshop.core import WAYS as WAYS
from makespan.envs.jobshop.core import Way as Way
from makespan.envs.jobshop.core import advance, begin, columns, place, way_number
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop


def generate(
    shop: JobShop,
    priority: np.ndarray,
    way: Way,
    by_arrival: bool = False,
    delay_cost: float = 0.0,
) -> Schedule:
    """The schedule of a plain job shop that these priorities make.

    Args:
        priority: float64 (operations,), finite; the lowest is first.
        by_arrival: who was ready first is first instead, whatever the priorities.
        delay_cost: added to the priority of a candidate, per unit of time that it could begin later
            than the first one could.
        way: see `Way`.

    Raises:
        ValueError: operations have a choice of machines, the priorities are not one for each
            operation, or there is no such way.
    """
    compiled = columns(shop)
    if priority.shape != (shop.operations,) or not np.isfinite(priority).all():
        raise ValueError(f"needs {shop.operations} priorities that are finite")
    start = _generate(
        compiled, priority.astype(np.float64), by_arrival, delay_cost, way_number(way)
    )
    return Schedule.plain(shop, start)


@kernel
def _generate(shop, priority, by_arrival, delay_cost, way):
    """int64 (operations,): when each begins."""
    state = begin(shop, way)
    count = advance(shop, state, way)
    while count > 0:
        place(shop, state, _first(state, count, priority, by_arrival, delay_cost), way)
        count = advance(shop, state, way)
    return state.start


@inlined_kernel
def _first(state, count, priority, by_arrival, delay_cost):
    """The candidate with the lowest priority."""
    chosen, lowest = -1, np.inf
    for k in range(count):
        job = state.candidates[k]
        key = priority[state.following[job]]
        if by_arrival:
            key = float(state.job_ready[job])
        key += delay_cost * (state.begins[job] - state.moment[0])
        if key < lowest:
            chosen, lowest = job, key
    return chosen
