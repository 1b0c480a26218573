"""Random cases for the comparison with vLLM; see `step_record.py` for what a case is."""

from typing import Any

import numpy as np


def random_case(seed: int, requests: int) -> dict[str, Any]:
    """A random engine, most often too small for its requests, and conversations that share text."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([16, 32]))
    blocks = int(rng.integers(12, 90))
    longest = min((blocks - 1) * size, int(rng.integers(100, 900)))
    chunking = bool(rng.random() < 0.8)
    budget = int(rng.integers(24, 400)) if chunking else longest
    return {
        "block_size": size,
        "kv_blocks": blocks,
        "max_num_batched_tokens": budget,
        "max_num_seqs": int(rng.integers(1, min(16, budget + 1))),
        "max_model_len": longest,
        "enable_prefix_caching": bool(rng.random() < 0.6),
        "enable_chunked_prefill": chunking,
        "long_prefill_token_threshold": int(rng.choice([0, 0, 20, 64])),
        "scheduler_reserve_full_isl": bool(rng.random() < 0.7),
        "watermark": float(rng.choice([0.0, 0.0, 0.03, 0.1])),
        "policy": str(rng.choice(["fcfs", "priority"])),
        "requests": random_requests(rng, requests, longest),
        "sent": [int(n) for n in rng.choice([0, 0, 0, 1, 2, 6], size=20 * requests)],
    }


def random_requests(rng: np.random.Generator, count: int, longest: int) -> list[dict[str, Any]]:
    """Requests of a few texts: turns of conversations, shared system prompts, and loners."""
    rows = []
    now = 0.0
    for _ in range(count):
        now += float(rng.integers(1, 3))  # never two at once: see `scheduler.outranks`
        prompt = int(rng.integers(1, max(2, longest - 1)))
        output = int(rng.integers(1, 200))
        shared = int(rng.integers(0, prompt + output + 1)) if rng.random() < 0.7 else 0
        rows.append(
            {
                "prompt_tokens": prompt,
                "output_tokens": output,
                "priority": int(rng.integers(3)),
                "arrival_s": now,
                "text": int(rng.integers(5)),
                "shared": shared,
            }
        )
    return rows
