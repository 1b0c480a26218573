"""From a `ReplicaConfig` to numbers: its step-time model, and its engine with no zeros left."""

from dataclasses import replace

from makespan.envs.llm.coefficients import CROSS_CHECKS, FITTED, Key
from makespan.envs.llm.config import EngineConfig, ReplicaConfig
from makespan.envs.llm.hardware import (
    GIB,
    HARDWARE,
    MODELS,
    HardwareSpec,
    ModelConfig,
    hardware_spec,
    kv_blocks,
    model_config,
)
from makespan.envs.llm.profiles import read_profile
from makespan.envs.llm.roofline import roofline
from makespan.envs.llm.step_time import ClosedForm, StepTimeModel


def _fitted(hardware: HardwareSpec, model: ModelConfig, tensor_parallel: int) -> ClosedForm | None:
    """The fitted set for this model or another of the same shape."""
    for known, name, degree in FITTED:
        if (known, degree) == (hardware.name, tensor_parallel) and model.same_shape(MODELS[name]):
            return FITTED[known, name, degree]
    return None


def _model(replica: ReplicaConfig) -> ModelConfig:
    model = model_config(replica.model)
    if model.num_attention_heads % replica.tensor_parallel:
        raise ValueError(
            f"{model.name} has {model.num_attention_heads} attention heads, which "
            f"tensor_parallel {replica.tensor_parallel} does not divide"
        )
    return model


def step_time(replica: ReplicaConfig) -> StepTimeModel:
    """The step-time model of a replica: its profile, else a fitted set, else the roofline.

    Raises:
        ValueError: unknown hardware or model (the message offers the nearest names), or a bad
            profile or config.json.
    """
    hardware, model = hardware_spec(replica.hardware), _model(replica)
    form: StepTimeModel | None
    if replica.step_model is not None:
        form = replica.step_model
    elif replica.profile:
        form = read_profile(replica.profile, hardware, model, replica.tensor_parallel)
    else:
        form = _fitted(hardware, model, replica.tensor_parallel)
    form = form or roofline(hardware, model, replica.tensor_parallel)
    if replica.step_overhead_ms is not None:
        form = form.with_overhead(replica.step_overhead_ms)
    return form.with_speed(replica.speed)


def _with_batch_sizes(
    engine: EngineConfig, hardware: HardwareSpec, max_model_len: int
) -> EngineConfig:
    """vLLM's defaults of the API server (`EngineArgs`, 0.32) where the configuration has zeros."""
    sequences = engine.max_num_seqs or hardware.max_num_seqs
    tokens = engine.max_num_batched_tokens
    if tokens == 0:
        tokens = hardware.max_num_batched_tokens
        if not engine.enable_chunked_prefill:
            tokens = max(tokens, max_model_len)
        tokens = min(tokens, sequences * max_model_len)
    if engine.max_num_seqs == 0:
        sequences = min(sequences, tokens)
    return replace(engine, max_num_batched_tokens=tokens, max_num_seqs=sequences)


def _pool(replica: ReplicaConfig, engine: EngineConfig, model: ModelConfig) -> int:
    """KV blocks from the memory of the hardware."""
    hardware = hardware_spec(replica.hardware)
    blocks = kv_blocks(
        hardware,
        model,
        replica.tensor_parallel,
        engine.gpu_memory_utilization,
        engine.block_size,
        engine.max_num_batched_tokens,
        engine.max_num_seqs,
    )
    if blocks < 2:
        weights = model.parameters * model.bytes_per_parameter / replica.tensor_parallel
        usable = engine.gpu_memory_utilization * hardware.memory_bytes
        raise ValueError(
            f"{model.name} does not fit on {replica.tensor_parallel} x {hardware.name}: per GPU "
            f"{weights / GIB:.1f} GiB of weights, {usable / GIB:.1f} GiB of usable memory and no "
            "room for a KV cache"
        )
    return blocks


def resolve(replica: ReplicaConfig) -> ReplicaConfig:
    """The same replica with every zero of its engine that means "from the hardware" filled in.

    `max_model_len` becomes the model's longest context, cut to what the KV pool holds without its
    null block. A length that was asked for is not cut, as in vLLM.

    Raises:
        ValueError: unknown names, the model does not fit, or `max_model_len` exceeds the pool.
    """
    model = _model(replica)
    longest = replica.engine.max_model_len or model.max_position_embeddings
    engine = _with_batch_sizes(replica.engine, hardware_spec(replica.hardware), longest)
    blocks = engine.kv_blocks or _pool(replica, engine, model)
    pool = (blocks - 1) * engine.block_size
    if engine.max_model_len > pool:
        raise ValueError(
            f"max_model_len {engine.max_model_len} exceeds the {pool} tokens that "
            f"{blocks} KV blocks hold"
        )
    engine = replace(engine, kv_blocks=blocks, max_model_len=min(longest, pool))
    return replace(replica, engine=engine)


def _row(key: Key, form: ClosedForm, kind: str) -> dict[str, str | int]:
    hardware, model, tensor_parallel = key
    return {
        "hardware": hardware,
        "model": model,
        "tensor_parallel": tensor_parallel,
        "kind": kind,
        "source": form.source,
        "error": form.error,
    }


def hardware_table() -> list[dict[str, str | int]]:
    """Every set of step-time coefficients there is, with its source and its error.

    Columns: hardware, model, tensor_parallel, kind (`fitted`: what a replica gets; `cross-check`: a
    second opinion; `roofline`: what any other model gets there), source, error.
    """
    rows = [_row(key, form, "fitted") for key, form in FITTED.items()]
    rows += [_row(key, form, "cross-check") for key, form in CROSS_CHECKS.items()]
    for hardware in HARDWARE.values():
        form = roofline(hardware, MODELS["Llama-3-8B"])
        source = f"roofline from the data sheet of {hardware.name} and the model's config.json"
        row = _row((hardware.name, "any other", 1), replace(form, source=source), "roofline")
        rows.append(row | {"tensor_parallel": "any"})
    return sorted(rows, key=lambda row: list(HARDWARE).index(str(row["hardware"])))
