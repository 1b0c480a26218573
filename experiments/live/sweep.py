"""Measure how long a running engine's steps take, from outside.

Three kinds of steps, at points spread over what the engine's limits allow:

    prefill   one prompt alone: the time from scheduling to the first token
    decode    a batch that only decodes: the mean gap between its tokens
    mixed     a prompt that joins such a batch: how much longer the others' tokens take for it

A batch that decodes is started once and used for both: first its own steps, then prompts that
join it. Where the engine keeps prefixes, some prompts begin with a text that it has, and so are
computed on top of a context. Points follow a Halton sequence, so that any number of them covers the
ranges evenly and the time budget may end the sweep anywhere.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from makespan.experiments.live.client import (
    HARMLESS_TOKENS,
    Answer,
    Client,
    Limits,
    Metrics,
    ServerError,
)

Kind = Literal["prefill", "decode", "mixed"]

KINDS: tuple[Kind, ...] = get_args(Kind)

# Metrics; times are taken by the engine's own clock. Steps are counted if they yield a token.
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
PREEMPTIONS = "vllm:num_preemptions_total"
PREFILLS = "vllm:request_prefill_time_seconds_count"
PREFILL_S = "vllm:request_prefill_time_seconds_sum"
TOKEN_GAPS = ("vllm:inter_token_latency_seconds_count", "vllm:inter_token_latency_seconds_sum")
STEPS = "vllm:iteration_tokens_total_count"
CACHED = "vllm:prefix_cache_hits_total"

WARM_UP = (1, 16, 128, 512)
"""Prompts that are answered before anything is timed: first-time costs are not a step's."""

STEADY_STEPS = 12
"""Steps whose mean is one measurement of a decoding batch."""

JOINING = 4
"""Prompts that join each decoding batch, one after another."""

BATCH_STEPS = STEADY_STEPS + 8 * JOINING
"""Tokens that each sequence of such a batch may get, roughly."""

PREFILLS_PER_ROUND = 3
"""Prompts measured alone between two decoding batches."""

MOST_SEQUENCES = 4096
"""Batches beyond this are not looked for."""

MOST_STREAMS = 900
"""Longest batch that is measured: each request has a connection, and 1,024 open files are usual."""

SHORT = 8
"""Tokens of a prompt that takes hardly any time."""

FEWEST_TOKENS = 64
"""Token budgets below this are not looked for."""

DRAIN_TIMEOUT_S = 60.0
"""Until requests that were cut off must be gone."""

SETTLED_POLLS = 6
"""Looks at a batch that neither grows nor takes in what waits, until it counts as full."""


@dataclass(frozen=True)
class Measurement:
    """One measured step; the names are those of `makespan.envs.llm.step_kernels`.

    Attributes:
        kind: see the head of this file.
        decode_sequences, decode_context, prefill_tokens, prefill_work: what the step did.
        seconds: how long it took.
    """

    kind: Kind
    decode_sequences: int
    decode_context: int
    prefill_tokens: int
    prefill_work: float
    seconds: float


@dataclass(frozen=True)
class BatchLimits:
    """What bounds a step; found by trying, since no metric tells.

    Attributes:
        max_num_seqs: longest running batch.
        max_num_batched_tokens: token budget of a step.
    """

    max_num_seqs: int
    max_num_batched_tokens: int


@dataclass
class Sweep:
    """The measurements of one server.

    Attributes:
        client: connection to the server, which must have nothing else to do.
        limits: of its engine.
        batch_s: seconds that the prompts of a decoding batch may take; limits its contexts.
        seed: of the prompts' tokens, and of the points.
        measured: what has been measured so far.
        outside_s: seconds that each prompt alone spent outside the engine, on its way in and out.
    """

    client: Client
    limits: Limits
    batch_s: float = 5.0
    seed: int = 0
    measured: list[Measurement] = field(default_factory=list)
    outside_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._known = self.prompt(self._longest_prompt)
        self._longest_batch = 0
        self._schedules_ahead = False

    def prompt(self, tokens: int) -> list[int]:
        """Random tokens, which no cache has seen."""
        return self._rng.integers(*HARMLESS_TOKENS, tokens).tolist()

    async def require_idle(self) -> None:
        """Refuse to measure a server that serves others: their tokens would be in every step.

        Raises:
            ServerError: something is running or waiting there.
        """
        metrics = await self.client.metrics()
        busy = metrics.get(RUNNING, 0.0) + metrics.get(WAITING, 0.0)
        if busy:
            raise ServerError(f"{self.client.url} is serving {busy:.0f} requests: measure it idle")

    async def batch_limits(self) -> BatchLimits:
        """Find the limits of a batch."""
        for tokens in WARM_UP:
            await self.client.complete(self.prompt(min(tokens, self.limits.max_model_len - 8)), 4)
        sequences = await self._max_num_seqs()
        return BatchLimits(sequences, await self._max_num_batched_tokens(sequences))

    async def run(self, batch: BatchLimits, progress: Callable[[int], None]) -> None:
        """Measure until cancelled; `progress` is told how many steps were measured."""
        if self.limits.prefix_caching:
            await self.client.complete(self._known, 1)
        for point in _halton(2 * PREFILLS_PER_ROUND + 2 + 2 * JOINING, self.seed):
            pairs = [(point[i], point[i + 1]) for i in range(0, len(point), 2)]
            for size, context in pairs[:PREFILLS_PER_ROUND]:
                await self._measure_prefill(batch, size, context)
                progress(len(self.measured))
            with suppress(_EndedEarly):
                await self._measure_batch(batch, *pairs[PREFILLS_PER_ROUND:])
            progress(len(self.measured))

    # Limits of a batch.

    async def _max_num_seqs(self) -> int:
        """The longest batch that runs when ever more requests come at once."""
        wanted = 8
        while wanted <= MOST_SEQUENCES and await self._all_run(wanted):
            wanted *= 2
        if self._longest_batch < 2:
            raise ServerError(f"{self.client.url} does not run requests side by side")
        return self._longest_batch

    async def _all_run(self, wanted: int) -> bool:
        """Whether `wanted` requests run at once; False once some wait and the batch has settled."""
        tokens = min(1024, self.limits.max_model_len // 2)
        prompts = [self.prompt(4) for _ in range(wanted)]
        asked = asyncio.create_task(self.client.answer_all(prompts, tokens))
        try:
            all_run = await self._watch_batch(asked, wanted)
        finally:
            await _cut_off([asked])
        await self._drained()
        return all_run

    async def _watch_batch(self, asked: asyncio.Task[None], wanted: int) -> bool:
        settled = 0
        while not asked.done() and settled < SETTLED_POLLS:
            metrics = await self.client.metrics()
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
        longest = self._longest_prompt
        most = min(self.limits.pool_tokens // 2, sequences * longest)
        return await _largest(self._fit_a_step, min(FEWEST_TOKENS, longest), most)

    async def _is_scheduled_at_once(self) -> bool:
        """Whether a request that comes during a step is scheduled before the step has ended.

        So it is with asynchronous scheduling, where one step is prepared while another is computed.
        Its time from scheduling to the first token then has the rest of the other's step in it.
        """
        for _ in range(3):
            short = await self._while_busy(SHORT, [])
            busy = await self._while_busy(min(256, self._longest_prompt), [[SHORT]])
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
        count = max(2, -(-tokens // self._longest_prompt))
        lengths = [tokens // count + (i < tokens % count) for i in range(count)]
        bursts = [[SHORT], lengths] if self._schedules_ahead else [lengths]
        for _ in range(3):
            busy = await self._while_busy(min(tokens // 2, self._longest_prompt), bursts)
            if busy.steps <= 1 + len(bursts):
                return True
        return False

    async def _while_busy(self, tokens: int, bursts: Sequence[Sequence[int]]) -> "_Busy":
        """Send prompts of these lengths, burst by burst, while a prompt of `tokens` is computed."""
        start, idle = time.perf_counter(), await self.client.metrics()
        await self.client.answer_all([self.prompt(tokens)])
        before = await self._settled(idle, PREFILLS, 1)
        took = time.perf_counter() - start
        tasks = [asyncio.create_task(self.client.answer_all([self.prompt(tokens)]))]
        for burst in bursts:
            await asyncio.sleep(took / (2 + len(bursts)))
            prompts = [self.prompt(length) for length in burst]
            tasks.append(asyncio.create_task(self.client.answer_all(prompts)))
        await asyncio.gather(*tasks)
        after = await self._settled(before, PREFILLS, 1 + sum(map(len, bursts)))
        alone_s = before[PREFILL_S] - idle[PREFILL_S]
        others_s = after[PREFILL_S] - before[PREFILL_S] - alone_s
        return _Busy(alone_s, others_s, after[STEPS] - before[STEPS])

    @property
    def _longest_prompt(self) -> int:
        return self.limits.max_model_len - 2

    # Steps.

    async def _measure_prefill(self, batch: BatchLimits, size: float, context: float) -> None:
        prompt = self._joining(size, context, batch.max_num_batched_tokens)
        before = await self.client.metrics()
        answer = await self.client.complete(prompt, 1)
        after = await self._settled(before, PREFILLS, 1)
        seconds = after[PREFILL_S] - before[PREFILL_S]
        self.outside_s.append(answer.token_s[0] - answer.sent_s - seconds)
        tokens, work = _computed(len(prompt), before, after)
        if tokens <= batch.max_num_batched_tokens:  # else its start was not in the cache
            self.measured.append(Measurement("prefill", 0, 0, tokens, work, seconds))

    async def _measure_batch(
        self,
        batch: BatchLimits,
        shape: tuple[float, float],
        *joining: tuple[float, float],
    ) -> None:
        """One decoding batch, and the prompts that join it; all given by numbers in [0, 1].

        Raises:
            _EndedEarly: an answer was complete before all was measured.
        """
        size, context = shape
        pool = self.limits.pool_tokens * 3 // 4
        most = min(batch.max_num_seqs - 1, MOST_STREAMS, pool // (2 * BATCH_STEPS))
        sequences = _logarithmic(size, max(most, 1))
        # Those that start first decode while the prompts of the others are computed.
        starting = pool // batch.max_num_batched_tokens
        room = min(
            pool // sequences - BATCH_STEPS,
            self._longest_prompt - 2 * BATCH_STEPS - starting,
            int(self.batch_s * self._prompt_tokens_per_s) // sequences,
        )
        longest = batch.max_num_batched_tokens - sequences
        async with self._decoding(sequences, max(round(context * room), 1)) as decoding:
            usual = await self._measure_decode(decoding)
            for pair in joining:
                prompt = self._joining(*pair, max(min(longest, self.limits.pool_tokens // 8), 1))
                await self._measure_mixed(decoding, usual, prompt, longest)

    @property
    def _prompt_tokens_per_s(self) -> float:
        """The highest rate at which a prompt was computed so far."""
        return max(m.prefill_tokens / m.seconds for m in self.measured if m.kind == "prefill")

    def _joining(self, size: float, context: float, longest: int) -> list[int]:
        """A prompt of which at most `longest` tokens are new.

        Where prefixes are kept, those with a `context` above a half have a known start before that.
        """
        new = _logarithmic(size, min(longest, self._longest_prompt))
        if not self.limits.prefix_caching or context < 0.5:
            return self.prompt(new)
        room = min(self._longest_prompt, self.limits.pool_tokens // 8) - new
        known = max(round((2 * context - 1) * room), 0) // self.limits.block_size
        return self._known[: known * self.limits.block_size] + self.prompt(new)

    @asynccontextmanager
    async def _decoding(self, sequences: int, context: int) -> AsyncIterator["_Decoding"]:
        """So many requests that all decode; cut off in the end."""
        tokens = self.limits.max_model_len - context - 1
        answers = [Answer(time.perf_counter(), []) for _ in range(sequences)]
        streams = [
            asyncio.create_task(self.client.stream(self.prompt(context), tokens, answer))
            for answer in answers
        ]
        decoding = _Decoding(answers, streams, context)
        try:
            await decoding.advance(1)
            yield decoding
        finally:
            await _cut_off(streams)
        await self._drained()

    async def _measure_decode(self, decoding: "_Decoding") -> float:
        """Seconds of a step of the batch, also noted as a measurement."""
        before, start = await self.client.metrics(), decoding.context
        await decoding.advance(STEADY_STEPS)
        steps, seconds = _decoded(before, await self.client.metrics(), decoding.sequences)
        context = (start + decoding.context) // 2
        each = seconds / steps
        self.measured.append(Measurement("decode", decoding.sequences, context, 0, 0.0, each))
        return each

    async def _measure_mixed(
        self, decoding: "_Decoding", usual: float, prompt: list[int], longest: int
    ) -> None:
        """The step that computes `prompt`; `usual` is the time of the batch's other steps.

        Nothing is noted where that was not one step, or the other steps were disturbed.
        """
        before = await self.client.metrics()
        await self.client.complete(prompt, 1)
        after = await self._settled(before, PREFILLS, 1)
        decoding.require_running()
        steps, seconds = _decoded(before, after, decoding.sequences)
        mixed = seconds - (steps - 1) * usual
        tokens, work = _computed(len(prompt), before, after)
        preempted = after.get(PREEMPTIONS, 0.0) - before.get(PREEMPTIONS, 0.0)
        if steps >= 1 and tokens <= longest and mixed > 0 and not preempted:
            self.measured.append(
                Measurement("mixed", decoding.sequences, decoding.context, tokens, work, mixed)
            )

    async def _settled(self, before: Metrics, name: str, by: int) -> Metrics:
        """The metrics once the counter `name` has grown by `by`: they trail the answers."""
        end = time.perf_counter() + 5.0
        while time.perf_counter() < end:
            after = await self.client.metrics()
            if after.get(name, 0.0) >= before.get(name, 0.0) + by:
                return after
            await asyncio.sleep(0.005)
        raise ServerError(f"{self.client.url}/metrics: {name} does not count what was answered")

    async def _drained(self) -> None:
        """Wait until the engine has let go of requests that were cut off."""
        end = time.perf_counter() + DRAIN_TIMEOUT_S
        while (await self.client.metrics()).get(RUNNING, 0.0):
            if time.perf_counter() > end:
                raise ServerError(f"{self.client.url} serves others while it is measured")
            await asyncio.sleep(0.02)


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


class _EndedEarly(Exception):
    """An answer of a decoding batch was complete before the batch was measured."""


@dataclass(frozen=True)
class _Decoding:
    """Requests that decode together.

    Attributes:
        answers: what has come of each.
        streams: the tasks that receive them.
        prompt_tokens: length of each prompt.
    """

    answers: list[Answer]
    streams: list[asyncio.Task[None]]
    prompt_tokens: int

    @property
    def sequences(self) -> int:
        return len(self.answers)

    @property
    def context(self) -> int:
        """Tokens that a step reads now, over all sequences."""
        return sum(self.prompt_tokens + len(answer.token_s) for answer in self.answers)

    async def advance(self, steps: int) -> None:
        """Wait until each has got so many more tokens.

        Raises:
            _EndedEarly: one of them ended before.
        """
        wanted = [len(answer.token_s) + steps for answer in self.answers]
        while any(len(a.token_s) < n for a, n in zip(self.answers, wanted, strict=True)):
            self.require_running()
            await asyncio.sleep(0.002)

    def require_running(self) -> None:
        """Check that none of them has ended.

        Raises:
            _EndedEarly: one has.
            ServerError: one was refused or cut short.
        """
        for stream in self.streams:
            if stream.done():
                stream.result()
                raise _EndedEarly


async def _cut_off(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel requests, which closes their connections and takes them out of the engine."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _computed(prompt_tokens: int, before: Metrics, after: Metrics) -> tuple[int, float]:
    """Tokens of a prompt that were computed between two readings, and their prefill work."""
    context = round(after.get(CACHED, 0.0) - before.get(CACHED, 0.0))
    tokens = prompt_tokens - context
    return tokens, tokens * (context + tokens / 2)


def _decoded(before: Metrics, after: Metrics, sequences: int) -> tuple[float, float]:
    """Steps between two readings in which all `sequences` got a token, and seconds that they took.

    By the engine's own clock: tokens are late at the client when the API server is busy.
    """
    count, total = (after[name] - before[name] for name in TOKEN_GAPS)
    return count / sequences, total / sequences


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


def _logarithmic(x: float, most: int) -> int:
    """From 1 (`x` 0) to `most` (`x` 1), evenly on a logarithmic scale."""
    return round(math.exp(x * math.log(most)))


def _halton(dimensions: int, seed: int) -> Iterator[list[float]]:
    from scipy.stats import qmc

    sequence = qmc.Halton(dimensions, rng=seed)
    while True:
        yield sequence.random(1)[0].tolist()
