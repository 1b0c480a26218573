"""Measuring a server, against one whose limits are known."""

import asyncio
from collections import Counter

import pytest
from fake_vllm import FakeVLLM

from makespan.experiments.live.batch_limits import BatchLimits, LimitSearch
from makespan.experiments.live.client import Client, ServerError
from makespan.experiments.live.probe import Probe
from makespan.experiments.live.sweep import Sweep


def with_probe(server, use):
    """What `use(probe)` gives."""

    async def run():
        async with server.serving() as url, Client(url) as client:
            return await use(Probe(client, await client.limits()))

    return asyncio.run(run())


def measured_until(count, batch_s=5.0):
    """A use of a sweep: what it has measured once there are `count` steps."""

    def stop(measured):
        if measured >= count:
            raise TimeoutError

    async def use(probe):
        sweep = Sweep(probe, batch_s)
        with pytest.raises(TimeoutError):
            await sweep.run(BatchLimits(6, 100), stop)
        return sweep.measured

    return use


@pytest.mark.parametrize(
    ("sequences", "budget", "longest"),
    [(6, 100, 256), (20, 128, 96), (3, 257, 1024), (3, 256, 256)],
)
@pytest.mark.parametrize("ahead", [False, True])
def test_limits_of_a_batch_are_found(sequences, budget, longest, ahead):
    server = FakeVLLM(max_num_seqs=sequences, budget=budget, max_model_len=longest, ahead=ahead)
    # The search sends prompts at moments of a step, which a busy machine can miss.
    tries = (with_probe(server, lambda probe: LimitSearch(probe).find()) for _ in range(4))
    assert BatchLimits(sequences, budget) in tries


def test_a_pool_too_small_to_tell_bounds_the_steps():
    server = FakeVLLM(max_num_seqs=6, budget=4096)
    found = with_probe(server, lambda probe: LimitSearch(probe).find())
    assert found.max_num_batched_tokens == 100 * 16 // 2


def test_steps_of_all_kinds_are_measured_within_the_limits():
    server = FakeVLLM(max_num_seqs=6, budget=100)

    measured = with_probe(server, measured_until(30))
    assert set(Counter(m.kind for m in measured)) == {"prefill", "decode", "mixed"}
    for m in measured:
        assert m.seconds > 0
        assert m.decode_sequences < 6
        assert m.decode_sequences + m.prefill_tokens <= 100
        assert m.decode_context + m.prefill_tokens < 1600
        assert m.prefill_work == m.prefill_tokens**2 / 2
    assert max(server.lengths) < server.max_model_len
    assert not server.running  # what was cut off is gone


def test_a_server_that_serves_others_is_refused():
    with pytest.raises(ServerError, match="is serving 2 requests"):
        with_probe(FakeVLLM(extra=2), lambda probe: probe.require_idle())


def test_long_contexts_are_cut_to_the_time_that_their_prompts_may_take():
    server = FakeVLLM(max_num_seqs=6, budget=100, kv_blocks=5001, max_model_len=20_000)

    # A prompt of 100 tokens takes 20 ms here.
    measured = with_probe(server, measured_until(12, batch_s=0.01))
    contexts = [m.decode_context for m in measured if m.kind == "decode"]
    assert contexts
    assert max(contexts) < 2000


def test_refused_batches_are_an_error():
    with pytest.raises(ServerError, match="refuses: 422"):
        with_probe(FakeVLLM(status=422), lambda probe: LimitSearch(probe).find())


def test_a_server_of_one_sequence_is_refused():
    with pytest.raises(ServerError, match="does not run requests side by side"):
        with_probe(FakeVLLM(max_num_seqs=1), lambda probe: LimitSearch(probe).find())


def test_batches_whose_answers_end_early_are_left_out():
    server = FakeVLLM(max_num_seqs=6, budget=100, max_model_len=64)

    assert all(m.seconds > 0 for m in with_probe(server, measured_until(8)))
