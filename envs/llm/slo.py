"""The service level objective, and a running count of the requests that met it.

TTFT at most 1 s plus 62.5 ms per 1,000 prompt tokens (the limit of SMetric, arXiv 2607.08565, as in
vllm-project/router `src/policies/smetric.rs`) and TPOT at most 50 ms.
"""

from typing import Any

import numpy as np

from makespan.envs.llm.fleet import Fleet
from makespan.envs.llm.state import FAILED, FINISHED, REJECTED

TTFT_S = 1.0
TTFT_S_PER_PROMPT_TOKEN = 0.0625 / 1000
TPOT_S = 0.050


def within_slo(prompt_tokens: Any, output_tokens: Any, ttft_s: Any, e2e_s: Any) -> np.ndarray:
    """bool (n,): which finished requests met the objective; all arguments are columns (n,).

    TPOT is the time from the first token to the last over the tokens after the first; an answer of
    one token has none to miss.
    """
    prompt = ttft_s <= TTFT_S + TTFT_S_PER_PROMPT_TOKEN * prompt_tokens
    return prompt & (e2e_s - ttft_s <= TPOT_S * (output_tokens - 1))


class GoodputCounter:
    """Counts the requests of a fleet that finished within the objective, as the run goes on.

    Each call looks only at requests that were open at the last one or arrived since.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._records = fleet.records.view(np.ndarray)  # a recarray's fields are slow to reach
        self._status = self._records["status"]
        self._arrival_s = fleet.workload.arrival_s
        self._open = np.zeros(0, np.int64)
        self._arrived = 0
        self._met = 0

    def count(self) -> int:
        """Requests within the objective up to now."""
        arrived = int(self._arrival_s.searchsorted(self._fleet.clock.now, side="right"))
        if arrived > self._arrived:
            self._open = np.append(self._open, np.arange(self._arrived, arrived))
            self._arrived = arrived
        status = self._status[self._open]
        done = status == FINISHED
        if done.any():
            self._met += self._within(self._open[done])
        self._open = self._open[~(done | (status == REJECTED) | (status == FAILED))]
        return self._met

    def _within(self, finished: np.ndarray) -> int:
        rows = self._records[finished]
        ttft_s = rows["first_token_s"] - rows["arrival_s"]
        e2e_s = rows["finish_s"] - rows["arrival_s"]
        return int(within_slo(rows["prompt"], rows["generated"], ttft_s, e2e_s).sum())
