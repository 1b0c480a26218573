"""Rules for one machine: functions of a decision, for the simulator of `envs.jobshop.single`.

EDD and MDD decide as the orders of `makespan.baselines.jobshop.tardiness` do, where all jobs are
there at the beginning.
"""

from collections.abc import Mapping

import numpy as np

from makespan.envs.jobshop.single.decision import MachineDecision, Service
from makespan.envs.jobshop.single.simulator import MachinePolicy


def fifo(decision: MachineDecision) -> int:
    """Who came first is first; the lowest number of those who came together."""
    return decision.lowest(decision.release)


def round_robin(decision: MachineDecision) -> Service:
    """All jobs share the machine, which is to be preemptive."""
    return Service(tuple(np.flatnonzero(decision.action_mask).tolist()))


def srpt(decision: MachineDecision) -> int:
    """Shortest remaining processing time: optimal for total flow time, if sizes are known.

    Source: Schrage, A proof of the optimality of the shortest remaining processing time discipline,
    Operations Research 16 (1968).
    """
    return decision.lowest(decision.job_left)


def operation_srpt(decision: MachineDecision) -> int:
    """The job whose present operation has the shortest remaining processing time.

    It needs at most twice the optimal total flow time where the first of two operations is a test
    that takes all jobs the same time and tells the size of the second.

    Source: arXiv 2602.12716.
    """
    return decision.lowest(decision.operation_left)


def edd(decision: MachineDecision) -> int:
    """Earliest due date."""
    return decision.lowest(decision.due)


def mdd(decision: MachineDecision) -> int:
    """Earliest modified due date: the due date, or the end if the job were next and later.

    Source: Baker and Bertrand, A dynamic priority rule for scheduling against due-dates, Journal of
    Operations Management 3 (1982).
    """
    return decision.lowest(np.maximum(decision.time + decision.job_left, decision.due))


RULES: Mapping[str, MachinePolicy] = {
    "fifo": fifo,
    "round_robin": round_robin,
    "srpt": srpt,
    "operation_srpt": operation_srpt,
    "edd": edd,
    "mdd": mdd,
}
