"""End to end against a run of a real vLLM 0.19 on an RTX 4090 (LLMServingSim, MIT).

300 requests of ShareGPT at 10 a second, more than the card can carry: the queue grows, and the KV
cache runs full. Step times are those of kernels measured on that card, as tables and as the closed
form fitted to them. Only the overhead, the default of every card, was chosen on this run and one of
an RTX PRO 6000 (`docs/llm_serving.md`); so this is a check, and no proof for other cards.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.traces.workload import Workload

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "llm"
RUN = DATA / "vllm_run_RTX4090_Llama-3.1-8B_requests.jsonl"
ENGINE = EngineConfig(
    gpu_memory_utilization=0.9,
    kv_blocks=2588,
    max_num_seqs=256,
    max_num_batched_tokens=2048,
    max_model_len=32768,
)
"""As the run's metadata has it."""

COLUMNS = ("queued_ts", "first_token_ts", "last_token_ts", "input_toks", "output_toks")

PROFILES = {"closed form": "", "tables": str(DATA / "vllm_profile_RTX4090_Llama-3.1-8B")}


def latencies(arrival, first, last, tokens):
    """TTFT, time per later token, and end to end, in seconds."""
    later = np.maximum(tokens - 1, 1)
    return {
        "ttft": first - arrival,
        "tpot": ((last - first) / later)[tokens > 1],
        "e2e": last - arrival,
    }


@pytest.fixture(scope="module")
def recorded():
    """Columns of the recorded run; its clock begins with the first request."""
    if not RUN.exists():
        pytest.skip("the recorded run of the RTX 4090 is not here")
    rows = [json.loads(line) for line in RUN.read_text().splitlines()]
    rows.sort(key=lambda row: row["queued_ts"])
    columns = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
    start = columns["queued_ts"][0]
    return columns | {name: columns[name] - start for name in columns if name.endswith("_ts")}


@pytest.mark.slow_in_python
@pytest.mark.parametrize("profile", PROFILES)
def test_mean_latencies_are_those_of_the_recorded_run(recorded, profile):
    workload = Workload(recorded["queued_ts"], recorded["input_toks"], recorded["output_toks"])
    replica = ReplicaConfig(
        hardware="RTX4090", model="Llama-3.1-8B", profile=PROFILES[profile], engine=ENGINE
    )
    log = simulate(Fleet(workload, FleetConfig((replica,))), lambda decision: 0).log
    real = latencies(
        recorded["queued_ts"],
        recorded["first_token_ts"],
        recorded["last_token_ts"],
        recorded["output_toks"],
    )
    ours = latencies(log["arrival_s"], log["first_token_s"], log["finish_s"], log["output_tokens"])
    for name, seconds in real.items():
        assert ours[name].mean() == pytest.approx(seconds.mean(), rel=0.05), name
    assert np.quantile(ours["e2e"], 0.99) == pytest.approx(np.quantile(real["e2e"], 0.99), rel=0.05)
    assert np.corrcoef(ours["ttft"], real["ttft"])[0, 1] > 0.99
    assert log["preemptions"].sum() > 100  # the run is of the kind that tells
