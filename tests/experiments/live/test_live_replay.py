"""Replaying a workload over HTTP."""

import asyncio

import numpy as np
import pytest
from fake_vllm import FakeVLLM

from makespan.experiments.live.client import Client, ServerError
from makespan.experiments.live.replay import prompts, replay, without_answers
from makespan.traces.synthetic import (
    SessionConfig,
    SyntheticConfig,
    SystemPromptConfig,
    generate,
)
from makespan.traces.workload import Request, Workload


def shared_tokens(a, b):
    """How far two prompts agree."""
    agree = [x == y for x, y in zip(a, b, strict=False)]
    return agree.index(False) if False in agree else len(agree)


def test_prompts_agree_as_far_as_their_hashes():
    config = SyntheticConfig(
        requests=30, sessions=SessionConfig(longest=1000), system_prompts=SystemPromptConfig(2)
    )
    workload = without_answers(generate(config))
    texts = prompts(workload, seed=5)
    assert [len(text) for text in texts] == workload.prompt_tokens.tolist()
    hashes = [workload.prefix_hashes(row).tolist() for row in range(len(workload))]
    for i in range(len(workload)):
        for j in range(i):
            common = 16 * shared_tokens(hashes[i], hashes[j])
            assert common <= shared_tokens(texts[i], texts[j]) <= common + 4
    assert any(len(row) > 8 for row in hashes)


def test_other_seeds_are_other_words():
    workload = Workload.from_requests([Request(0.0, 40, 1, (7, 8))])
    ((one,), (same,), (other,)) = (prompts(workload, seed) for seed in (1, 1, 2))
    assert one == same
    assert shared_tokens(one, other) < 4


def test_answers_are_not_part_of_what_is_shared():
    first = Request(0.0, 40, 60, (1, 2, 3, 4, 5, 6))
    later = Request(1.0, 130, 20, (1, 2, 3, 4, 5, 6, 7, 8, 9))
    cut = without_answers(Workload.from_requests([first, later]))
    assert cut[0].prefix_hashes == (1, 2)
    assert cut[1].prefix_hashes == (1, 2, 3, 4, 5, 6, 7, 8)


def test_a_replay_has_the_times_of_every_request():
    server = FakeVLLM(max_num_seqs=4, budget=64)
    workload = Workload(np.arange(12) * 0.002, np.full(12, 30), np.arange(1, 13))
    told = []

    async def run():
        async with server.serving() as url, Client(url) as client:
            await client.limits()
            return await replay(client, workload, 0, told.append)

    log = asyncio.run(run())
    assert told == list(range(1, 13))
    assert server.lengths == [30] * 12
    assert (log["first_token_s"] > log["arrival_s"]).all()
    assert (log["finish_s"] >= log["first_token_s"]).all()
    assert (log["output_tokens"] == workload.output_tokens).all()


def test_a_request_that_is_refused_is_the_error():
    server = FakeVLLM(status=500)

    async def run():
        async with server.serving() as url, Client(url) as client:
            await replay(client, Workload(np.zeros(2), np.full(2, 5), np.full(2, 2)), 0, print)

    with pytest.raises(ServerError, match="refuses: 500"):
        asyncio.run(run())
