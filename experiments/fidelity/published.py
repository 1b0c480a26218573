"""Published figures that are read off or follow from a formula: KV blocks, statistics of traces."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from makespan.envs.llm.config import EngineConfig, ReplicaConfig
from makespan.envs.llm.replica import resolve
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.readers import read

TRACES = "lengths of the Azure traces of 2023, as read"
SPLITWISE = "the paper that published the trace: Splitwise, arXiv 2311.18677, section III-B"
MEDIANS = {
    "conversations": ("AzureLLMInferenceTrace_conv.csv", 1020, 129),
    "code": ("AzureLLMInferenceTrace_code.csv", 1500, 13),
}
"""Trace -> file, and the published medians of prompt and output tokens (1,500 is rounded)."""


def kv_blocks(_: Sources) -> Iterator[Row]:
    """KV blocks that fit beside the model."""
    engine = EngineConfig(gpu_memory_utilization=0.9, max_num_seqs=256, max_num_batched_tokens=2048)
    replica = ReplicaConfig(hardware="RTX4090", model="Llama-3.1-8B", engine=engine)
    yield Row(
        "KV cache blocks of an RTX 4090 with Llama-3.1-8B",
        "vLLM 0.19 on that card, recorded by LLMServingSim; one constant, the memory of CUDA "
        "itself, was chosen on this figure",
        2588,
        resolve(replica).engine.kv_blocks,
        0.01,
    )


def traces(sources: Sources) -> Iterator[Row | Missing]:
    """Medians of the token counts of public traces."""
    lacks = sources.lacks(*(file for file, _, _ in MEDIANS.values()))
    if sources.data is None or lacks:
        yield Missing(TRACES, SPLITWISE, lacks)
        return
    for name, (file, prompt, output) in MEDIANS.items():
        yield from _medians(name, sources.data / file, prompt, output)


def _medians(name: str, file: Path, prompt: int, output: int) -> Iterator[Row]:
    workload = read(file)
    columns = {
        "prompt": (prompt, workload.prompt_tokens),
        "output": (output, workload.output_tokens),
    }
    for part, (published, tokens) in columns.items():
        what = f"Azure {name} 2023, median of {part} tokens"
        yield Row(what, SPLITWISE, published, float(np.median(tokens)), 0.03)
