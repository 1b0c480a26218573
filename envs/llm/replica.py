"""From a `ReplicaConfig` to numbers: its step-time model, and its engine with no zeros left."""

from dataclasses import replace
from pathlib import Path

from makespan.envs.llm.coefficients import CROSS_CHECKS, FITTED, Key
from makespan.envs.llm.config import EngineConfig, ReplicaConfig
from makespan.envs.llm.hardware import (
    DEFAULT_BLOCK_SIZE,
    GIB,
    HARDWARE,
    MODELS,
    HardwareSpec,
    ModelConfig,
    hardware_spec,
    kv_blocks,
    model_config,
)
from makespan.envs.llm.hardware_file import (
    LIMITS,
    MeasuredHardware,
    is_hardware_file,
    read_hardware,
)
from makespan.envs.llm.profiles import read_profile
from makespan.envs.llm.roofline import roofline
from makespan.envs.llm.step_time import ClosedForm, StepTimeModel

DEFAULT_MODEL = "Llama-2-7B"
"""Of a replica that names none, on hardware that was not measured with one."""


def _measured(replica: ReplicaConfig) -> MeasuredHardware | None:
    """What the hardware file of the replica says, if it has one.

    Raises:
        ValueError: it is bad, or the replica asks for what was not measured.
    """
    if not is_hardware_file(replica.hardware):
        return None
    measured = read_hardware(Path(replica.hardware))
    if replica.model not in ("", measured.model):
        raise ValueError(
            f"{replica.hardware} was measured with model {measured.model!r}, not {replica.model!r}"
        )
    if replica.tensor_parallel != 1:
        raise ValueError(
            f"{replica.hardware} was measured as it is: tensor_parallel must be 1, "
            f"not {replica.tensor_parallel}"
        )
    engine = replica.engine
    if not engine.kv_blocks and engine.block_size not in (0, measured.engine.block_size):
        raise ValueError(
            f"{replica.hardware} has blocks of {measured.engine.block_size} tokens: another "
            "block_size needs its kv_blocks"
        )
    if replica.profile:
        raise ValueError(f"{replica.hardware} has step times of its own: give no profile with it")
    return measured


def served_model(replica: ReplicaConfig) -> str:
    """Name of the model that the replica serves.

    Raises:
        ValueError: its hardware file is bad.
    """
    measured = _measured(replica)
    return measured.model if measured else replica.model or DEFAULT_MODEL


def _fitted(hardware: HardwareSpec, model: ModelConfig, tensor_parallel: int) -> ClosedForm | None:
    """The fitted set for this model or another of the same shape."""
    for known, name, degree in FITTED:
        if (known, degree) == (hardware.name, tensor_parallel) and model.same_shape(MODELS[name]):
            return FITTED[known, name, degree]
    return None


def _model(replica: ReplicaConfig) -> ModelConfig:
    model = model_config(replica.model or DEFAULT_MODEL)
    if model.num_attention_heads % replica.tensor_parallel:
        raise ValueError(
            f"{model.name} has {model.num_attention_heads} attention heads, which "
            f"tensor_parallel {replica.tensor_parallel} does not divide"
        )
    return model


def step_time(replica: ReplicaConfig) -> StepTimeModel:
    """The step-time model of a replica.

    The first that there is: `step_model`, the hardware file, the profile, a fitted set, the
    roofline.

    Raises:
        ValueError: unknown hardware or model (the message offers the nearest names), or a bad
            hardware file, profile or config.json.
    """
    measured = _measured(replica)
    form: StepTimeModel
    if replica.step_model is not None:
        form = replica.step_model
    elif measured:
        form = measured.step_time
    else:
        form = _of_the_hardware(replica)
    if replica.step_overhead_ms is not None:
        form = form.with_overhead(replica.step_overhead_ms)
    return form.with_speed(replica.speed)


def _of_the_hardware(replica: ReplicaConfig) -> StepTimeModel:
    """From the profile, a fitted set or the roofline."""
    parts = hardware_spec(replica.hardware), _model(replica), replica.tensor_parallel
    if replica.profile:
        return read_profile(replica.profile, *parts)
    return _fitted(*parts) or roofline(*parts)


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
    """The same replica with every zero of its engine that means "the hardware's" filled in.

    `max_model_len` becomes the model's longest context, cut to what the KV pool holds without its
    null block. A length that was asked for is not cut, as in vLLM.

    Raises:
        ValueError: unknown names, a bad hardware file, the model does not fit, or `max_model_len`
            exceeds the pool.
    """
    measured = _measured(replica)
    engine = replica.engine
    if measured:
        limits = {name: getattr(engine, name) or getattr(measured.engine, name) for name in LIMITS}
        longest = limits.pop("max_model_len")
        engine = replace(engine, **limits)
    else:
        engine, longest = _engine_on(replica)
    pool = (engine.kv_blocks - 1) * engine.block_size
    if replica.engine.max_model_len > pool:
        raise ValueError(
            f"max_model_len {replica.engine.max_model_len} exceeds the {pool} tokens that "
            f"{engine.kv_blocks} KV blocks hold"
        )
    return replace(replica, engine=replace(engine, max_model_len=min(longest, pool)))


def _engine_on(replica: ReplicaConfig) -> tuple[EngineConfig, int]:
    """The engine on hardware that is described by its data sheet, and the longest sequence."""
    model = _model(replica)
    longest = replica.engine.max_model_len or model.max_position_embeddings
    engine = _with_batch_sizes(replica.engine, hardware_spec(replica.hardware), longest)
    engine = replace(engine, block_size=engine.block_size or DEFAULT_BLOCK_SIZE)
    return replace(engine, kv_blocks=engine.kv_blocks or _pool(replica, engine, model)), longest


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
