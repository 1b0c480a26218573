"""A client of one vLLM server's OpenAI API: completions of exact lengths, and its metrics.

Prompts are token ids, so that their lengths are exact, and answers ignore the end-of-sequence
token, so that theirs are. A server that cannot do this says so in a `ServerError`.
"""

import json
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from makespan.experiments.fidelity.scheduler.real_vllm import VERIFIED, VersionWarning

ANSWER_TIMEOUT_S = 10.0
"""For everything but completions, which take as long as they take."""

HARMLESS_TOKENS = (8, 250)
"""Token ids that prompts are drawn from: inside every vocabulary, behind the usual special ones."""


class ServerError(ValueError):
    """The server is not what is needed; the message says what it answered."""


@dataclass(frozen=True)
class Answer:
    """When the tokens of one answer came.

    Attributes:
        sent_s: when the request was sent, seconds of `time.perf_counter`.
        token_s: when each token arrived, as far as the answer got.
    """

    sent_s: float
    token_s: list[float]


@dataclass(frozen=True)
class Limits:
    """What bounds an engine's batches, as the server tells it.

    Attributes:
        model: name of the model that is served.
        block_size: tokens per KV block.
        kv_blocks: KV blocks of the pool, the null block included.
        max_model_len: longest sequence, tokens.
        prefix_caching: whether full blocks are kept and shared.
    """

    model: str
    block_size: int
    kv_blocks: int
    max_model_len: int
    prefix_caching: bool

    @property
    def pool_tokens(self) -> int:
        """Tokens that the KV pool holds."""
        return (self.kv_blocks - 1) * self.block_size


Metrics = dict[str, float]
"""Sum over the engines of every `vllm:` sample that is no histogram bucket, by name."""


class Client:
    """A connection to the server at `url`, to be used in `async with`.

    Attributes:
        url: without a slash at its end.
        model: name that completions ask for; `limits` finds it out.

    Raises:
        ServerError: from every method, when the server does not answer or answers otherwise.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.model = ""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No limit on connections: every request in flight has one.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def check_version(self) -> str:
        """The server's vLLM version; warns of one that was not verified."""
        version = (await self._json("/version")).get("version")
        if not isinstance(version, str):
            raise ServerError(f"{self.url}/version does not name a version: this is no vLLM")
        if version.partition("+")[0] != VERIFIED:
            message = (
                f"{self.url} runs vLLM {version}; the simulator's scheduler was verified against "
                f"vLLM {VERIFIED}"
            )
            warnings.warn(message, VersionWarning, stacklevel=2)
        return version

    async def limits(self) -> Limits:
        """What the server says of its engine, in `/v1/models` and `/metrics`."""
        models = (await self._json("/v1/models")).get("data") or [{}]
        labels = await self._cache_config()
        try:
            self.model = str(models[0]["id"])
            return Limits(
                model=self.model,
                block_size=int(labels["block_size"]),
                kv_blocks=int(labels["num_gpu_blocks"]),
                max_model_len=int(models[0]["max_model_len"]),
                prefix_caching=labels["enable_prefix_caching"] == "True",
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ServerError(
                f"{self.url} does not tell block size, block count and longest sequence: {error}"
            ) from None

    async def metrics(self) -> Metrics:
        """Gauges, counters and the sums and counts of histograms, now."""
        sums: Metrics = {}
        for family in await self._metric_families():
            for sample in family.samples:
                if sample.name.startswith("vllm:") and not sample.name.endswith("_bucket"):
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    async def complete(self, prompt: Sequence[int], tokens: int) -> Answer:
        """Ask for an answer of exactly `tokens` tokens, and wait for its end.

        Raises:
            ServerError: also when the answer has another length.
        """
        answer = Answer(time.perf_counter(), [])
        await self.stream(prompt, tokens, answer)
        if len(answer.token_s) != tokens:
            raise ServerError(
                f"{self.url} answered with {len(answer.token_s)} tokens where exactly {tokens} "
                "were asked for: does it honour ignore_eos and max_tokens?"
            )
        return answer

    async def stream(self, prompt: Sequence[int], tokens: int, answer: Answer) -> None:
        """Ask for `tokens` tokens and note in `answer` when each comes, until the last."""
        body = self._body(prompt, tokens) | {
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        async with self._request("POST", "/v1/completions", None, json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    self._note(json.loads(line[6:]), answer.token_s)

    async def answer_all(self, prompts: Sequence[Sequence[int]], tokens: int = 1) -> None:
        """Have all `prompts` answered by one request, which queues them in one go."""
        async with self._request(
            "POST", "/v1/completions", None, json=self._body(prompts, tokens)
        ) as response:
            await response.read()

    def _body(self, prompt: Sequence[Any], tokens: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": tokens,
            "min_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
        }

    def _note(self, chunk: dict[str, Any], token_s: list[float]) -> None:
        """Time of a chunk, once for every token in it."""
        now = time.perf_counter()
        if "error" in chunk:
            raise ServerError(f"{self.url} stopped an answer: {chunk['error']}")
        usage = chunk.get("usage")
        if usage is None:
            raise ServerError(f"{self.url} does not count tokens as it streams them (no usage)")
        token_s.extend([now] * (usage["completion_tokens"] - len(token_s)))

    async def _json(self, path: str) -> dict[str, Any]:
        async with self._request("GET", path, ANSWER_TIMEOUT_S) as response:
            try:
                answer = await response.json(content_type=None)
            except ValueError:
                answer = None
        if not isinstance(answer, dict):
            raise ServerError(f"{self.url}{path} does not answer with a JSON object: no vLLM")
        return answer

    async def _metric_families(self) -> list[Metric]:
        async with self._request("GET", "/metrics", ANSWER_TIMEOUT_S) as response:
            text = await response.text()
        try:
            return list(text_string_to_metric_families(text))
        except ValueError as error:
            raise ServerError(f"{self.url}/metrics are not those of Prometheus: {error}") from None

    async def _cache_config(self) -> dict[str, str]:
        """Labels of the metric that describes the KV cache."""
        for family in await self._metric_families():
            if family.name == "vllm:cache_config_info" and family.samples:
                if len(family.samples) > 1:
                    raise ServerError(f"{self.url} has several engines: measure one of them alone")
                return family.samples[0].labels
        raise ServerError(
            f"{self.url}/metrics does not have vllm:cache_config_info: this is no vLLM with the V1 "
            "engine, or its metrics are turned off"
        )

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, timeout_s: float | None, **kwargs: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "a Client is used in `async with`"
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.request(
                method, self.url + path, timeout=timeout, **kwargs
            ) as response:
                if response.status != 200:
                    raise ServerError(await self._refusal(path, response))
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise ServerError(f"no answer from {self.url}{path}: {reason}") from None

    async def _refusal(self, path: str, response: aiohttp.ClientResponse) -> str:
        """What an answer of another status than 200 says."""
        text = (await response.text()).strip()
        try:
            error = json.loads(text)
            text = error.get("error", error).get("message", text)
        except (ValueError, AttributeError):
            pass
        return f"{self.url}{path} refuses: {response.status} {response.reason}: {text[:300]}"
