"""The checks of the job-shop world, in the order of the table."""

from makespan.experiments.fidelity import (
    constraint_bench,
    dispatching,
    proofs,
    single_machine,
    tardiness,
)
from makespan.experiments.fidelity.sources import Check

CHECKS: dict[str, Check] = {
    "dispatching rules": dispatching.rows,
    "proved optima": proofs.rows,
    "tardiness rules": tardiness.rows,
    "learners on one machine": single_machine.rows,
    "constraint bench": constraint_bench.rows,
}
"""Name, for the progress bar -> check."""
