"""Replay a workload against a real server: the same requests at the same times, over HTTP."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from makespan.experiments.live.client import HARMLESS_TOKENS, Answer, Client, ServerError
from makespan.traces.prefixes import cut_rows
from makespan.traces.workload import HASH_BLOCK_TOKENS, Workload

HEAD_START_S = 0.2
"""Time to set all requests up before the first is due."""


def without_answers(workload: Workload) -> Workload:
    """The workload with the prefix hashes of the prompts alone.

    A server writes answers of its own, so no later prompt contains what a trace says was answered.
    """
    hashes, offsets = cut_rows(
        workload.hashes, workload.hash_offsets, workload.prompt_tokens // HASH_BLOCK_TOKENS
    )
    return replace(workload, hashes=hashes, hash_offsets=offsets)


def prompts(workload: Workload, seed: int) -> list[list[int]]:
    """Token ids of every prompt: equal exactly as far as the prefix hashes agree.

    A block's tokens are drawn from its hash, which stands for all the text up to its end; what no
    hash describes is drawn for each request by itself.
    """
    return [_prompt(workload, row, seed) for row in range(len(workload))]


def _prompt(workload: Workload, row: int, seed: int) -> list[int]:
    length = int(workload.prompt_tokens[row])
    blocks = workload.prefix_hashes(row)[: length // HASH_BLOCK_TOKENS]
    shared = [
        np.random.default_rng([seed, 0, int(block)]).integers(*HARMLESS_TOKENS, HASH_BLOCK_TOKENS)
        for block in blocks
    ]
    rest = length - len(blocks) * HASH_BLOCK_TOKENS
    alone = np.random.default_rng([seed, 1, row]).integers(*HARMLESS_TOKENS, rest)
    return np.concatenate([*shared, alone]).tolist()


async def replay(
    client: Client, workload: Workload, seed: int, progress: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """Send every request when it is due, and wait for all answers.

    Args:
        client: connection to the server, whose `limits` were read.
        workload: without answers in its prefix hashes (`without_answers`).
        seed: of the prompts' tokens; a server that has seen them has them in its cache.
        progress: told how many are answered.

    Returns:
        Columns like those of `Fleet.log`, one row per request: `arrival_s`, `first_token_s`,
        `finish_s` (float64, seconds from the start) and `output_tokens` (int64).

    Raises:
        ServerError: a request is refused or cut short.
    """
    texts = prompts(workload, seed)
    start = time.perf_counter() + HEAD_START_S
    answered = 0

    async def one(row: int) -> Answer:
        nonlocal answered
        await asyncio.sleep(start + workload.arrival_s[row] - time.perf_counter())
        answer = await client.complete(texts[row], int(workload.output_tokens[row]))
        answered += 1
        progress(answered)
        return answer

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(row)) for row in range(len(workload))]
    except* ServerError as failed:
        raise failed.exceptions[0] from None
    answers = [task.result() for task in tasks]
    return {
        "arrival_s": workload.arrival_s,
        "first_token_s": np.array([answer.token_s[0] for answer in answers]) - start,
        "finish_s": np.array([answer.token_s[-1] for answer in answers]) - start,
        "output_tokens": workload.output_tokens,
    }
