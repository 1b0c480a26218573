"""What one step of a scheduler did, as both sides of the comparison write it down.

Imported by `drive_makespan.py` and, in vLLM's own environment, by `drive_vllm.py` as the file next
to it; so it needs nothing of either.

A *case* is a JSON object: the engine's settings by the names of `makespan`'s `EngineConfig`, and
`requests`, each with `prompt_tokens`, `output_tokens`, `priority`, `arrival_s`, `text` and `shared`
(its first `shared` tokens are those of text number `text`, the others are its own); `sent` says how
many requests arrive before each step, one being sent before every later step.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

OWN_TEXTS = 1_000_000
"""Numbers of texts from here on belong to one request each."""

TEXT_LENGTH = 100_000


def token(case: dict[str, Any], index: int, position: int) -> int:
    """The token at `position` of request `index`, prompt or answer; no two texts share one."""
    request = case["requests"][index]
    text = request["text"] if position < request["shared"] else OWN_TEXTS + index
    return text * TEXT_LENGTH + position


def arriving(case: dict[str, Any], step: int) -> int:
    """How many requests arrive before step number `step`."""
    return case["sent"][step] if step < len(case["sent"]) else 1


def record(
    scheduled: Sequence[tuple[int, int, int]],
    running: Sequence[int],
    waiting: Sequence[int],
    preempted: Sequence[int],
    free: Sequence[int],
    usage: float,
    free_after: Sequence[int],
) -> dict[str, Any]:
    """Everything that is compared of a step.

    Args:
        scheduled: (request, tokens, tokens computed before the step), in running order; the last
            is the prefix-cache hit where a request is admitted.
        running: requests, in order, after scheduling.
        waiting: requests, in order, after scheduling.
        preempted: requests preempted in the step.
        free: blocks in the order of the free list, after scheduling.
        usage: share of the blocks in use, after scheduling.
        free_after: the free list when the step is complete.
    """
    return {
        "scheduled": [list(row) for row in scheduled],
        "running": list(running),
        "waiting": list(waiting),
        "preempted": sorted(preempted),
        "free": list(free),
        "usage": round(usage, 9),
        "free_after": list(free_after),
    }


def digest(step: dict[str, Any]) -> str:
    """Eight hexadecimal digits that stand for a record."""
    text = json.dumps(step, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
