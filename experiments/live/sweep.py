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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, get_args

from makespan.experiments.live.batch_limits import BatchLimits
from makespan.experiments.live.client import Answer, Metrics
from makespan.experiments.live.probe import (
    CACHED,
    PREEMPTIONS,
    PREFILL_S,
    PREFILLS,
    TOKEN_GAPS,
    Probe,
    cut_off,
)

Kind = Literal["prefill", "decode", "mixed"]

KINDS: tuple[Kind, ...] = get_args(Kind)

STEADY_STEPS = 12
"""Steps whose mean is one measurement of a decoding batch."""

JOINING = 4
"""Prompts that join each decoding batch, one after another."""

BATCH_STEPS = STEADY_STEPS + 8 * JOINING
"""Tokens that each sequence of such a batch may get, roughly."""

PREFILLS_PER_ROUND = 3
"""Prompts measured alone between two decoding batches."""

MOST_STREAMS = 900
"""Longest batch that is measured: each request has a connection, and 1,024 open files are usual."""


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


@dataclass
class Sweep:
    """The measurements of one server.

    Attributes:
        probe: the server.
        batch_s: seconds that the prompts of a decoding batch may take; limits its contexts.
        measured: what has been measured so far.
        outside_s: seconds that each prompt alone spent outside the engine, on its way in and out.
    """

    probe: Probe
    batch_s: float = 5.0
    measured: list[Measurement] = field(default_factory=list)
    outside_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known = self.probe.prompt(self.probe.longest_prompt)

    async def run(self, batch: BatchLimits, progress: Callable[[int], None]) -> None:
        """Measure until cancelled; `progress` is told how many steps were measured."""
        if self.probe.limits.prefix_caching:
            await self.probe.client.complete(self._known, 1)
        for point in _halton(2 * PREFILLS_PER_ROUND + 2 + 2 * JOINING, self.probe.seed):
            pairs = [(point[i], point[i + 1]) for i in range(0, len(point), 2)]
            for size, context in pairs[:PREFILLS_PER_ROUND]:
                await self._measure_prefill(batch, size, context)
                progress(len(self.measured))
            with suppress(_EndedEarly):
                await self._measure_batch(batch, *pairs[PREFILLS_PER_ROUND:])
            progress(len(self.measured))

    async def _measure_prefill(self, batch: BatchLimits, size: float, context: float) -> None:
        prompt = self._joining(size, context, batch.max_num_batched_tokens)
        before = await self.probe.client.metrics()
        answer = await self.probe.client.complete(prompt, 1)
        after = await self.probe.settled(before, PREFILLS, 1)
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
        pool = self.probe.limits.pool_tokens * 3 // 4
        most = min(batch.max_num_seqs - 1, MOST_STREAMS, pool // (2 * BATCH_STEPS))
        sequences = _logarithmic(size, max(most, 1))
        # Those that start first decode while the prompts of the others are computed.
        starting = pool // batch.max_num_batched_tokens
        room = min(
            pool // sequences - BATCH_STEPS,
            self.probe.longest_prompt - 2 * BATCH_STEPS - starting,
            int(self.batch_s * self._prompt_tokens_per_s) // sequences,
        )
        longest = batch.max_num_batched_tokens - sequences
        async with self._decoding(sequences, max(round(context * room), 1)) as decoding:
            usual = await self._measure_decode(decoding)
            for pair in joining:
                prompt = self._joining(
                    *pair, max(min(longest, self.probe.limits.pool_tokens // 8), 1)
                )
                await self._measure_mixed(decoding, usual, prompt, longest)

    @property
    def _prompt_tokens_per_s(self) -> float:
        """The highest rate at which a prompt was computed so far."""
        return max(m.prefill_tokens / m.seconds for m in self.measured if m.kind == "prefill")

    def _joining(self, size: float, context: float, longest: int) -> list[int]:
        """A prompt of which at most `longest` tokens are new.

        Where prefixes are kept, those with a `context` above a half have a known start before that.
        """
        new = _logarithmic(size, min(longest, self.probe.longest_prompt))
        if not self.probe.limits.prefix_caching or context < 0.5:
            return self.probe.prompt(new)
        room = min(self.probe.longest_prompt, self.probe.limits.pool_tokens // 8) - new
        known = max(round((2 * context - 1) * room), 0) // self.probe.limits.block_size
        return self._known[: known * self.probe.limits.block_size] + self.probe.prompt(new)

    @asynccontextmanager
    async def _decoding(self, sequences: int, context: int) -> AsyncIterator["_Decoding"]:
        """So many requests that all decode; cut off in the end."""
        tokens = self.probe.limits.max_model_len - context - 1
        answers = [Answer(time.perf_counter(), []) for _ in range(sequences)]
        streams = [
            asyncio.create_task(
                self.probe.client.stream(self.probe.prompt(context), tokens, answer)
            )
            for answer in answers
        ]
        decoding = _Decoding(answers, streams, context)
        try:
            await decoding.advance(1)
            yield decoding
        finally:
            await cut_off(streams)
        await self.probe.drained()

    async def _measure_decode(self, decoding: "_Decoding") -> float:
        """Seconds of a step of the batch, also noted as a measurement."""
        before, start = await self.probe.client.metrics(), decoding.context
        await decoding.advance(STEADY_STEPS)
        steps, seconds = _decoded(before, await self.probe.client.metrics(), decoding.sequences)
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
        before = await self.probe.client.metrics()
        await self.probe.client.complete(prompt, 1)
        after = await self.probe.settled(before, PREFILLS, 1)
        decoding.require_running()
        steps, seconds = _decoded(before, after, decoding.sequences)
        mixed = seconds - (steps - 1) * usual
        tokens, work = _computed(len(prompt), before, after)
        preempted = after.get(PREEMPTIONS, 0.0) - before.get(PREEMPTIONS, 0.0)
        if steps >= 1 and tokens <= longest and mixed > 0 and not preempted:
            self.measured.append(
                Measurement("mixed", decoding.sequences, decoding.context, tokens, work, mixed)
            )


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


def _logarithmic(x: float, most: int) -> int:
    """From 1 (`x` 0) to `most` (`x` 1), evenly on a logarithmic scale."""
    return round(math.exp(x * math.log(most)))


def _halton(dimensions: int, seed: int) -> Iterator[list[float]]:
    from scipy.stats import qmc

    sequence = qmc.Halton(dimensions, rng=seed)
    while True:
        yield sequence.random(1)[0].tolist()
