"""The memory of a fleet: flat arrays of records that the kernels work on.

All replicas live in the same arrays, each in its own slice, so that a fleet is two dozen arrays
whatever its size. Python sees a named tuple of record arrays; compiled code sees the same
attributes on a single address (`attach`).
"""

from collections import namedtuple
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload_attribute, register_model

from makespan.envs.core.compiled import pointer
from makespan.envs.llm.decision import RECENT

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
        # What every step reads of every running request: one line of the processor's cache.
        ("computed", np.int64),  # tokens whose keys and values are in the cache
        ("prompt", np.int64),
        ("generated", np.int64),
        ("scheduled", np.int64),  # tokens in the current step
        ("output", np.int64),  # tokens it will generate: hidden from every policy
        ("blocks", np.int64),  # KV blocks held
        ("first_token_s", np.float64),
        ("slot", np.int64),  # row of the block table
        # The rest.
        ("hashed_blocks", np.int64),  # of its blocks, full and entered in the prefix cache
        ("arrival_s", np.float64),
        ("sent_s", np.float64),  # last time it was sent to a replica
        ("finish_s", np.float64),
        ("priority", np.float64),
        ("rank", np.float64),  # order among waiting requests when the policy is not FCFS
        ("predicted", np.float64),  # predicted output tokens, nan: none
        ("hash_start", np.int64),
        ("hash_count", np.int64),
        ("waiting_since", np.int64),  # engine step at which it began to wait
        ("promoted_until", np.int64),  # engine step at which its promotion ends; 0: none
        ("cached_tokens", np.int64),  # prompt tokens found in the prefix cache
        ("uncached", np.int64),  # prompt tokens the router expects to be computed
        ("queued", np.int64),  # uncached tokens ahead of it when it was sent
        ("next", np.int64),  # neighbours in the waiting queue
        ("previous", np.int64),
        ("replica", np.int64),
        ("preemptions", np.int64),
        ("attempts", np.int64),
        ("status", np.int64),
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        # Configuration (see EngineConfig).
        ("block_size", np.int64),
        ("kv_blocks", np.int64),
        ("token_budget", np.int64),
        ("max_num_seqs", np.int64),
        ("max_model_len", np.int64),
        ("caching", np.int64),
        ("chunking", np.int64),
        ("long_prefill", np.int64),
        ("reserve_prompt", np.int64),
        ("watermark_blocks", np.int64),
        ("policy", np.int64),
        ("starvation_steps", np.int64),
        ("starvation_quantum", np.int64),
        ("admission", np.int64),
        ("reserved_output", np.int64),
        ("max_queue", np.int64),
        ("jumping", np.int64),  # 0: one step at a time (the reference the jumps are tested against)
        # Where its slices of the flat arrays begin.
        ("model_start", np.int64),
        ("model_stop", np.int64),
        ("table_width", np.int64),
        ("map_capacity", np.int64),
        ("index_capacity", np.int64),  # of the router's prefix index: hash map entries
        ("index_nodes", np.int64),  # and nodes, one more than blocks for the list's sentinel
        ("block_start", np.int64),
        ("table_start", np.int64),
        ("list_start", np.int64),  # of the running list and of the free slots
        ("map_start", np.int64),
        ("index_start", np.int64),
        ("node_start", np.int64),
        # State.
        ("running", np.int64),
        ("waiting", np.int64),
        ("waiting_head", np.int64),
        ("waiting_tail", np.int64),
        ("free_blocks", np.int64),
        ("free_slots", np.int64),
        ("index_used", np.int64),
        ("busy", np.int64),
        ("jump_steps", np.int64),  # decode steps in the run under way, 1 for a single step
        ("preempted", np.int64),  # requests preempted in this step
        ("steps", np.int64),
        ("jumps", np.int64),
        ("start_s", np.float64),  # of the step or run under way
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
        ("recent", np.int64),  # finished requests ever; the ring holds the last 64
        # Of its gauges.
        ("stuck_until_s", np.float64),
        ("noise", np.int64),  # state of the generator that decides what goes wrong with them
    ],
    align=True,
)

BLOCK = np.dtype(
    [
        ("key", np.int64),  # its hash; hash_map.NO_KEY while it is not in the prefix cache
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

FLEET = np.dtype(
    [
        # Configuration (see GaugeConfig).
        ("period_s", np.float64),
        ("lag_s", np.float64),
        ("miss_probability", np.float64),
        ("stuck_probability", np.float64),
        ("stuck_s", np.float64),
        ("depth", np.int64),  # scrapes that are kept, since they may be the one the router sees
        ("origin_s", np.float64),  # of the first arrival
        # State.
        ("scrapes", np.int64),  # number of the next scrape; it is due at that many periods
        ("samples", np.int64),  # scrapes kept for the timeline, ...
        ("every", np.int64),  # ... one of so many
        ("finished", np.int64),  # requests
        ("finishes_s", np.float64),  # sum of the times since the origin at which they finished
    ],
    align=True,
)
"""What concerns all replicas; there is one of it."""

GAUGE = np.dtype(
    [
        ("running", np.float64),
        ("waiting", np.float64),
        ("kv_usage", np.float64),
        ("scraped_s", np.float64),
    ],
    align=True,
)
"""One replica's gauges in one scrape."""

RECENT_LENGTH = 64

NOISE_MODULUS = 2**31 - 1
"""Of the generator of gauge faults (`makespan.envs.llm.gauges.happens`)."""

MOST_SAMPLES = 4096
"""Length at which the timeline is thinned to half."""

ARRAYS = {
    "fleet": FLEET,
    "requests": REQUEST,
    "replicas": REPLICA,
    "end_s": np.dtype(np.float64),  # end of each engine's run, or when an idle one is to begin
    "up": np.dtype(np.bool_),  # replicas that answer
    "blocks": BLOCK,
    "table": np.dtype(np.int32),  # KV blocks of each running request
    "running": np.dtype(np.int64),  # running requests, in order
    "slots": np.dtype(np.int64),  # free rows of the table, as a stack
    "map": np.dtype(np.int64),  # prefix cache: hash -> first block
    "hashes": np.dtype(np.int64),  # of the workload
    "models": np.dtype(np.float64),  # packed step-time models
    "index": np.dtype(np.int64),  # router's prefix index: hash -> node
    "nodes": NODE,
    "recent": RECENT,
    "in_flight": np.dtype(np.int64),  # router: requests per replica
    "prefill_tokens": np.dtype(np.int64),  # router: uncached tokens without a first token
    "decoding": np.dtype(np.int64),  # router: requests past their first token
    "streaming": np.dtype(np.int64),  # answer of the last count of tokens being decoded
    "matches": np.dtype(np.int64),  # answer of the last prefix look-up
    "board": GAUGE,  # what each replica last answered to a scrape
    "scrapes": GAUGE,  # the board after each of the last scrapes, in turn
    "samples": GAUGE,  # timeline of the true gauges
    "gauges": np.dtype(np.float64),  # answer of the last reading of the gauges, (4, N)
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


class CompiledState(types.Type):
    """What compiled code sees of a `State`: the address of its directory.

    Two dozen arrays are a kilobyte of descriptors, too much to hand from function to function; an
    attribute of this type looks its array up instead.
    """

    def __init__(self) -> None:
        super().__init__(name="State")


@register_model(CompiledState)
class CompiledStateModel(models.PrimitiveModel):
    """A `CompiledState` is one 64-bit integer."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.IntType(64))


@intrinsic
def attach(_context: Any, address: Any) -> Any:
    """The state behind `address`."""
    return CompiledState()(types.int64), lambda _c, _b, _s, arguments: arguments[0]


@intrinsic
def address_of(_context: Any, state: Any) -> Any:
    """The address behind `state`."""
    return types.int64(CompiledState()), lambda _c, _b, _s, arguments: arguments[0]


def _expose(position: int, name: str, dtype: np.dtype) -> None:
    """Let compiled code read array `name` of a state, the one at `position` in the directory."""
    item = dtype if dtype.names else dtype.type

    @overload_attribute(CompiledState, name)
    def attribute(state):
        def look_up(state):
            entry = numba.carray(pointer(address_of(state) + 16 * position), 2, np.int64)
            return numba.carray(pointer(entry[0]), entry[1], item)

        return look_up


for _position, (_name, _dtype) in enumerate(ARRAYS.items()):
    _expose(_position, _name, _dtype)
