"""A server that is measured: prompts that no cache has seen, and counters that settle."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makespan.experiments.live.client import (
    HARMLESS_TOKENS,
    Client,
    Limits,
    Metrics,
    ServerError,
)

# Metrics; times are taken by the engine's own clock. Steps are counted if they yield a token.
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
PREEMPTIONS = "vllm:num_preemptions_total"
PREFILLS = "vllm:request_prefill_time_seconds_count"
PREFILL_S = "vllm:request_prefill_time_seconds_sum"
TOKEN_GAPS = ("vllm:inter_token_latency_seconds_count", "vllm:inter_token_latency_seconds_sum")
STEPS = "vllm:iteration_tokens_total_count"
CACHED = "vllm:prefix_cache_hits_total"

DRAIN_TIMEOUT_S = 60.0
"""Until requests that were cut off must be gone."""


@dataclass
class Probe:
    """A server that has nothing else to do.

    Attributes:
        client: connection to it.
        limits: of its engine.
        seed: of the prompts' tokens.
    """

    client: Client
    limits: Limits
    seed: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    @property
    def longest_prompt(self) -> int:
        return self.limits.max_model_len - 2

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

    async def settled(self, before: Metrics, name: str, by: int) -> Metrics:
        """The metrics once the counter `name` has grown by `by`: they trail the answers."""
        end = time.perf_counter() + 5.0
        while time.perf_counter() < end:
            after = await self.client.metrics()
            if after.get(name, 0.0) >= before.get(name, 0.0) + by:
                return after
            await asyncio.sleep(0.005)
        raise ServerError(f"{self.client.url}/metrics: {name} does not count what was answered")

    async def drained(self) -> None:
        """Wait until the engine has let go of requests that were cut off."""
        end = time.perf_counter() + DRAIN_TIMEOUT_S
        while (await self.client.metrics()).get(RUNNING, 0.0):
            if time.perf_counter() > end:
                raise ServerError(f"{self.client.url} serves others while it is measured")
            await asyncio.sleep(0.02)


async def cut_off(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel requests, which closes their connections and takes them out of the engine."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
