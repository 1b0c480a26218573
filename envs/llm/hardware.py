"""Accelerators and models: their sizes, and what follows from them for an engine's memory.

Names are those of `ReplicaConfig.hardware` and `ReplicaConfig.model`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from makespan.envs.core.registry import unknown_name
from makespan.envs.llm.config import EngineConfig

GIB = 1 << 30


@dataclass(frozen=True)
class HardwareSpec:
    """One accelerator.

    Attributes:
        name: key in `HARDWARE`.
        tflops: dense bfloat16 peak of the matrix units, 1e12 operations/s.
        bandwidth_gb_s: peak memory bandwidth, 1e9 bytes/s.
        memory_bytes: what CUDA reports as total memory (below the nominal size).
        link_gb_s: bytes/s per GPU, in 1e9, that an all-reduce over this node reaches.
        link_latency_ms: duration of an all-reduce of almost nothing.
        max_num_batched_tokens: vLLM's default token budget of a step for the API server.
        max_num_seqs: vLLM's default for the longest running batch.
    """

    name: str
    tflops: float
    bandwidth_gb_s: float
    memory_bytes: int
    link_gb_s: float
    link_latency_ms: float
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256


NVLINK_2 = (82.5, 0.0055)
"""Assumed, not measured: half of `NVLINK_3`, as its nominal rate is."""

NVLINK_3 = (165.0, 0.0055)
"""(GB/s, ms) of 2 (n - 1) / n * bytes, n = 2, 4, 8 GPUs: vLLM's custom all-reduce in CUDA graphs,
AIConfigurator tables of vLLM 0.14 on A100-SXM; error below 20 % in the mean."""

NVLINK_4 = (265.0, 0.005)
"""The same on H100-SXM."""

PCIE_4 = (17.6, 0.03)
"""Assumed, not measured: the share of the nominal rate (32 GB/s) that NVLink reaches, and the
latency of NCCL (Vidur's all-reduce tables, 0.029 to 0.031 ms)."""

PCIE_5 = (35.0, 0.03)

# Peaks: NVIDIA data sheets, as in AIConfigurator's `systems/*.yaml` (commit 095f58a); V100 (whose
# matrix units take float16, not bfloat16), A40 and RTX 4090 are not in there. Memory:
# `torch.cuda.get_device_properties().total_memory`; it varies by about 0.5 % between drivers. Batch
# sizes: `EngineArgs.get_batch_defaults` of vLLM 0.32 (70 GiB or more, but not A100: 8192 tokens and
# 1024 sequences).
HARDWARE: Mapping[str, HardwareSpec] = {
    spec.name: spec
    for spec in (
        HardwareSpec("V100", 125.0, 900.0, int(31.74 * GIB), *NVLINK_2),
        HardwareSpec("A40", 149.7, 696.0, int(44.42 * GIB), *PCIE_4),
        HardwareSpec("A100", 312.0, 2039.0, int(79.25 * GIB), *NVLINK_3),
        HardwareSpec("H100", 989.0, 3350.0, int(79.18 * GIB), *NVLINK_4, 8192, 1024),
        HardwareSpec("H200", 989.0, 4800.0, int(139.8 * GIB), *NVLINK_4, 8192, 1024),
        HardwareSpec("L40S", 362.05, 864.0, int(44.4 * GIB), *PCIE_4),
        HardwareSpec("RTX4090", 165.2, 1008.0, 25_250_627_584, *PCIE_4),
        HardwareSpec("RTXPRO6000", 467.8, 1792.0, int(94.97 * GIB), *PCIE_5, 8192, 1024),
    )
}

DEFAULT_BLOCK_SIZE = 16
"""Tokens per KV block on a GPU (`vllm/config/cache.py`, 0.32)."""

BYTES_PER_PARAMETER: Mapping[str, int] = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder-only transformer; the names are those of a Hugging Face config.json.

    `num_local_experts` above 0 makes every MLP a mixture of experts, each of `intermediate_size`.
    """

    name: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    head_dim: int = 128
    torch_dtype: str = "bfloat16"
    tie_word_embeddings: bool = False
    num_local_experts: int = 0
    num_experts_per_tok: int = 0

    def __post_init__(self) -> None:
        if self.torch_dtype not in BYTES_PER_PARAMETER:
            raise unknown_name("torch_dtype", self.torch_dtype, BYTES_PER_PARAMETER)
        for field in REQUIRED:
            if getattr(self, field) <= 0:
                raise ValueError(f"model {self.name!r}: {field} must be positive")
        if self.num_local_experts > 0 and not (
            0 < self.num_experts_per_tok <= self.num_local_experts
        ):
            raise ValueError(f"model {self.name!r}: num_experts_per_tok must be 1 to all experts")

    @property
    def bytes_per_parameter(self) -> int:
        """Of weights and of the KV cache."""
        return BYTES_PER_PARAMETER[self.torch_dtype]

    @property
    def attention_parameters(self) -> int:
        """Query, key, value and output projections of all layers (biases left out)."""
        heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads
        return self.num_hidden_layers * self.hidden_size * self.head_dim * heads

    def mlp_parameters(self, experts: int) -> int:
        """Gate, up and down projections of `experts` experts in all layers."""
        return self.num_hidden_layers * 3 * self.hidden_size * self.intermediate_size * experts

    @property
    def layer_parameters(self) -> int:
        """Weights of the linear layers, all experts included."""
        router = self.num_hidden_layers * self.hidden_size * self.num_local_experts
        return (
            self.attention_parameters + self.mlp_parameters(max(self.num_local_experts, 1)) + router
        )

    @property
    def active_parameters(self) -> int:
        """Weights of the linear layers that one token passes through."""
        return self.attention_parameters + self.mlp_parameters(max(self.num_experts_per_tok, 1))

    @property
    def head_parameters(self) -> int:
        """Weights of the language-model head."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights: layers, norms, embedding and head."""
        norms = (2 * self.num_hidden_layers + 1) * self.hidden_size
        tables = 1 if self.tie_word_embeddings else 2
        return self.layer_parameters + norms + tables * self.head_parameters

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in all layers, on one GPU without tensor parallelism."""
        elements = 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
        return elements * self.bytes_per_parameter

    def kv_share(self, tensor_parallel: int) -> float:
        """Share of the KV cache on each of `tensor_parallel` GPUs; a head is never split."""
        return max(1.0 / tensor_parallel, 1.0 / self.num_key_value_heads)

    def same_shape(self, other: "ModelConfig") -> bool:
        """Whether steps of both take the same time: all but name and longest context agree."""
        longest = other.max_position_embeddings
        return replace(self, name=other.name, max_position_embeddings=longest) == other


REQUIRED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "head_dim",
)

# Each model's config.json on the Hugging Face hub: hidden size, layers, heads, KV heads, MLP size,
# vocabulary, longest context.
MODELS: Mapping[str, ModelConfig] = {
    config.name: config
    for config in (
        ModelConfig("Llama-2-7B", 4096, 32, 32, 32, 11008, 32000, 4096),
        ModelConfig("Llama-2-70B", 8192, 80, 64, 8, 28672, 32000, 4096),
        ModelConfig("Llama-3-8B", 4096, 32, 32, 8, 14336, 128256, 8192),
        ModelConfig("Llama-3-70B", 8192, 80, 64, 8, 28672, 128256, 8192),
        ModelConfig("Llama-3.1-8B", 4096, 32, 32, 8, 14336, 128256, 131072),
        ModelConfig("Llama-3.1-70B", 8192, 80, 64, 8, 28672, 128256, 131072),
        ModelConfig("Mistral-7B-v0.3", 4096, 32, 32, 8, 14336, 32768, 32768),
        ModelConfig("Qwen2.5-7B", 3584, 28, 28, 4, 18944, 152064, 131072),
    )
}


def hardware_spec(name: str) -> HardwareSpec:
    """The accelerator of this name.

    Raises:
        ValueError: there is none; the message offers the nearest names.
    """
    if name not in HARDWARE:
        raise unknown_name("hardware", name, HARDWARE)
    return HARDWARE[name]


def model_config(name: str) -> ModelConfig:
    """The built-in model of this name, or the one described by the config.json at this path.

    Raises:
        ValueError: neither exists (the message offers the nearest names), or the file is bad.
    """
    if name in MODELS:
        return MODELS[name]
    if not name.endswith(".json"):
        raise unknown_name("model", name, MODELS)
    return read_model_config(Path(name))


def _json_object(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"model config {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"model config {path}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"model config {path}: not a JSON object")
    return fields


def read_model_config(path: Path) -> ModelConfig:
    """Read a Hugging Face config.json of a decoder-only transformer.

    Missing `num_key_value_heads`, `head_dim`, `torch_dtype` and `tie_word_embeddings` get the
    values that the `transformers` library gives them. Mixtures of experts must name
    `num_local_experts` and `num_experts_per_tok` (the Mixtral form).

    Raises:
        ValueError: unreadable file, missing field, or a value that is not a positive integer.
    """
    fields = _json_object(path)
    heads = fields.get("num_attention_heads")
    if isinstance(heads, int) and heads > 0:
        fields.setdefault("num_key_value_heads", heads)
        if fields.get("head_dim") is None and isinstance(fields.get("hidden_size"), int):
            fields["head_dim"] = fields["hidden_size"] // heads
    if "torch_dtype" not in fields:
        fields["torch_dtype"] = fields.get("dtype", "bfloat16")
    sizes = {}
    for name in REQUIRED:
        if type(fields.get(name)) is not int:
            raise ValueError(f"model config {path}: {name} must be an integer")
        sizes[name] = fields[name]
    optional = ("torch_dtype", "tie_word_embeddings", "num_local_experts", "num_experts_per_tok")
    given = {name: fields[name] for name in optional if fields.get(name) is not None}
    name = path.parent.name if path.name == "config.json" else path.stem
    try:
        return ModelConfig(name, **sizes, **given)
    except ValueError as error:
        raise ValueError(f"model config {path}: {error}") from error


def all_reduce_ms(
    hardware: HardwareSpec, model: ModelConfig, tensor_parallel: int
) -> tuple[float, float]:
    """Milliseconds of the two all-reduces per layer: (per step, per token).

    A ring moves 2 (n - 1) / n times the activations of a token over each link.
    """
    if tensor_parallel == 1:
        return 0.0, 0.0
    reduces = 2 * model.num_hidden_layers
    token_bytes = model.hidden_size * model.bytes_per_parameter
    ring = 2 * (tensor_parallel - 1) / tensor_parallel
    return (
        reduces * hardware.link_latency_ms,
        reduces * ring * token_bytes / (hardware.link_gb_s * 1e6),
    )


RUNTIME_BYTES = 600 << 20
"""CUDA context, CUDA graphs and allocator slack, assumed the same everywhere. Chosen so that an
RTX 4090 with Llama-3.1-8B gets the 2,588 blocks that vLLM 0.19 measured there (LLMServingSim,
`bench/examples/RTX4090`), to 1 %."""


def activation_bytes(
    model: ModelConfig, tensor_parallel: int, max_num_batched_tokens: int, max_num_seqs: int
) -> int:
    """Estimate of the peak that vLLM measures in its profiling run, per GPU.

    Per token: hidden states (residual, normed, two temporaries), and gate, up and product of the
    MLP. Per sequence: the logits in the model's type and twice in float32 (the sampler's copies).
    """
    experts = max(model.num_experts_per_tok, 1)
    per_token = 4 * model.hidden_size + 3 * model.intermediate_size * experts / tensor_parallel
    logits = max_num_seqs * model.vocab_size * (model.bytes_per_parameter + 8)
    return int(max_num_batched_tokens * per_token * model.bytes_per_parameter) + logits


def kv_blocks(
    hardware: HardwareSpec,
    model: ModelConfig,
    tensor_parallel: int = 1,
    gpu_memory_utilization: float = EngineConfig.gpu_memory_utilization,
    block_size: int = DEFAULT_BLOCK_SIZE,
    max_num_batched_tokens: int = 0,
    max_num_seqs: int = 0,
) -> int:
    """KV blocks that fit beside the weights; 0 or less if they do not fit.

    floor((utilization * memory - weights - activations - runtime) / bytes per block), per GPU, as
    vLLM sizes its pool. The activations are an estimate (`activation_bytes`): 0 tokens or
    sequences stand for the hardware's defaults.
    """
    tokens = max_num_batched_tokens or hardware.max_num_batched_tokens
    sequences = max_num_seqs or hardware.max_num_seqs
    weights = model.parameters * model.bytes_per_parameter / tensor_parallel
    free = gpu_memory_utilization * hardware.memory_bytes - weights - RUNTIME_BYTES
    free -= activation_bytes(model, tensor_parallel, tokens, sequences)
    return int(free // (block_size * model.kv_bytes_per_token * model.kv_share(tensor_parallel)))
