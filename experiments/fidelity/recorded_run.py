"""A recorded run of a real vLLM on an RTX 4090, request by request.

300 requests of ShareGPT at 10 a second, more than the card can carry: the queue grows, and the KV
cache runs full. The files are those of LLMServingSim (MIT, `bench/examples`, `profiler/perf`); step
times are those of kernels measured on that card, as the closed form fitted to them and as tables.
The overhead, 1 ms for every card, was fixed on a run of another card, but after this one had been
looked at too (`docs/llm_serving.md`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.errors import TraceError
from makespan.traces.readers.records import records
from makespan.traces.workload import Workload

HARDWARE, MODEL = "RTX4090", "Llama-3.1-8B"
PROFILE = f"vllm_profile_{HARDWARE}_{MODEL}"
META = f"vllm_run_{HARDWARE}_{MODEL}_meta.json"
RUN = f"vllm_run_{HARDWARE}_{MODEL}_requests.jsonl"
FILES = (
    META,
    RUN,
    *(f"{PROFILE}_{part}.csv.gz" for part in ("dense", "attention", "per_sequence")),
)

WHAT = "latencies of the 300 requests of a recorded run"
SOURCE = "a run of vLLM 0.19 with Llama-3.1-8B on an RTX 4090, recorded by LLMServingSim"

TIMES = ("queued_ts", "first_token_ts", "last_token_ts")
TOKENS = ("input_toks", "output_toks")

LATENCIES = {
    "TTFT": "time to first token",
    "TPOT": "time per later token",
    "E2E": "end-to-end latency",
}
UNITS = {"TTFT": "s", "TPOT": "ms", "E2E": "s"}

WITHIN = 0.05
"""Largest relative error of a mean and of a 99th percentile."""

PERCENTILES = {95: None, 99: WITHIN}
"""Percentile -> its aim. Nothing was asked of the 95th before it was looked at; it is shown because
it is further off than the others."""

CORRELATED = 0.01
"""Largest lack of correlation."""

NOT_AIMED = ("TPOT",)
"""Latencies whose correlation is shown only. Here it says who was preempted, and that hangs on
milliseconds: in a run of an RTX PRO 6000 that preempted nobody it is 0.995."""

Columns = dict[str, np.ndarray]


def rows(sources: Sources) -> Iterator[Row | Missing]:
    """The errors of every latency, with fitted and with measured step times."""
    lacks = sources.lacks(*FILES)
    if sources.data is None or lacks:
        yield Missing(WHAT, SOURCE, lacks)
        return
    run, engine = read_run(sources.data / RUN), read_engine(sources.data / META)
    real = latencies(*(run[name] for name in (*TIMES, "output_toks")))
    for words, profile in (("fitted", ""), ("measured", str(sources.data / PROFILE))):
        log = replay(run, engine, profile)
        columns = ("arrival_s", "first_token_s", "finish_s", "output_tokens")
        ours = latencies(*(log[name] for name in columns))
        for name in LATENCIES:
            yield from compare(name, real[name], ours[name], f"{words} step times")


def read_run(path: Path) -> Columns:
    """Columns of the recorded requests by arrival: times in s from the first, and token counts.

    Raises:
        TraceError: the file cannot be read, or holds no request; names line and key.
    """
    found = sorted(records(path), key=lambda record: record.number("queued_ts"))
    if not found:
        raise TraceError(path, "an empty run")
    columns = {name: np.array([record.number(name) for record in found]) for name in TIMES}
    start = columns["queued_ts"][0]
    tokens = {name: np.array([record.whole_number(name, 1) for record in found]) for name in TOKENS}
    return {name: column - start for name, column in columns.items()} | tokens


def read_engine(path: Path) -> EngineConfig:
    """The engine of the run, from its metadata.

    Raises:
        ValueError: the file is not JSON, or a setting is missing.
    """
    try:
        meta: dict[str, Any] = json.loads(path.read_text())
        asked, cache = meta["engine_kwargs"], meta["kv_cache"]
        return EngineConfig(
            gpu_memory_utilization=cache["gpu_memory_utilization"],
            kv_blocks=cache["num_gpu_blocks"],
            block_size=cache["block_size"],
            max_num_seqs=asked["max_num_seqs"],
            max_num_batched_tokens=asked["max_num_batched_tokens"],
            max_model_len=asked["max_model_len"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no metadata of a run ({error!r})") from None


def replay(run: Columns, engine: EngineConfig, profile: str) -> Columns:
    """The log of the same requests on one replica; `profile` as in `ReplicaConfig`."""
    workload = Workload(run["queued_ts"], run["input_toks"], run["output_toks"])
    replica = ReplicaConfig(hardware=HARDWARE, model=MODEL, profile=profile, engine=engine)
    return simulate(Fleet(workload, FleetConfig((replica,))), lambda decision: 0).log


def latencies(
    arrival: np.ndarray, first: np.ndarray, last: np.ndarray, tokens: np.ndarray
) -> Columns:
    """TTFT and E2E in s, and TPOT in ms of the requests that have later tokens."""
    later = np.maximum(tokens - 1, 1)
    return {
        "TTFT": first - arrival,
        "TPOT": 1000 * ((last - first) / later)[tokens > 1],
        "E2E": last - arrival,
    }


def compare(name: str, real: np.ndarray, ours: np.ndarray, how: str) -> Iterator[Row]:
    """The rows of one latency."""
    what, unit = LATENCIES[name], UNITS[name]
    means = float(real.mean()), float(ours.mean())
    yield Row(f"{what}, mean, {how}", SOURCE, *means, WITHIN, unit=unit)
    for percent, aim in PERCENTILES.items():
        pair = (float(np.percentile(column, percent)) for column in (real, ours))
        yield Row(f"{what}, p{percent}, {how}", SOURCE, *pair, aim, unit=unit)
    aim = None if name in NOT_AIMED else CORRELATED
    correlation = float(np.corrcoef(real, ours)[0, 1])
    what = f"{what}, correlation over requests, {how}"
    yield Row(what, SOURCE, 1.0, correlation, aim, "absolute")
