"""The checks of the LLM world, in the order of the table."""

from makespan.experiments.fidelity import published, queueing, recorded_run
from makespan.experiments.fidelity.scheduler import checks
from makespan.experiments.fidelity.sources import Check

CHECKS: dict[str, Check] = {
    "what vLLM decided once": checks.against_golden,
    "what vLLM decides (minutes)": checks.against_vllm,
    "jumps against steps": checks.jumping,
    "waits of queues": queueing.waits,
    "Little's law": queueing.littles_law,
    "a recorded run": recorded_run.rows,
    "KV blocks": published.kv_blocks,
    "public traces": published.traces,
}
"""Name, for the progress bar -> check."""
