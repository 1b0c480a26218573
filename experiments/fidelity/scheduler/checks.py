"""The scheduler's rows: its steps against those of the real vLLM, and jumps against steps."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.scheduler import golden, real_vllm
from makespan.experiments.fidelity.scheduler.drive_makespan import engine_config, outcome, workload
from makespan.experiments.fidelity.scheduler.random_cases import random_case
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.transform import to_rate

ENGINES = 112
REQUESTS = 80
REQUESTS_PER_S = 4.0
"""Enough to keep such small engines busy, with pauses."""

SAME = 1e-9
"""Times that differ by less, relative, are the same but for rounding."""

STEPS = f"scheduler steps as in vLLM, {ENGINES} random engines"
STEPS_SOURCE = f"the scheduler of vLLM {real_vllm.VERIFIED}, run beside ours on the same requests"
KEPT = f"scheduler steps as in vLLM, {len(golden.SEEDS)} random engines"
KEPT_SOURCE = f"what vLLM {real_vllm.VERIFIED} did once, kept in golden.json"
JUMPS = f"largest relative difference of any time, {ENGINES} random engines"
JUMPS_SOURCE = "our engine, taking every step by itself instead of jumping over runs of them"


def case(seed: int) -> dict[str, Any]:
    """One of the engines, with its requests; see `step_record.py`."""
    return random_case(seed, REQUESTS)


def against_vllm(sources: Sources) -> Iterator[Row | Missing]:
    """Every step of every engine against the installed vLLM; takes minutes."""
    if sources.vllm is None:
        yield Missing(STEPS, STEPS_SOURCE, real_vllm.ABSENT)
        return
    cases = [case(seed) for seed in range(ENGINES)]
    theirs = [found["digests"] for found in real_vllm.drive(sources.vllm, cases)]
    differ = sum(
        differing(outcome(case)["digests"], steps)
        for case, steps in zip(cases, theirs, strict=True)
    )
    yield _steps(STEPS, STEPS_SOURCE, sum(map(len, theirs)), differ)


def against_golden(_: Sources) -> Iterator[Row]:
    """The steps of the smaller engines against what vLLM did once; an engine counts as a whole."""
    steps = differ = 0
    for entry in golden.entries():
        ours = golden.entry(entry["seed"], outcome(random_case(entry["seed"], golden.REQUESTS)))
        steps += entry["steps"]
        differ += 0 if ours == entry else entry["steps"]
    yield _steps(KEPT, KEPT_SOURCE, steps, differ)


def jumping(_: Sources) -> Iterator[Row]:
    """Logs of all engines with jumps against those without."""
    apart = max(largest_difference(*logs(case(seed))) for seed in range(ENGINES))
    yield Row(JUMPS, JUMPS_SOURCE, 0.0, apart, SAME, "absolute")


def logs(case: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The log of a fleet of the case's engine that jumps, and of one that does not."""
    config = FleetConfig((ReplicaConfig(engine=engine_config(case)),))
    requests = to_rate(workload(case), REQUESTS_PER_S)
    jumped, stepped = (
        simulate(Fleet(requests, config, jumping=jumping), lambda decision: 0).log
        for jumping in (True, False)
    )
    return jumped, stepped


def differing(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many steps, by their digests, are not the same in both or only in one."""
    return sum(a != b for a, b in zip_longest(ours, theirs))


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Largest relative difference of any time in two logs; infinite where anything else differs."""
    return max(_difference(a[name], column) for name, column in b.items())


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    known = np.isfinite(b)
    if b.dtype != np.float64 or (np.isfinite(a) != known).any():
        return 0.0 if np.array_equal(a, b) else np.inf
    a, b = a[known], b[known]
    apart = np.abs(a - b)
    return float(np.divide(apart, np.abs(b), out=apart, where=apart > 0).max(initial=0.0))


def _steps(what: str, source: str, steps: int, differ: int) -> Row:
    return Row(what, source, steps, steps - differ, 0.0, "absolute")
