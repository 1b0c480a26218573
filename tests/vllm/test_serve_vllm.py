"""The router in front of two real vLLM servers, driven by OpenAI's client; one of them dies."""

import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from makespan.agents.serve.backend import Backend
from makespan.agents.serve.config import BackendConfig, RouterConfig
from makespan.agents.serve.record import read_log
from makespan.agents.serve.scrape import parse
from makespan.envs.llm.config import ReplicaConfig
from makespan.experiments.fidelity.scheduler.real_vllm import environment
from makespan.experiments.live.client import Client
from makespan.experiments.live.tiny_server import NAME, TinyServer, servers
from makespan.traces import read
from makespan.traces.errors import TraceWarning

PATIENCE_S = 300.0
"""For whatever is waited for; the machine may be busy."""

POLL_S = 0.05

HARDWARE = """
model = "tiny-llama"
source = "a guess"

[engine]    # block_size and kv_blocks are wrong: the servers say 32 and 193
block_size = 16
kv_blocks = 1000
max_num_batched_tokens = 2048
max_num_seqs = 16
max_model_len = 2048

[step_time]
linear = [[3.0, 0.2], [3.0, 0.2]]
decode = [0.4, 0.006, 1e-4]
prefill = [0.4, 3e-4, 5e-6]
lm_head = [0.2, 0.003]
"""

OPTIONS = {
    "--policy": "agent",
    "--shadow": "lmetric",
    "--port": "0",
    "--breaker.failures": "3",
    "--breaker.open-s": "2",
    # vLLM does not step after an abort, so its gauges stay until the router makes it step.
    "--gauges.stuck-after-s": "1",
}

WORDS = 40
"""Of a prompt, each of which is a token."""

SHORT, LONG, LONGEST = 16, 1500, 1900
"""Tokens of answers; a long one takes many seconds."""


@dataclass
class Heard:
    """An answer as the client got it.

    Attributes:
        backend: that served it, or began to.
        pieces: of text, as they came.
        usage: that the server told; None if the answer did not get so far.
        error: what ended a stream before its time; empty if nothing did.
    """

    backend: str
    pieces: list[str]
    usage: Any = None
    error: str = ""

    @property
    def words(self) -> int:
        return len("".join(self.pieces).split())


@dataclass
class User:
    """Asks the router with OpenAI's client, and remembers what it heard.

    Attributes:
        url: of the router.
        heard: all answers but the refused ones.
    """

    url: str
    openai: openai.AsyncOpenAI
    http: aiohttp.ClientSession
    heard: list[Heard] = field(default_factory=list)

    async def complete(self, prompt: str, tokens: int, chat: bool = False) -> Heard:
        """Ask for an answer of so many tokens, in one piece."""
        raw = await self._create(prompt, tokens, chat)
        answer = raw.parse()
        heard = Heard(raw.headers["x-makespan-backend"], [_text(answer, "message")], answer.usage)
        self.heard.append(heard)
        return heard

    async def stream(
        self, prompt: str, tokens: int, chat: bool = False, told: bool = True
    ) -> Heard:
        """Ask for an answer of so many tokens and read it as it comes, up to an error.

        Args:
            told: the server is to tell the usage.
        """
        usage = {"include_usage": told}
        raw = await self._create(prompt, tokens, chat, stream=True, stream_options=usage)
        heard = Heard(raw.headers["x-makespan-backend"], [])
        self.heard.append(heard)
        try:
            async for event in raw.parse():
                if event.choices:
                    heard.pieces.append(_text(event, "delta"))
                heard.usage = event.usage or heard.usage
        except (openai.APIStatusError, openai.APIConnectionError):
            raise  # instead of a stream, or without a word in it
        except openai.APIError as error:
            heard.error = error.message
        return heard

    async def _create(self, prompt: str, tokens: int, chat: bool, **options: Any) -> Any:
        options |= {"model": NAME, "max_tokens": tokens, "temperature": 0.0}
        options["extra_body"] = {"ignore_eos": True, "skip_special_tokens": False}
        if chat:
            options["messages"] = [{"role": "user", "content": prompt}]
            return await self.openai.chat.completions.with_raw_response.create(**options)
        return await self.openai.completions.with_raw_response.create(prompt=prompt, **options)

    async def status(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/status") as response:
            return await response.json()

    async def backend(self, url: str) -> dict[str, Any]:
        """What the router says of one backend."""
        return next(b for b in (await self.status())["backends"] if b["url"] == url)


def _text(answer: Any, of: str) -> str:
    choice = answer.choices[0]
    return choice.text if hasattr(choice, "text") else getattr(choice, of).content or ""


def prompt_of(topic: int, number: int = 0) -> str:
    """Prompts of a topic begin with the same words."""
    same = [f"w{10 + (7 * topic + k) % 500}" for k in range(WORDS - 8)]
    return " ".join([*same, *(f"w{10 + (13 * number + k) % 500}" for k in range(8))])


async def until(holds: Callable[[], Awaitable[bool]], what: str, every_s: float = POLL_S) -> None:
    end = time.monotonic() + PATIENCE_S
    while not await holds():
        assert time.monotonic() < end, f"waited in vain until {what}"
        await asyncio.sleep(every_s)


async def metric(engine: TinyServer, name: str) -> float:
    """What an engine says of itself."""
    async with Client(engine.url) as client:
        return (await client.metrics())[f"vllm:{name}"]


@contextmanager
def routing(engines: Sequence[TinyServer], folder: Path) -> Iterator[str]:
    """The command `makespan serve` in front of the engines; gives the router's URL."""
    hardware = folder / "tiny.toml"
    hardware.write_text(HARDWARE)
    options = OPTIONS | {"--hardware": str(hardware), "--log": str(folder / "served.jsonl")}
    options["--tokenizer"] = str(engines[0].model / "tokenizer.json")
    command = [str(Path(sys.executable).with_name("makespan")), "serve"]
    command += [text for pair in options.items() for text in pair]
    command += [text for engine in engines for text in ("--backend", engine.url)]
    with (folder / "said").open("w") as said, (folder / "access").open("w") as access:
        process = subprocess.Popen(command, stdout=access, stderr=said)
    try:
        yield _url_of(process, folder / "said")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert "ERROR" not in (folder / "said").read_text()
    finally:
        process.kill()
        process.wait()


def _url_of(process: subprocess.Popen[bytes], said: Path) -> str:
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        if found := re.search(r" at (http://\S+)", said.read_text()):
            return found[1]
        time.sleep(POLL_S)
    raise AssertionError(f"the router does not start; it printed:\n{said.read_text()}")


@asynccontextmanager
async def using(url: str) -> AsyncIterator[User]:
    async with (
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
        ) as client,
        aiohttp.ClientSession() as http,
    ):
        yield User(url, client, http)


@pytest.mark.real_server
def test_two_real_servers_are_routed_to_and_one_may_die(tmp_path):
    vllm = environment()
    if vllm is None:
        pytest.skip("the real vLLM is not installed (make vllm)")

    async def drive(engines, url):
        async with using(url) as user:
            for engine in engines:
                await it_learns_the_blocks_of(user, engine, tmp_path / "tiny.toml")
            await it_lists_the_model_once(user)
            await it_answers_in_one_piece_and_streamed(user)
            await it_passes_on_refusals(user)
            await it_serves_many_at_once(user, engines)
            await it_counts_tokens_that_nobody_tells(user)
            await it_aborts_what_its_client_left(user, engines)
            await it_survives_the_death_of_a_server(user, engines)
            await everything_is_settled(user)
            return user.heard, (await user.status())["totals"]

    with servers(vllm, 2) as engines:
        with routing(engines, tmp_path) as url:
            heard, totals = asyncio.run(drive(engines, url))
        the_log_replays(tmp_path / "served.jsonl", heard, totals)


async def it_learns_the_blocks_of(user: User, engine: TinyServer, hardware: Path) -> None:
    config = BackendConfig(engine.url, ReplicaConfig(str(hardware)))
    backend = Backend(config, RouterConfig())
    assert (backend.replica.block_size, backend.replica.kv_blocks) == (16, 1000)
    async with user.http.get(f"{engine.url}/metrics") as response:
        backend.scraped(0.0, parse(await response.text()))
    assert (backend.replica.block_size, backend.replica.kv_blocks) == (32, 193)


async def it_lists_the_model_once(user: User) -> None:
    assert [model.id for model in (await user.openai.models.list()).data] == [NAME]


async def it_answers_in_one_piece_and_streamed(user: User) -> None:
    for chat in (False, True):
        for ask in (user.complete, user.stream):
            heard = await ask(prompt_of(0), 24, chat)
            assert heard.words == heard.usage.completion_tokens == 24
            assert heard.usage.prompt_tokens == WORDS
            assert len(heard.pieces) > 1 or ask == user.complete


async def it_passes_on_refusals(user: User) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        await user.openai.completions.create(model="no-such-model", prompt="w5")
    with pytest.raises(openai.BadRequestError, match="2048"):
        await user.openai.completions.create(model=NAME, prompt="w5 " * 3000)


async def it_serves_many_at_once(user: User, engines: Sequence[TinyServer]) -> None:
    asked = [(user.complete, user.stream)[k % 2](prompt_of(k % 10, k), SHORT) for k in range(200)]
    heard = await asyncio.gather(*asked)
    assert {(h.usage.completion_tokens, h.error) for h in heard} == {(SHORT, "")}
    assert {h.backend for h in heard} == {engine.url for engine in engines}


async def it_counts_tokens_that_nobody_tells(user: User) -> None:
    """The log has to agree in the end, though a busy server puts several into one event."""
    asked = [user.stream(prompt_of(k % 10, k), 2 * SHORT, k % 2 > 0, False) for k in range(100)]
    heard = await asyncio.gather(*asked)
    assert {(h.usage, h.words, h.error) for h in heard} == {(None, 2 * SHORT, "")}


async def it_aborts_what_its_client_left(user: User, engines: Sequence[TinyServer]) -> None:
    """And the gauges are the servers' own, before and after."""

    async def running() -> list[float]:
        """As the servers say, and as the router heard."""
        said = [await metric(engine, "num_requests_running") for engine in engines]
        return said + [b["running"] for b in (await user.status())["backends"]]

    async def generated() -> float:
        return sum([await metric(engine, "generation_tokens_total") for engine in engines])

    async def idle() -> bool:
        return await running() == [0, 0, 0, 0]

    async def one_runs() -> bool:
        return await running() in ([1, 0, 1, 0], [0, 1, 0, 1])

    await until(idle, "the engines are idle")
    before = await generated()
    stream = await user.openai.completions.create(
        model=NAME,
        prompt=prompt_of(3),
        max_tokens=LONGEST,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    await anext(aiter(stream))
    await until(one_runs, "the request runs")
    assert sum(b["kv_usage"] for b in (await user.status())["backends"]) > 0
    await stream.close()
    await until(idle, "the request is aborted")
    assert await generated() - before < LONGEST
    assert (await user.status())["totals"]["cancelled"] == 1


async def it_survives_the_death_of_a_server(user: User, engines: Sequence[TinyServer]) -> None:
    known = len(user.heard)
    long = [asyncio.create_task(user.stream(prompt_of(k), LONG, k % 2 > 0)) for k in range(8)]

    async def all_stream() -> bool:
        heard = user.heard[known:]
        return len(heard) == len(long) and all(each.words for each in heard)

    await until(all_stream, "the long answers are in mid-stream")
    on = Counter(heard.backend for heard in user.heard[known:])
    victim = next(engine for engine in engines if engine.url == on.most_common(1)[0][0])
    stop = asyncio.Event()
    load = [asyncio.create_task(keep_asking(user, k, stop)) for k in range(24)]

    async def is_busy() -> bool:
        # A quarter of the load is streamed, so some of this is not.
        return (await user.backend(victim.url))["in_flight"] > on[victim.url] + len(load) // 4

    await until(is_busy, "the server is under load")
    retries = (await user.status())["totals"]["retries"]
    victim.kill()
    await the_breaker_opens(user, victim)
    stop.set()
    await it_comes_back(user, victim)
    died = whole_or_died(await asyncio.gather(*long), LONG, victim)
    assert len(died) == on[victim.url]
    for asked in await asyncio.gather(*load):
        whole_or_died(asked, SHORT, victim)
    # What was there and had not begun to stream.
    assert (await user.status())["totals"]["retries"] > retries


async def keep_asking(user: User, number: int, stop: asyncio.Event) -> list[Heard]:
    ask = user.complete if number % 4 else user.stream
    heard = []
    while not stop.is_set():
        heard.append(await ask(prompt_of(number % 10, len(heard)), SHORT))
    return heard


async def the_breaker_opens(user: User, victim: TinyServer) -> None:
    async def opened() -> bool:
        # After a while it is half-open, and stays so: nobody answers a trial.
        return (await user.backend(victim.url))["breaker"] != "closed"

    await until(opened, "the breaker opens")


def whole_or_died(heard: Sequence[Heard], tokens: int, victim: TinyServer) -> list[Heard]:
    """Answers that ended in mid-stream; all others are whole."""
    died = [each for each in heard if each.error]
    assert all(each.usage.completion_tokens == tokens for each in heard if not each.error)
    for each in died:
        assert each.backend == victim.url
        assert each.pieces
        assert "the backend died" in each.error
    return died


async def it_comes_back(user: User, victim: TinyServer) -> None:
    """While the server starts, and until it is trusted again, everything is answered."""

    async def serves_again() -> bool:
        heard = await asyncio.gather(*(user.complete(prompt_of(k), 4) for k in range(4)))
        assert {each.usage.completion_tokens for each in heard} == {4}
        backend = await user.backend(victim.url)
        return backend["breaker"] == "closed" and victim.url in {each.backend for each in heard}

    victim.start()
    starting = asyncio.create_task(asyncio.to_thread(victim.wait))
    await until(serves_again, "the server is back", every_s=0.5)
    await starting
    assert await metric(victim, "generation_tokens_total") > 0


async def everything_is_settled(user: User) -> None:
    async def settled() -> bool:
        status = await user.status()
        left = [b[name] for b in status["backends"] for name in ("prefill_tokens", "decode_tokens")]
        return not (status["in_flight"] or status["held"] or any(left))

    await until(settled, "nothing is in flight")


def the_log_replays(log: Path, heard: Sequence[Heard], totals: dict[str, int]) -> None:
    rows = list(read_log(log))
    assert len(rows) == totals["requests"] == len(heard) + 3  # two were refused, one was left
    assert {row.policy for row in rows} == {"agent"}  # never the rule to fall back on
    shadowed = {choice for row in rows for choice in row.shadow.values()}
    assert shadowed == {row.backend for row in rows}  # never "error"
    whole = [each for each in heard if not each.error]
    assert totals["failed"] == len(heard) - len(whole)
    answered = [row for row in rows if row.outcome == "finished" and row.status == 200]
    assert Counter((row.backend, row.output_tokens) for row in answered) == Counter(
        (each.backend, each.words) for each in whole
    )
    assert {r.prompt_tokens for r in answered if r.endpoint == "/v1/completions"} == {WORDS}
    with pytest.warns(TraceWarning, match=f"left out {len(rows) - len(whole)} of {len(rows)}"):
        workload = read(log)
    assert sorted(workload.output_tokens) == sorted(row.output_tokens for row in answered)
    assert workload.models == (NAME,)
