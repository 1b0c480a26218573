"""The checks of the job-shop world, in the order of the table."""

from collections.abc import Iterator
from importlib.util import find_spec

from makespan.experiments.fidelity import (
    constraint_bench,
    dispatching,
    proofs,
    single_machine,
    tardiness,
)
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.sources import Check

CHECKS: dict[str, Check] = {
    "dispatching rules": dispatching.rows,
    "proved optima": proofs.rows,
    "tardiness rules": tardiness.rows,
    "learners on one machine": single_machine.rows,
    "constraint bench": constraint_bench.rows,
}
"""Name, for the progress bar -> check."""


def trained_rows() -> Iterator[Row | Missing]:
    """The agents that come with the package: on Taillard's instances, and where shops run."""
    if find_spec("torch") is None:
        yield Missing("agents that schedule job shops", "", "takes torch")
        return
    from makespan.experiments.fidelity import improve_agent, shop_agent, shop_floor_agents

    yield from shop_agent.rows()
    yield from improve_agent.rows()
    yield from shop_floor_agents.rows()
