"""The checks of the job-shop world, in the order of the table."""

from makespan.experiments.fidelity import dispatching
from makespan.experiments.fidelity.sources import Check

CHECKS: dict[str, Check] = {
    "dispatching rules": dispatching.rows,
}
"""Name, for the progress bar -> check."""
