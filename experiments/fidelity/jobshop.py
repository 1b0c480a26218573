"""The checks of the job-shop world, in the order of the table."""

from makespan.experiments.fidelity import dispatching, single_machine, tardiness
from makespan.experiments.fidelity.sources import Check

CHECKS: dict[str, Check] = {
    "dispatching rules": dispatching.rows,
    "tardiness rules": tardiness.rows,
    "learners on one machine": single_machine.rows,
}
"""Name, for the progress bar -> check."""
