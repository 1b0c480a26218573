"""Drive the real vLLM scheduler through cases, in vLLM's own environment.

    python experiments/fidelity/scheduler/drive_vllm.py CASES RESULTS
    python experiments/fidelity/scheduler/drive_vllm.py CASES RESULTS STEP

Reads a case a line (see `step_record.py`), and writes a line each: the digest of every step, and
how many requests were preempted; with STEP, the whole record of that step instead. No model runs: a
request gets its next token in the step that has computed all before it.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from step_record import arriving, digest, record, token
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

MOST_STEPS = 100_000
"""A case that takes more goes round in circles."""

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 100_000,
    "torch_dtype": "float32",
}


def model_config() -> ModelConfig:
    """A model that is never loaded; what depends on the case is set later."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(TINY_LLAMA))
        return ModelConfig(
            model=folder, skip_tokenizer_init=True, max_model_len=4096, dtype="float32"
        )


def new_scheduler(case: dict[str, Any], model: ModelConfig) -> Scheduler:
    """The scheduler that the case describes."""
    model.max_model_len = case["max_model_len"]
    scheduling = SchedulerConfig(
        max_model_len=case["max_model_len"],
        is_encoder_decoder=False,
        async_scheduling=False,
        max_num_seqs=case["max_num_seqs"],
        max_num_batched_tokens=case["max_num_batched_tokens"],
        long_prefill_token_threshold=case["long_prefill_token_threshold"],
        enable_chunked_prefill=case["enable_chunked_prefill"],
        scheduler_reserve_full_isl=case["scheduler_reserve_full_isl"],
        watermark=case["watermark"],
        policy=case["policy"],
    )
    cache = CacheConfig(
        block_size=case["block_size"], enable_prefix_caching=case["enable_prefix_caching"]
    )
    cache.num_gpu_blocks = case["kv_blocks"]
    config = VllmConfig(
        model_config=model,
        scheduler_config=scheduling,
        cache_config=cache,
        device_config=DeviceConfig(device="cpu"),
    )
    attention = FullAttentionSpec(
        block_size=case["block_size"], num_kv_heads=1, head_size=1, dtype=torch.float32
    )
    return Scheduler(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=case["kv_blocks"],
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], attention)],
        ),
        structured_output_manager=StructuredOutputManager(config),
        block_size=case["block_size"],
    )


def new_request(case: dict[str, Any], index: int, hasher: Any) -> Request:
    """Request `index`, whose answer has its exact length."""
    described = case["requests"][index]
    return Request(
        request_id=f"{index:06d}",
        prompt_token_ids=[token(case, index, p) for p in range(described["prompt_tokens"])],
        sampling_params=SamplingParams(max_tokens=described["output_tokens"], ignore_eos=True),
        pooling_params=None,
        arrival_time=described["arrival_s"],
        priority=described["priority"],
        block_hasher=hasher,
    )


def sampled(case: dict[str, Any], scheduler: Scheduler, scheduled: list[str]) -> ModelRunnerOutput:
    """What a model would answer to the step."""
    tokens = []
    for request_id in scheduled:
        request = scheduler.requests[request_id]
        complete = request.num_computed_tokens >= request.num_tokens
        tokens.append([token(case, int(request_id), request.num_tokens)] if complete else [])
    rows = {request_id: i for i, request_id in enumerate(scheduled)}
    return ModelRunnerOutput(req_ids=scheduled, req_id_to_index=rows, sampled_token_ids=tokens)


def free_list(scheduler: Scheduler) -> list[int]:
    queue = scheduler.kv_cache_manager.block_pool.free_block_queue
    return [block.block_id for block in queue.get_all_free_blocks()]


def numbers(requests: Any) -> list[int]:
    return [int(request.request_id) for request in requests]


def records(case: dict[str, Any], scheduler: Scheduler) -> Iterator[dict[str, Any]]:
    """The record of every step until all requests are done."""
    hasher = get_request_block_hasher(case["block_size"], sha256)
    sent = step = 0
    while sent < len(case["requests"]) or scheduler.has_unfinished_requests():
        for _ in range(min(arriving(case, step), len(case["requests"]) - sent)):
            scheduler.add_request(new_request(case, sent, hasher))
            sent += 1
        step += 1
        if step > MOST_STEPS:
            raise RuntimeError(f"not done after {MOST_STEPS} steps: {case}")
        output = scheduler.schedule()
        tokens = output.num_scheduled_tokens
        ordered = [r for r in scheduler.running if r.request_id in tokens]
        before = {
            "scheduled": [
                (
                    int(r.request_id),
                    tokens[r.request_id],
                    r.num_computed_tokens - tokens[r.request_id],
                )
                for r in ordered
            ],
            "running": numbers(scheduler.running),
            "waiting": numbers(scheduler.waiting),
            "preempted": [int(i) for i in output.preempted_req_ids or ()],
            "free": free_list(scheduler),
            "usage": scheduler.kv_cache_manager.usage,
        }
        answers = sampled(case, scheduler, [r.request_id for r in ordered])
        scheduler.update_from_output(output, answers)
        yield record(**before, free_after=free_list(scheduler))


def outcome(steps: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """What is told of a case."""
    digests, preemptions = [], 0
    for step in steps:
        digests.append(digest(step))
        preemptions += len(step["preempted"])
    return {"digests": digests, "preemptions": preemptions}


def main(cases: str, results: str, show: str = "") -> None:
    """Go through the cases."""
    init_none_hash(sha256)
    model = model_config()
    with open(cases) as source, open(results, "w") as target:
        for line in source:
            case = json.loads(line)
            steps = records(case, new_scheduler(case, model))
            answer = next(islice(steps, int(show), None), None) if show else outcome(steps)
            print(json.dumps(answer), file=target)


if __name__ == "__main__":
    main(*sys.argv[1:])
