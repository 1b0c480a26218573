"""Configuration of the LLM serving world: frozen, validated, and the only source of constants.

Engine defaults are those of vLLM 0.32 (`vllm/config/scheduler.py`, `vllm/config/cache.py`), so an
older version is expressed by naming what differed.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, get_args

from makespan.envs.core.registry import unknown_name

Policy = Literal["fcfs", "priority", "sjf"]
Admission = Literal["vllm", "conservative", "past_future"]
PredictorKind = Literal["none", "oracle", "bucket", "class_mean"]
OnFailure = Literal["reroute", "fail"]
HoldOrder = Literal["fcfs", "shortest"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown_name(name, value, known)


@dataclass(frozen=True)
class EngineConfig:
    """One vLLM engine.

    Attributes:
        block_size: tokens per KV block, a multiple of 16; 0: the hardware file's, else 16.
        kv_blocks: KV blocks of the pool, the null block included; 0: from the hardware's memory,
            or what its file says. Of the limits that follow, 0 means the same.
        gpu_memory_utilization: share of memory the engine may use when `kv_blocks` is 0.
        max_num_batched_tokens: token budget of a step; 0: vLLM's default for the hardware.
        max_num_seqs: longest running batch; 0: vLLM's default for the hardware.
        max_model_len: longest sequence; 0: the model's, cut to what the KV pool holds.
        enable_prefix_caching: keep and share full KV blocks.
        enable_chunked_prefill: split prompts over steps.
        long_prefill_token_threshold: cap on one request's tokens in a step; 0: none.
        scheduler_reserve_full_isl: admit only if the whole prompt's blocks are free.
        watermark: fraction of the pool kept free at admission while something runs.
        policy: order of the waiting queue and choice of the preemption victim.
            `fcfs` and `priority` are vLLM's; `sjf` ranks by predicted output length.
        starvation_steps: under `sjf`, a request passed over for this many steps is promoted ...
        starvation_quantum: ... for this many steps (vllm-ltr: 200 and 10); 0 steps: no guard.
        admission: `vllm` (whatever fits now), `conservative` (prompt plus maximum output of all
            must fit) or `past_future` (predicted peak must fit, arXiv 2507.10150).
        reserved_output_tokens: output that `conservative` admission reserves for every request
            (the `max_tokens` of its clients).
        max_num_queued_requests: reject when this many wait; 0: never (vLLM answers 503).
    """

    block_size: int = 0
    kv_blocks: int = 0
    gpu_memory_utilization: float = 0.92
    max_num_batched_tokens: int = 0
    max_num_seqs: int = 0
    max_model_len: int = 0
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0
    policy: Policy = "fcfs"
    starvation_steps: int = 200
    starvation_quantum: int = 10
    admission: Admission = "vllm"
    reserved_output_tokens: int = 2048
    max_num_queued_requests: int = 0

    def __post_init__(self) -> None:
        _require(
            self.block_size >= 0 and self.block_size % 16 == 0,
            f"block_size must be a multiple of 16, not {self.block_size}",
        )
        _require_one_of("engine policy", self.policy, get_args(Policy))
        _require_one_of("admission", self.admission, get_args(Admission))
        _require(0 < self.gpu_memory_utilization <= 1, "gpu_memory_utilization must be in (0, 1]")
        _require(0 <= self.watermark < 1, "watermark must be in [0, 1)")
        for name in (
            "kv_blocks",
            "max_num_batched_tokens",
            "max_num_seqs",
            "max_model_len",
            "long_prefill_token_threshold",
            "starvation_steps",
            "starvation_quantum",
            "reserved_output_tokens",
            "max_num_queued_requests",
        ):
            _require(getattr(self, name) >= 0, f"{name} must not be negative")
        _require(self.kv_blocks != 1, "kv_blocks must be at least 2: block 0 is the null block")


@dataclass(frozen=True)
class ReplicaConfig:
    """One replica: what it runs on and how.

    Attributes:
        hardware: name in `makespan.envs.llm.hardware.HARDWARE`, or path of the file of an engine
            that was measured (`.toml`, see `makespan.envs.llm.hardware_file`).
        model: name in `makespan.envs.llm.hardware.MODELS`, or path of a config.json; empty: what
            the hardware file was measured with, else Llama-2-7B.
        tensor_parallel: number of GPUs that share the model.
        engine: engine settings.
        speed: factor on the step rate (2.0 halves every step time).
        step_overhead_ms: time the engine adds to every step; None: the profile's default.
        profile: path of measured kernel tables; empty: the fitted formula, else the roofline.
        step_model: a `ClosedForm` or `TableModel` of your own (`makespan.envs.llm.step_time`), used
            instead of all these; `speed` and `step_overhead_ms` still apply.
    """

    hardware: str = "A100"
    model: str = ""
    tensor_parallel: int = 1
    engine: EngineConfig = field(default_factory=EngineConfig)
    speed: float = 1.0
    step_overhead_ms: float | None = None
    profile: str = ""
    step_model: Any = None

    def __post_init__(self) -> None:
        _require(self.tensor_parallel > 0, "tensor_parallel must be positive")
        _require(self.speed > 0, f"speed must be positive, not {self.speed}")
        _require(
            self.step_overhead_ms is None or self.step_overhead_ms >= 0,
            "step_overhead_ms must not be negative",
        )


@dataclass(frozen=True)
class GaugeConfig:
    """How the router polls `/metrics` (llm-d: 50 ms; vLLM data parallel: 100 ms; Prometheus: 15 s).

    Attributes:
        period_s: seconds between scrapes.
        lag_s: a scrape shows the engine as it was this long before.
        miss_probability: chance that a scrape fails; the old values stay and age.
        stuck_probability: chance per scrape that the gauge sticks: it goes on answering the old
            values as if they were fresh (vLLM issue 29928) ...
        stuck_s: ... for this long.
    """

    period_s: float = 0.1
    lag_s: float = 0.0
    miss_probability: float = 0.0
    stuck_probability: float = 0.0
    stuck_s: float = 0.0

    def __post_init__(self) -> None:
        _require(1e-6 <= self.period_s < inf, "gauge period_s must be finite, at least 1e-6")
        _require(0 <= self.lag_s <= 1e6 * self.period_s, "gauge lag_s must be 0 to 1e6 periods")
        _require(self.stuck_s >= 0, "gauge stuck_s must not be negative")
        for name in ("miss_probability", "stuck_probability"):
            _require(0 <= getattr(self, name) <= 1, f"gauge {name} must be in [0, 1]")


@dataclass(frozen=True)
class PredictorConfig:
    """What the router (and an `sjf` engine) knows of output lengths.

    Attributes:
        kind: `none`; `oracle` (the truth times lognormal noise of `error`); `bucket` (the mean of
            a length bucket, the right one with probability `accuracy`); `class_mean` (the mean of
            the request's SLO class).
        error: standard deviation of the logarithm of the oracle's noise.
        accuracy: of the bucket classifier (arXiv 2408.13510 reports 0.79).
    """

    kind: PredictorKind = "bucket"
    error: float = 0.0
    accuracy: float = 0.8

    def __post_init__(self) -> None:
        _require_one_of("predictor", self.kind, get_args(PredictorKind))
        _require(self.error >= 0, "predictor error must not be negative")
        _require(0 <= self.accuracy <= 1, "predictor accuracy must be in [0, 1]")


@dataclass(frozen=True)
class Outage:
    """Replica `replica` is down from `start_s` for `duration_s`, then starts cold."""

    replica: int
    start_s: float
    duration_s: float

    def __post_init__(self) -> None:
        _require(self.replica >= 0, "outage replica must not be negative")
        _require(self.start_s >= 0, "outage start_s must not be negative")
        _require(self.duration_s > 0, "outage duration_s must be positive")


@dataclass(frozen=True)
class FleetConfig:
    """N replicas behind one router.

    Attributes:
        replicas: one entry per replica; mixed hardware is a mixed tuple.
        gauges: how `/metrics` is polled.
        predictor: output-length prediction.
        can_hold: give the policy the action of holding a request in the router.
        hold_order: which held request the policy looks at first when something finishes: the one
            held longest (`fcfs`), or the one that is expected to be the least work (`shortest`).
        outages: when replicas fail.
        on_failure: `reroute` sends what a failed replica held through the router again,
            `fail` counts it as failed.
        cold_start_s: seconds from the end of an outage until the replica serves again.
        prefix_index_blocks: size of the router's approximate prefix index, blocks per replica,
            least recently used first out (llm-d: 31,250).
    """

    replicas: tuple[ReplicaConfig, ...] = (ReplicaConfig(),) * 4
    gauges: GaugeConfig = field(default_factory=GaugeConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    can_hold: bool = False
    hold_order: HoldOrder = "fcfs"
    outages: tuple[Outage, ...] = ()
    on_failure: OnFailure = "reroute"
    cold_start_s: float = 0.0
    prefix_index_blocks: int = 31_250

    def __post_init__(self) -> None:
        _require_one_of("on_failure", self.on_failure, get_args(OnFailure))
        _require_one_of("hold_order", self.hold_order, get_args(HoldOrder))
        _require(len(self.replicas) > 0, "a fleet needs at least one replica")
        _require(self.cold_start_s >= 0, "cold_start_s must not be negative")
        _require(self.prefix_index_blocks > 0, "prefix_index_blocks must be positive")
        for outage in self.outages:
            _require(
                outage.replica < len(self.replicas),
                f"outage names replica {outage.replica}, the fleet has {len(self.replicas)}",
            )
