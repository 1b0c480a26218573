"""Find what bounds a step of a running engine, by trying: no metric tells it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from makespan.experiments.live.client import ServerError
from makespan.experiments.live.probe import (
    PREFILL_S,
    PREFILLS,
    RUNNING,
    STEPS,
    WAITING,
    Probe,
    cut_off,
)

WARM_UP = (1, 16, 128, 512)
"""Prompts that are answered before anything is timed: first-time costs are not a step's."""

MOST_SEQUENCES = 4096
"""Batches beyond this are not looked for."""

SHORT = 8
"""Tokens of a prompt that takes hardly any time."""

FEWEST_TOKENS = 64
"""Token budgets below this are not looked for."""

SETTLED_POLLS = 6
"""Looks at a batch that neither grows nor takes in what waits, until it counts as full."""


@dataclass(frozen=True)
class BatchLimits:
    """What bounds a step; found by trying, since no metric tells.

    Attributes:
        max_num_seqs: longest running batch.
        max_num_batched_tokens: token budget of a step.
    """

    max_num_seqs: int
    max_num_batched_tokens: int


class LimitSearch:
    """The search for the limits of one server; see `find`."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._longest_batch = 0
        self._schedules_ahead = False

    async def find(self) -> BatchLimits:
        """Find the limits of a batch."""
        longest = self._probe.longest_prompt - 4
        for tokens in WARM_UP:
            await self._probe.client.complete(self._probe.prompt(min(tokens, longest)), 4)
        sequences = await self._max_num_seqs()
        return BatchLimits(sequences, await self._max_num_batched_tokens(sequences))

    async def _max_num_seqs(self) -> int:
        """The longest batch that runs when ever more requests come at once."""
        wanted = 8
        while wanted <= MOST_SEQUENCES and await self._all_run(wanted):
            wanted *= 2
        if self._longest_batch < 2:
            raise ServerError(f"{self._probe.client.url} does not run requests side by side")
        return self._longest_batch

    async def _all_run(self, wanted: int) -> bool:
        """Whether `wanted` requests run at once; False once some wait and the batch has settled."""
        tokens = min(1024, self._probe.limits.max_model_len // 2)
        prompts = [self._probe.prompt(4) for _ in range(wanted)]
        asked = asyncio.create_task(self._probe.client.answer_all(prompts, tokens))
        try:
            all_run = await self._watch_batch(asked, wanted)
        finally:
            await cut_off([asked])
        await self._probe.drained()
        return all_run

    async def _watch_batch(self, asked: asyncio.Task[None], wanted: int) -> bool:
        settled = 0
        while not asked.done() and settled < SETTLED_POLLS:
            metrics = await self._probe.client.metrics()
            running = int(metrics.get(RUNNING, 0.0))
            waiting = metrics.get(WAITING, 0.0)
            settled = settled + 1 if waiting and running == self._longest_batch else 0
            self._longest_batch = max(running, self._longest_batch)
            if running >= wanted:
                return True
            await asyncio.sleep(0.05)
        if asked.done():
            asked.result()  # if it was refused, that is the error
        return False

    async def _max_num_batched_tokens(self, sequences: int) -> int:
        """The most prompt tokens that one step takes.

        Where the pool is too small to tell, it bounds the steps itself.
        """
        self._schedules_ahead = await self._is_scheduled_at_once()
        longest = self._probe.longest_prompt
        most = min(self._probe.limits.pool_tokens // 2, sequences * longest)
        return await _largest(self._fit_a_step, min(FEWEST_TOKENS, longest), most)

    async def _is_scheduled_at_once(self) -> bool:
        """Whether a request that comes during a step is scheduled before the step has ended.

        So it is with asynchronous scheduling, where one step is prepared while another is computed.
        Its time from scheduling to the first token then has the rest of the other's step in it.
        """
        for _ in range(3):
            short = await self._while_busy(SHORT, [])
            busy = await self._while_busy(min(256, self._probe.longest_prompt), [[SHORT]])
            if busy.others_s - short.alone_s < busy.alone_s / 4:
                return False
        return True

    async def _fit_a_step(self, tokens: int) -> bool:
        """Whether prompts of so many tokens in all can be computed in one step.

        They come while the engine computes another prompt, half as long, so that they are scheduled
        together; one that schedules ahead is given a short prompt to prepare first. Only steps that
        yield a token are counted: with equal prompts every step that takes in all it can is one. A
        server that is slow to take them in may split them, so one success in three tries will do.
        """
        count = max(2, -(-tokens // self._probe.longest_prompt))
        lengths = [tokens // count + (i < tokens % count) for i in range(count)]
        bursts = [[SHORT], lengths] if self._schedules_ahead else [lengths]
        for _ in range(3):
            busy = await self._while_busy(min(tokens // 2, self._probe.longest_prompt), bursts)
            if busy.steps <= 1 + len(bursts):
                return True
        return False

    async def _while_busy(self, tokens: int, bursts: Sequence[Sequence[int]]) -> "_Busy":
        """Send prompts of these lengths, burst by burst, while a prompt of `tokens` is computed."""
        start, idle = time.perf_counter(), await self._probe.client.metrics()
        await self._probe.client.answer_all([self._probe.prompt(tokens)])
        before = await self._probe.settled(idle, PREFILLS, 1)
        took = time.perf_counter() - start
        tasks = [asyncio.create_task(self._probe.client.answer_all([self._probe.prompt(tokens)]))]
        for burst in bursts:
            await asyncio.sleep(took / (2 + len(bursts)))
            prompts = [self._probe.prompt(length) for length in burst]
            tasks.append(asyncio.create_task(self._probe.client.answer_all(prompts)))
        await asyncio.gather(*tasks)
        after = await self._probe.settled(before, PREFILLS, 1 + sum(map(len, bursts)))
        alone_s = before[PREFILL_S] - idle[PREFILL_S]
        others_s = after[PREFILL_S] - before[PREFILL_S] - alone_s
        return _Busy(alone_s, others_s, after[STEPS] - before[STEPS])


@dataclass(frozen=True)
class _Busy:
    """What came of prompts that were sent while another one was computed.

    Attributes:
        alone_s: seconds from scheduling to the first token of that other one by itself.
        others_s: the same of the others, their sum.
        steps: steps that yielded a token.
    """

    alone_s: float
    others_s: float
    steps: float


async def _largest(fits: Callable[[int], Awaitable[bool]], known: int, most: int) -> int:
    """The largest number up to `most` that fits, where `known` does.

    Powers of two are tried first: limits usually are.
    """
    low = known
    while low < most:
        high = min(1 << low.bit_length(), most)
        if await fits(min(high + 1, most)):
            low = min(high + 1, most)
        elif await fits(high):
            return high
        else:
            return await _bisect(fits, low, high)
    return most


async def _bisect(fits: Callable[[int], Awaitable[bool]], low: int, high: int) -> int:
    """The largest number that fits, where `low` does and `high` does not."""
    while high - low > 1:
        middle = (low + high) // 2
        if await fits(middle):
            low = middle
        else:
            high = middle
    return low
