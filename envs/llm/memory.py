"""Lay out the state of a fleet: one array per kind of thing, one slice per replica."""

import numpy as np

from makespan.envs.llm.config import FleetConfig, GaugeConfig, ReplicaConfig
from makespan.envs.llm.hash_map import capacity_for
from makespan.envs.llm.state import (
    ADMISSIONS,
    ARRAYS,
    BLOCK,
    FLEET,
    GAUGE,
    MOST_SAMPLES,
    NODE,
    NOISE_MODULUS,
    NONE,
    POLICIES,
    RECENT_LENGTH,
    REPLICA,
    REQUEST,
    UNSENT,
    State,
)
from makespan.traces.workload import Workload


def _records(size: int, dtype: np.dtype) -> np.recarray:
    return np.zeros(size, dtype).view(np.recarray)


def new_requests(workload: Workload, predicted: np.ndarray) -> np.recarray:
    """One `REQUEST` record per request of `workload`, not yet sent."""
    requests = _records(len(workload), REQUEST)
    requests.arrival_s = workload.arrival_s
    requests.prompt = workload.prompt_tokens
    requests.output = workload.output_tokens
    requests.priority = workload.priority
    requests.predicted = predicted
    requests.hash_start = workload.hash_offsets[:-1]
    requests.hash_count = np.diff(workload.hash_offsets)
    for never in ("sent_s", "first_token_s", "finish_s"):
        requests[never] = np.nan
    for nowhere in ("replica", "slot", "next", "previous"):
        requests[nowhere] = NONE
    requests.status = UNSENT
    return requests


def _configure(record: np.record, config: ReplicaConfig, workload: Workload) -> None:
    """Copy the engine's settings, and size what depends on the workload."""
    engine = config.engine
    record.block_size = engine.block_size
    record.kv_blocks = engine.kv_blocks
    record.token_budget = engine.max_num_batched_tokens
    record.max_num_seqs = min(engine.max_num_seqs, max(1, len(workload)))
    record.max_model_len = engine.max_model_len
    if not engine.enable_chunked_prefill:  # a longer sequence could never be recomputed
        record.max_model_len = min(engine.max_model_len, engine.max_num_batched_tokens)
    record.caching = engine.enable_prefix_caching
    record.chunking = engine.enable_chunked_prefill
    record.long_prefill = engine.long_prefill_token_threshold
    record.reserve_prompt = engine.scheduler_reserve_full_isl
    record.watermark_blocks = int(engine.watermark * engine.kv_blocks)
    record.policy = POLICIES[engine.policy]
    record.starvation_steps = engine.starvation_steps
    record.starvation_quantum = engine.starvation_quantum
    record.admission = ADMISSIONS[engine.admission]
    record.reserved_output = engine.reserved_output_tokens
    record.max_queue = engine.max_num_queued_requests
    longest = (workload.prompt_tokens + workload.output_tokens).max(initial=1)
    longest = min(int(longest), int(record.max_model_len))
    record.table_width = -(-longest // engine.block_size)
    record.map_capacity = capacity_for(engine.kv_blocks)


def _starts(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes.astype(np.int64))])


def _new_fleet(gauges: GaugeConfig, workload: Workload) -> np.recarray:
    """The one `FLEET` record, before the first scrape."""
    fleet = _records(1, FLEET)
    for name in ("period_s", "lag_s", "miss_probability", "stuck_probability", "stuck_s"):
        fleet[name] = getattr(gauges, name)
    # On their way are at most lag / period and one more; behind them is the one that is seen. The
    # third is for rounding.
    fleet.depth = int(gauges.lag_s / gauges.period_s) + 3
    fleet.origin_s = workload.arrival_s[0] if len(workload) else 0.0
    fleet.every = 1
    return fleet


def _unknown_gauges(size: int) -> np.recarray:
    gauges = _records(size, GAUGE)
    for name in GAUGE.names or ():
        gauges[name] = np.nan
    return gauges


def new_state(
    workload: Workload,
    config: FleetConfig,
    models: list[np.ndarray],
    predicted: np.ndarray,
    rng: np.random.Generator,
    jumping: bool,
) -> State:
    """The memory of a fleet; `makespan.envs.llm.engines.Engines` then resets every engine.

    Args:
        workload: the requests.
        config: the fleet, its replicas resolved (no zeros left in their engines).
        models: the packed step-time model of each replica.
        predicted: float64 (n,), predicted output tokens or nan.
        rng: source of what goes wrong with the gauges.
        jumping: whether runs of decode steps are jumped over.
    """
    n = len(config.replicas)
    records = _records(n, REPLICA)
    for record, replica in zip(records, config.replicas, strict=True):
        _configure(record, replica, workload)
    records.jumping = jumping
    records.stuck_until_s = -np.inf
    records.noise = rng.integers(1, NOISE_MODULUS, n)
    # Without hashes nothing is ever looked up: the index keeps a token size.
    nodes = (config.prefix_index_blocks if len(workload.hashes) else 1) + 1
    records.index_nodes = nodes
    records.index_capacity = capacity_for(nodes)
    sizes = {
        "block_start": records.kv_blocks,
        "table_start": records.table_width.astype(np.int64) * records.max_num_seqs,
        "list_start": records.max_num_seqs,
        "map_start": records.map_capacity,
        "index_start": records.index_capacity,
        "node_start": records.index_nodes,
        "model_start": np.array([len(model) for model in models]),
    }
    total = {}
    for name, size in sizes.items():
        starts = _starts(size)
        records[name] = starts[:-1]
        total[name] = int(starts[-1])
    records.model_stop = _starts(sizes["model_start"])[1:]
    fleet = _new_fleet(config.gauges, workload)
    return State(
        fleet=fleet,
        requests=new_requests(workload, predicted),
        replicas=records,
        end_s=np.full(n, np.inf),
        up=np.ones(n, np.bool_),
        blocks=_records(total["block_start"], BLOCK),
        table=np.zeros(total["table_start"], np.int32),
        running=np.zeros(total["list_start"], np.int64),
        slots=np.zeros(total["list_start"], np.int64),
        map=np.zeros(total["map_start"], np.int64),
        hashes=np.array(workload.hashes) if len(workload.hashes) else np.zeros(1, np.int64),
        models=np.concatenate(models),
        index=np.zeros(total["index_start"], np.int64),
        nodes=_records(total["node_start"], NODE),
        recent=_records(n * RECENT_LENGTH, ARRAYS["recent"]),
        in_flight=np.zeros(n, np.int64),
        prefill_tokens=np.zeros(n, np.int64),
        decoding=np.zeros(n, np.int64),
        streaming=np.zeros(n, np.int64),
        matches=np.zeros(n, np.int64),
        board=_unknown_gauges(n),
        scrapes=_unknown_gauges(n * int(fleet.depth[0])),
        samples=_records(n * MOST_SAMPLES, GAUGE),
        gauges=np.full(4 * n, np.nan),
    )
