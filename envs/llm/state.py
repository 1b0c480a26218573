"""The memory of a fleet: flat arrays of records that the kernels work on.

All replicas live in the same arrays, each in its own slice, so that a fleet is a dozen arrays
whatever its size. Python sees them as record arrays; compiled code gets one address (`attach`),
since passing a dozen arrays would cost more than most calls do.
"""

from collections import namedtuple

import numba
import numpy as np

from makespan.envs.core.compiled import kernel, pointer
from makespan.envs.llm.decision import RECENT
from makespan.envs.llm.hash_map import ENTRY

NONE = -1
"""No request, no block, no slot."""

WAITING, RUNNING, FINISHED, REJECTED, FAILED, UNSENT = 0, 1, 2, 3, 4, 5
"""Where a request is."""

FCFS, PRIORITY, SJF = 0, 1, 2
POLICIES = {"fcfs": FCFS, "priority": PRIORITY, "sjf": SJF}
VLLM, CONSERVATIVE, PAST_FUTURE = 0, 1, 2
ADMISSIONS = {"vllm": VLLM, "conservative": CONSERVATIVE, "past_future": PAST_FUTURE}

REQUEST = np.dtype(
    [
        ("arrival_s", np.float64),
        ("sent_s", np.float64),  # last time it was sent to a replica
        ("first_token_s", np.float64),
        ("finish_s", np.float64),
        ("priority", np.float64),
        ("rank", np.float64),  # order among waiting requests when the policy is not FCFS
        ("predicted", np.float64),  # predicted output tokens, nan: none
        ("hash_start", np.int64),
        ("waiting_since", np.int64),  # engine step at which it began to wait
        ("promoted_until", np.int64),  # engine step at which its promotion ends; 0: none
        ("hash_count", np.int32),
        ("prompt", np.int32),
        ("output", np.int32),  # tokens it will generate: hidden from every policy
        ("generated", np.int32),
        ("computed", np.int32),  # tokens whose keys and values are in the cache
        ("scheduled", np.int32),  # tokens in the current step
        ("blocks", np.int32),  # KV blocks held
        ("hashed_blocks", np.int32),  # of these, full and entered in the prefix cache
        ("cached_tokens", np.int32),  # prompt tokens found in the prefix cache
        ("uncached", np.int32),  # prompt tokens the router expects to be computed
        ("queued", np.int32),  # uncached tokens ahead of it when it was sent
        ("slot", np.int32),  # row of the block table
        ("next", np.int32),  # neighbours in the waiting queue
        ("previous", np.int32),
        ("replica", np.int32),
        ("preemptions", np.int32),
        ("attempts", np.int32),
        ("status", np.int32),
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        # Configuration (see EngineConfig).
        ("block_size", np.int32),
        ("kv_blocks", np.int32),
        ("token_budget", np.int32),
        ("max_num_seqs", np.int32),
        ("max_model_len", np.int32),
        ("caching", np.int32),
        ("chunking", np.int32),
        ("long_prefill", np.int32),
        ("reserve_prompt", np.int32),
        ("watermark_blocks", np.int32),
        ("policy", np.int32),
        ("starvation_steps", np.int32),
        ("starvation_quantum", np.int32),
        ("admission", np.int32),
        ("reserved_output", np.int32),
        ("max_queue", np.int32),
        ("jumping", np.int32),  # 0: one step at a time (the reference the jumps are tested against)
        # Where its slices of the flat arrays begin.
        ("model_start", np.int32),
        ("model_stop", np.int32),
        ("table_width", np.int32),
        ("map_capacity", np.int32),
        ("index_capacity", np.int32),  # of the router's prefix index: hash map entries
        ("index_nodes", np.int32),  # and nodes, one more than blocks for the list's sentinel
        ("block_start", np.int64),
        ("table_start", np.int64),
        ("list_start", np.int64),  # of the running list and of the free slots
        ("map_start", np.int64),
        ("index_start", np.int64),
        ("node_start", np.int64),
        # State.
        ("running", np.int32),
        ("waiting", np.int32),
        ("waiting_head", np.int32),
        ("waiting_tail", np.int32),
        ("free_blocks", np.int32),
        ("free_slots", np.int32),
        ("index_used", np.int32),
        ("busy", np.int32),
        ("jump_steps", np.int32),  # decode steps in the run under way, 1 for a single step
        ("preempted", np.int32),  # requests preempted in this step
        ("steps", np.int64),
        ("jumps", np.int64),
        ("finished", np.int64),
        ("start_s", np.float64),  # of the step or run under way
        ("end_s", np.float64),
        # What the step under way consists of: the arguments of `step_seconds`.
        ("tokens", np.int64),
        ("sequences", np.int64),
        ("decode_sequences", np.int64),
        ("decode_context", np.int64),
        ("prefill_sequences", np.int64),
        ("prefill_tokens", np.int64),
        ("prefill_work", np.float64),
        ("prefill_context", np.int64),
        # Kept for the router.
        ("streaming_tokens", np.int64),  # prompt and output tokens of requests past their first
        ("latency_s", np.float64),  # sum over finished requests
        ("arrivals_s", np.float64),  # sum of arrival times of finished requests
        ("recent", np.int64),  # finished requests ever; the ring holds the last 64
    ],
    align=True,
)

BLOCK = np.dtype(
    [
        ("hash", np.int64),  # hash_map.EMPTY while the block is not in the prefix cache
        ("references", np.int32),
        ("next", np.int32),  # neighbours in the free list; block 0 is its sentinel
        ("previous", np.int32),
        ("twin", np.int32),  # next block with the same hash
    ],
    align=True,
)

NODE = np.dtype(
    [("key", np.int64), ("next", np.int32), ("previous", np.int32)],
    align=True,
)
"""An entry of the router's prefix index, in order of last use; node 0 is the list's sentinel."""

RECENT_LENGTH = 64

ARRAYS = {
    "requests": REQUEST,
    "replicas": REPLICA,
    "blocks": BLOCK,
    "table": np.dtype(np.int32),  # KV blocks of each running request
    "running": np.dtype(np.int32),  # running requests, in order
    "slots": np.dtype(np.int32),  # free rows of the table, as a stack
    "map": ENTRY,  # prefix cache: hash -> first block
    "hashes": np.dtype(np.int64),  # of the workload
    "models": np.dtype(np.float64),  # packed step-time models
    "index": ENTRY,  # router's prefix index: hash -> node
    "nodes": NODE,
    "recent": RECENT,
    "in_flight": np.dtype(np.int64),  # router: requests per replica
    "prefill_tokens": np.dtype(np.int64),  # router: uncached tokens without a first token
    "decoding": np.dtype(np.int64),  # router: requests past their first token
    "streaming": np.dtype(np.int64),  # answer of the last count of tokens being decoded
    "matches": np.dtype(np.int64),  # answer of the last prefix look-up
    "gauges": np.dtype(np.float64),  # answer of the last scrape: running, waiting, kv usage
}
"""Name and dtype of every array."""

State = namedtuple("State", ARRAYS)


def directory(state: State) -> np.ndarray:
    """int64 (arrays, 2): address and length of each array, for `attach`.

    Raises:
        ValueError: an array has another dtype than the kernels expect.
    """
    for (name, dtype), array in zip(ARRAYS.items(), state, strict=True):
        if array.dtype.newbyteorder("=") != dtype or not array.flags.c_contiguous:
            raise ValueError(f"{name} must be a contiguous array of {dtype}, not {array.dtype}")
    return np.array([[array.ctypes.data, array.size] for array in state], np.int64)


@kernel
def attach(address):
    """The `State` behind the address of its directory."""
    d = numba.carray(pointer(address), (18, 2), np.int64)
    return State(
        numba.carray(pointer(d[0, 0]), d[0, 1], REQUEST),
        numba.carray(pointer(d[1, 0]), d[1, 1], REPLICA),
        numba.carray(pointer(d[2, 0]), d[2, 1], BLOCK),
        numba.carray(pointer(d[3, 0]), d[3, 1], np.int32),
        numba.carray(pointer(d[4, 0]), d[4, 1], np.int32),
        numba.carray(pointer(d[5, 0]), d[5, 1], np.int32),
        numba.carray(pointer(d[6, 0]), d[6, 1], ENTRY),
        numba.carray(pointer(d[7, 0]), d[7, 1], np.int64),
        numba.carray(pointer(d[8, 0]), d[8, 1], np.float64),
        numba.carray(pointer(d[9, 0]), d[9, 1], ENTRY),
        numba.carray(pointer(d[10, 0]), d[10, 1], NODE),
        numba.carray(pointer(d[11, 0]), d[11, 1], RECENT),
        numba.carray(pointer(d[12, 0]), d[12, 1], np.int64),
        numba.carray(pointer(d[13, 0]), d[13, 1], np.int64),
        numba.carray(pointer(d[14, 0]), d[14, 1], np.int64),
        numba.carray(pointer(d[15, 0]), d[15, 1], np.int64),
        numba.carray(pointer(d[16, 0]), d[16, 1], np.int64),
        numba.carray(pointer(d[17, 0]), d[17, 1], np.float64),
    )
