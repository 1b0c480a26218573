"""Step times from data sheets, for the pairs of accelerator and model that nobody measured.

Each kernel takes the larger of its time in the matrix units and its time in memory, at the shares
of the peak that real kernels reach. The shares are medians over the sets in
`makespan.envs.llm.coefficients`, one set of shares for all hardware; BLIS, which fits end-to-end
latencies, has 0.73 of the bandwidth for weights (`sim/latency/trained_physics_model.go`, beta 3 =
1.3625), and AIConfigurator assumes 0.8 (`systems/*.yaml`, `mem_bw_empirical_scaling_factor`).
"""

from makespan.envs.llm.hardware import HardwareSpec, ModelConfig, all_reduce_ms
from makespan.envs.llm.step_time import ClosedForm

MATRIX_SHARE = 0.8
"""Of peak operations, in large matrix products."""

ATTENTION_SHARE = 0.58
"""Of peak operations, in prefill attention."""

WEIGHT_SHARE = 0.73
"""Of peak bandwidth, reading weights in small batches."""

KV_SHARE = 0.82
"""Of peak bandwidth, reading the KV cache in decode attention."""

LAUNCH_MS = 0.012
"""Attention kernels of one layer with almost nothing to do (0.010 to 0.019 ms in the sets)."""

OVERHEAD_MS = 1.0
"""What an engine adds to every step, where nothing better is known.

Of 0.5 and 1.0 ms, the one with which the closed form meets a run of a real vLLM 0.19 on an RTX PRO
6000 better: +0.3 % of its mean end-to-end latency against -1.9 % (`docs/llm_serving.md`).
"""


def roofline(hardware: HardwareSpec, model: ModelConfig, tensor_parallel: int = 1) -> ClosedForm:
    """Step-time model of `model` on `tensor_parallel` of these accelerators.

    Linear layers: all weights are read once per step (of a mixture of experts, every expert, as in
    large batches), or 2 operations per active weight and token. Decode attention reads the cached
    keys and values; prefill attention does 4 operations per query, key and head dimension. Two
    all-reduces per layer are added under tensor parallelism.
    """
    flops_per_ms = hardware.tflops * 1e9
    bytes_per_ms = hardware.bandwidth_gb_s * 1e6
    weight_bytes = model.bytes_per_parameter / tensor_parallel
    layers = model.num_hidden_layers
    reduce, reduce_per_token = all_reduce_ms(hardware, model, tensor_parallel)
    read = model.layer_parameters * weight_bytes / (bytes_per_ms * WEIGHT_SHARE)
    multiply = 2 * model.active_parameters / (tensor_parallel * flops_per_ms * MATRIX_SHARE)
    kv_bytes = model.kv_bytes_per_token * model.kv_share(tensor_parallel)
    pair_flops = 4 * layers * model.num_attention_heads * model.head_dim / tensor_parallel
    head_read = model.head_parameters * weight_bytes / (bytes_per_ms * WEIGHT_SHARE)
    return ClosedForm(
        linear=((reduce + read, reduce_per_token), (reduce, reduce_per_token + multiply)),
        decode=(LAUNCH_MS * layers, 0.0, kv_bytes / (bytes_per_ms * KV_SHARE)),
        prefill=(LAUNCH_MS * layers, 0.0, pair_flops / (flops_per_ms * ATTENTION_SHARE)),
        mixed=None,
        lm_head=(head_read, 0.0),
        overhead_ms=OVERHEAD_MS,
        source=f"roofline from the data sheet of {hardware.name} and the shape of {model.name}",
        error="typical steps take 0.74 to 1.22 times as long as in the fitted sets",
    )
