"""Fitted step-time coefficients, in one table: `FITTED` by (hardware, model, tensor parallel).

Three sources, all bfloat16:

* AIConfigurator (ai-dynamo/aiconfigurator, commit 095f58a), kernel tables of vLLM 0.14 on A100-SXM,
  H100-SXM, H200 and L40S. The dense sums include the all-reduces of tensor parallelism, as
  their slopes show. The base of the attention kernels was fitted for decode and serves prefill
  too, once per step: without it the prefill tables are missed by 26 % in the mean, with it by 9 to
  14 %. How attention slows down in mixed steps is unknown there: the terms add up.
* Vidur (microsoft/vidur, `mlp.csv`): linear layers only. All-reduces are added; attention and the
  language-model head come from the roofline (A40) or from the AIConfigurator set (`CROSS_CHECKS`,
  second opinions that nothing uses by default).
* LLMServingSim (casys-kaist/LLMServingSim, commit 5daddb2), profiles of vLLM 0.19 on RTX 4090 and
  RTX PRO 6000: the only sets with a measured mixed-step term, and the only ones checked end to end.

A range of the language-model head, as in 0.66 to 1.01 ms, is its time for 1 and for 256 sequences;
between (and beyond) them it is taken as linear.
"""

from collections.abc import Mapping
from dataclasses import replace

from makespan.envs.llm.hardware import HARDWARE, MODELS, all_reduce_ms
from makespan.envs.llm.roofline import OVERHEAD_MS, roofline
from makespan.envs.llm.step_time import ClosedForm

Key = tuple[str, str, int]
Lines = tuple[tuple[float, float], tuple[float, float]]


def _aiconfigurator(
    linear: Lines,
    attention: tuple[float, float, float],
    prefill: tuple[float, float],
    head: tuple[float, float],
    error: str,
) -> ClosedForm:
    """One AIConfigurator set: the base of `attention` serves prefill too; `head` is its range."""
    per_sequence = (head[1] - head[0]) / 255
    return ClosedForm(
        linear=linear,
        decode=attention,
        prefill=(attention[0], *prefill),
        mixed=None,
        lm_head=(head[0] - per_sequence, per_sequence),
        overhead_ms=OVERHEAD_MS,
        source="fit to AIConfigurator kernel tables, vLLM 0.14",
        error=f"{error}; mixed steps additive",
    )


_AICONFIGURATOR: dict[Key, ClosedForm] = {
    ("A100", "Llama-2-7B", 1): _aiconfigurator(
        ((8.84, 0.0280), (4.62, 0.0473)),
        (0.58, 0.0271, 3.13e-4),
        (1.2e-3, 2.86e-6),
        (0.18, 0.33),
        "dense mean 3.9 %, max 18 %; decode attention 10 %; prefill attention 4 %",
    ),
    ("A100", "Llama-3-8B", 1): _aiconfigurator(
        ((9.61, 0.0300), (4.96, 0.0508)),
        (0.58, 0.0068, 7.81e-5),
        (8.3e-4, 2.90e-6),
        (0.66, 1.01),
        "dense mean 4.6 %, max 21 %",
    ),
    ("A100", "Llama-3-8B", 2): _aiconfigurator(
        ((5.40, 0.0141), (3.36, 0.0298)),
        (0.60, 0.0033, 4.10e-5),
        (5.7e-4, 1.53e-6),
        (0.34, 0.52),
        "not stated; TP1 has dense mean 4.6 %",
    ),
    ("A100", "Llama-3-70B", 4): _aiconfigurator(
        ((25.23, 0.0707), (16.04, 0.1425)),
        (1.54, 0.0041, 5.60e-5),
        (9.4e-4, 3.83e-6),
        (0.64, 0.99),
        "dense mean 2.6 %, max 8 %",
    ),
    ("A100", "Llama-3-70B", 8): _aiconfigurator(
        ((14.83, 0.0612), (10.04, 0.0916)),
        (1.20, 0.0008, 2.87e-5),
        (4.0e-4, 2.05e-6),
        (0.32, 0.50),  # half of TP4
        "dense mean 5.4 %, max 18 %; decode attention 15 %; head taken as half of TP4",
    ),
    ("H100", "Llama-2-7B", 1): _aiconfigurator(
        ((4.80, 0.0039), (0.30, 0.0165)),
        (0.32, 0.0230, 1.58e-4),
        (7.8e-4, 8.68e-7),
        (0.10, 0.10),
        "dense mean 6 %, max 41 %; decode attention 10 %; prefill attention 8 %",
    ),
    ("H100", "Llama-3-8B", 1): _aiconfigurator(
        ((5.19, 0.0040), (1.39, 0.0161)),
        (0.32, 0.0058, 3.95e-5),
        (5.9e-4, 8.29e-7),
        (0.43, 0.43),
        "dense mean 3 %, max 10 %; prefill attention 5 %",
    ),
    ("H100", "Llama-3-8B", 2): _aiconfigurator(
        ((3.12, 0.0038), (0.52, 0.0114)),
        (0.35, 0.0028, 2.15e-5),
        (3.8e-4, 4.45e-7),
        (0.215, 0.215),  # half of TP1
        "not stated; TP1 has dense mean 3 %; head taken as half of TP1",
    ),
    ("H100", "Llama-3-70B", 4): _aiconfigurator(
        ((13.29, 0.0219), (0.80, 0.0610)),
        (0.92, 0.0033, 3.07e-5),
        (5.7e-4, 1.08e-6),
        (0.36, 0.36),
        "dense mean 4.5 %, max 31 %; decode attention 15 %",
    ),
    ("H100", "Llama-3-70B", 8): _aiconfigurator(
        ((8.09, 0.0216), (4.78, 0.0364)),
        (0.97, 0.0015, 1.87e-5),
        (2.3e-4, 6.08e-7),
        (0.18, 0.18),  # half of TP4
        "dense mean 4.3 %, max 11 %; decode attention 21 %; head taken as half of TP4",
    ),
    ("H200", "Llama-3-8B", 1): _aiconfigurator(
        ((4.04, 0.0035), (0.53, 0.0179)),
        (0.34, 0.0059, 2.89e-5),
        (5.3e-4, 8.39e-7),
        (0.26, 0.36),
        "dense not stated; decode attention 8 %; prefill attention 8 %",
    ),
    # The decode tables of the L40S hold whole KV caches below its 96 MB of L2; a model's layers
    # evict each other, so only measurements above 200 MB a layer are used (26 points).
    ("L40S", "Llama-3-8B", 1): replace(
        _aiconfigurator(
            ((21.18, 0.0179), (-0.90, 0.0547)),
            (0.735, 0.0029, 1.81e-4),
            (6.8e-4, 2.87e-6),
            (1.64, 1.85),
            "dense not stated; decode attention 3 % above the L2 size; prefill attention 18 %",
        ),
        prefill=(0.238, 6.8e-4, 2.87e-6),
    ),
}

_SERVING_SIM = "fit to LLMServingSim profiles, vLLM 0.19, Llama-3.1-8B"

_LLMSERVINGSIM: dict[Key, ClosedForm] = {
    ("RTX4090", "Llama-3-8B", 1): ClosedForm(
        linear=((15.51, 0.0303), (5.21, 0.0881)),
        decode=(0.366, 0.00635, 1.415e-4),
        prefill=(0.348, 3.03e-4, 4.56e-6),
        mixed=(0.837, 0.0338, 3.03e-4, 3.9e-4, 4.70e-6),
        lm_head=(1.104, 0.0030),
        overhead_ms=OVERHEAD_MS,
        source=_SERVING_SIM,
        error="dense mean 2.3 %, max 16 %; attention means: decode 9 %, prefill 24 %, mixed 25 %; "
        "end to end against a real run, overhead chosen on another card's: TTFT +1.7 %, "
        "TPOT -0.2 %, E2E +1.2 %",
    ),
    ("RTXPRO6000", "Llama-3-8B", 1): ClosedForm(
        linear=((9.94, 0.0169), (5.36, 0.0352)),
        decode=(0.370, 0.0036, 9.14e-5),
        prefill=(0.348, 0.0, 2.59e-6),
        mixed=(1.03, 0.0135, 1.566e-4, 0.0, 2.35e-6),
        lm_head=(0.703, 0.0011),
        overhead_ms=OVERHEAD_MS,
        source=_SERVING_SIM,
        error="dense mean 2.9 %, max 13 %; attention means: decode 6 %, prefill 32 %, mixed 30 %; "
        "end to end against a real run, overhead chosen on it: TTFT -0.3 %, TPOT +0.5 %, "
        "E2E +0.3 %",
    ),
}

# Vidur's linear layers without all-reduces, and their error.
_VIDUR: dict[Key, tuple[Lines, str]] = {
    ("A40", "Llama-2-7B", 1): (((24.46, 0.0640), (13.96, 0.1209)), "mean 3 %, max 13 %"),
    ("A40", "Llama-2-70B", 8): (((33.80, 0.0786), (15.79, 0.1709)), "not stated"),
    ("A100", "Llama-2-7B", 1): (((8.22, 0.0456), (1.56, 0.0650)), "mean 3.2 %, max 18 %"),
    ("A100", "Llama-3-8B", 1): (((9.74, 0.0303), (5.32, 0.0672)), "mean 2.4 %, max 20 %"),
    ("A100", "Llama-3-70B", 4): (((24.62, 0.0691), (13.84, 0.1602)), "not stated"),
    ("A100", "Llama-3-70B", 8): (((13.88, 0.0441), (8.96, 0.0849)), "not stated"),
    ("H100", "Llama-2-7B", 1): (((5.40, 0.0147), (3.85, 0.0197)), "mean 4.3 %, max 15 %"),
    ("H100", "Llama-2-70B", 4): (((14.73, 0.0139), (9.68, 0.0534)), "not stated"),
    ("H100", "Llama-2-70B", 8): (((8.47, 0.0175), (7.03, 0.0296)), "mean 5.3 %, max 26 %"),
}


def _llama_2_70b() -> dict[Key, ClosedForm]:
    """The layers of Llama-3-70B are those of Llama-2-70B; the head scales with the vocabulary."""
    ratio = MODELS["Llama-2-70B"].vocab_size / MODELS["Llama-3-70B"].vocab_size
    sets = {}
    for (hardware, model, tensor_parallel), form in _AICONFIGURATOR.items():
        if model == "Llama-3-70B":
            base, per_sequence = form.lm_head
            sets[hardware, "Llama-2-70B", tensor_parallel] = replace(
                form,
                lm_head=(base * ratio, per_sequence * ratio),
                source=f"{form.source}; layers of Llama-3-70B, head scaled to the vocabulary",
            )
    return sets


def _vidur(key: Key, others: Mapping[Key, ClosedForm]) -> ClosedForm:
    """Vidur's linear layers with everything else from `others`, or from the roofline."""
    hardware, model, tensor_parallel = key
    ((a, b), (c, d)), error = _VIDUR[key]
    reduce, per_token = all_reduce_ms(HARDWARE[hardware], MODELS[model], tensor_parallel)
    rest = others.get(key) or roofline(HARDWARE[hardware], MODELS[model], tensor_parallel)
    reduced = " and all-reduces (measured apart or assumed)" if tensor_parallel > 1 else ""
    return replace(
        rest,
        linear=((a + reduce, b + per_token), (c + reduce, d + per_token)),
        source=f"linear layers fitted to Vidur's mlp.csv{reduced}; attention and head: "
        + rest.source,
        error=f"linear layers {error}; the rest not measured together with them",
    )


_MEASURED = {**_AICONFIGURATOR, **_llama_2_70b(), **_LLMSERVINGSIM}

FITTED: Mapping[Key, ClosedForm] = {
    **_MEASURED,
    **{key: _vidur(key, _MEASURED) for key in _VIDUR if key not in _MEASURED},
}
"""The set that a replica gets, by (hardware, model, tensor parallel)."""

CROSS_CHECKS: Mapping[Key, ClosedForm] = {
    key: _vidur(key, _MEASURED) for key in _VIDUR if key in _MEASURED
}
"""Second opinions on the linear layers of some of `FITTED`."""
