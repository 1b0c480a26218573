"""A decision made by hand, and settings that take a second."""

from typing import Any

import numpy as np

from makespan.agents.llm.episodes import Episode
from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.decision import IN_FLIGHT, RequestView, RoutingDecision
from makespan.envs.llm.episode import whole_number
from makespan.envs.llm.step_time import ClosedForm
from makespan.traces.workload import Workload

STEP = ClosedForm(
    linear=((10.0, 0.0), (0.0, 1.0)),
    decode=(0.0, 0.0, 0.01),
    prefill=(0.0, 0.0, 0.0),
    mixed=None,
    lm_head=(0.0, 0.0),
)
"""A step takes 10 ms or 1 ms per token, and 0.01 ms per token of decode context."""

NAN = float("nan")


class HandMade:
    """A router of four replicas with caches of 1,600 tokens; rows of (prompt, streamed, predicted)
    per replica."""

    def __init__(self, rows: list[list[tuple[int, int, float]]], held: int) -> None:
        self._rows = rows
        self.held = held
        streaming = [[row for row in part if row[1] > 0] for part in rows]
        self.requests = np.array([len(part) for part in rows])
        self.decoding = np.array([len(part) for part in streaming])
        self._decode = np.array([sum(r[0] + r[1] for r in part) for part in streaming])
        self.kv_blocks = np.full(len(rows), 101)
        self.block_size = np.full(len(rows), 16)
        self.step_time = [STEP] * len(rows)
        self.engines = [EngineConfig(max_num_batched_tokens=2048)] * len(rows)

    def decode_tokens(self) -> np.ndarray:
        return self._decode

    def in_flight(self, replica: int) -> np.ndarray:
        rows = np.zeros(len(self._rows[replica]), IN_FLIGHT)
        for row, (prompt, streamed, predicted) in zip(rows, self._rows[replica], strict=True):
            row["prompt_tokens"], row["streamed_tokens"] = prompt, streamed
            row["predicted_tokens"] = predicted
        return rows


def decision(
    rows: list[list[tuple[int, int, float]]],
    held: int = 0,
    prompt: int = 100,
    predicted: float = 300.0,
) -> RoutingDecision:
    """With everything legal."""
    request = RequestView(0, prompt, np.zeros(0, np.int64), -1, 0, "", predicted, 0)
    router: Any = HandMade(rows, held)
    return RoutingDecision(1.0, request, np.ones(len(rows) + 1, bool), router)


def fast_and_slow(seed: np.random.SeedSequence) -> Episode:
    """One fast replica and one that is 20 times as slow, enough work for either but the slow one
    alone."""
    rng = np.random.default_rng(seed)
    count = 100
    workload = Workload(
        np.cumsum(rng.exponential(0.4, count)),
        np.full(count, 50),
        rng.integers(20, 60, count),
    )
    engine = EngineConfig(kv_blocks=400, max_num_seqs=16, max_num_batched_tokens=256)
    replicas = tuple(ReplicaConfig(engine=engine, step_model=STEP, speed=s) for s in (1.0, 0.05))
    return Episode(workload, FleetConfig(replicas, can_hold=True), whole_number(seed))
