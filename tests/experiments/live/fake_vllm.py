"""A server that answers like vLLM: continuous batching without a model.

Written against the answers of a real vLLM 0.32; `tests/vllm` holds the same client against that.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

STEP_S = 0.001
TOKEN_S = 0.0002

METRICS = """\
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{block_size="{block_size}",num_gpu_blocks="{kv_blocks}",\
enable_prefix_caching="False",engine="0"}} 1.0
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0"}} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0"}} {waiting}
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{{engine="0",le="+Inf"}} {steps}
vllm:iteration_tokens_total_count{{engine="0"}} {steps}
vllm:iteration_tokens_total_sum{{engine="0"}} 0
# TYPE vllm:request_prefill_time_seconds histogram
vllm:request_prefill_time_seconds_bucket{{engine="0",le="+Inf"}} {prefills}
vllm:request_prefill_time_seconds_count{{engine="0"}} {prefills}
vllm:request_prefill_time_seconds_sum{{engine="0"}} {prefill_s}
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total{{engine="0"}} 0
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{{engine="0",le="+Inf"}} {gaps}
vllm:inter_token_latency_seconds_count{{engine="0"}} {gaps}
vllm:inter_token_latency_seconds_sum{{engine="0"}} {gap_s}
"""


@dataclass(eq=False)
class Sequence:
    """A request in the engine: prompt and answer tokens left, those that are being computed."""

    prompt: int
    answer: int
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    scheduled_s: float = 0.0
    last_s: float = 0.0
    promised: int = 0


@dataclass
class FakeVLLM:
    """The engine and its HTTP face.

    Attributes:
        max_num_seqs, budget, block_size, kv_blocks, max_model_len: limits.
        version: what it says it is.
        status: of completions; anything but 200 refuses them.
        short: tokens by which every answer is too short.
        usage: whether streamed chunks count tokens.
        extra: running requests that nobody here sent.
        ahead: asynchronous scheduling.
        lengths: prompt lengths as they came.
    """

    max_num_seqs: int = 6
    budget: int = 100
    block_size: int = 16
    kv_blocks: int = 101
    max_model_len: int = 256
    version: str = "0.32.0"
    status: int = 200
    short: int = 0
    usage: bool = True
    extra: int = 0
    ahead: bool = False
    lengths: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.steps = self.prefills = self.gaps = 0
        self.prefill_s = self.gap_s = 0.0

    async def engine(self) -> None:
        """Make steps for ever; with `ahead`, each is prepared while the one before is computed."""
        prepared = None
        while True:
            done, tokens = prepared or self.schedule()
            prepared = None
            end = time.perf_counter() + STEP_S / 4 + (tokens > 0) * (STEP_S + TOKEN_S * tokens)
            while (left := end - time.perf_counter()) > 0:
                if self.ahead and tokens and not (prepared and prepared[1]):
                    prepared = self.schedule()
                await asyncio.sleep(0 if self.ahead else left)
            self.steps += bool(done)
            for sequence in done:
                self.give_token(sequence)

    def schedule(self) -> tuple[list[Sequence], int]:
        """Those whose prompts are computed with this step, and so get a token; and its tokens."""
        budget, done = self.budget, []
        queue = list(self.running)
        while queue or (self.waiting and budget and len(self.running) < self.max_num_seqs):
            if not queue:
                queue.append(self.waiting.pop(0))
                queue[0].scheduled_s = time.perf_counter()
                self.running.append(queue[0])
            sequence = queue.pop(0)
            if sequence.promised == sequence.answer:
                continue
            tokens = min(max(sequence.prompt, 1), budget)
            budget -= tokens
            sequence.prompt -= tokens
            if tokens and sequence.prompt <= 0:
                done.append(sequence)
                sequence.promised += 1
        return done, self.budget - budget

    def give_token(self, sequence: Sequence) -> None:
        if sequence not in self.running:
            return  # cut off meanwhile
        now = time.perf_counter()
        if sequence.last_s:
            self.gaps += 1
            self.gap_s += now - sequence.last_s
        else:
            self.prefills += 1
            self.prefill_s += now - sequence.scheduled_s
        sequence.last_s = now
        sequence.answer -= 1
        sequence.promised -= 1
        sequence.tokens.put_nowait(1)
        if sequence.answer <= 0:
            self.running.remove(sequence)
            sequence.tokens.put_nowait(0)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.status != 200:
            error = {"error": {"message": "ignore_eos is not allowed here"}}
            return web.json_response(error, status=self.status)
        many = isinstance(body["prompt"][0], list)
        prompts = body["prompt"] if many else [body["prompt"]]
        self.lengths += [len(prompt) for prompt in prompts]
        sequences = [Sequence(len(p), body["max_tokens"] - self.short) for p in prompts]
        self.waiting += sequences[:1]
        await asyncio.sleep(STEP_S / 2)  # the others come while the first is computed
        self.waiting += sequences[1:]
        try:
            return await (self.wait(sequences) if many else self.stream(request, sequences[0]))
        except ConnectionResetError:  # cut off by the client
            return web.Response()
        finally:
            for sequence in sequences:
                for queue in (self.running, self.waiting):
                    if sequence in queue:
                        queue.remove(sequence)

    async def wait(self, sequences: list[Sequence]) -> web.Response:
        for sequence in sequences:
            while await sequence.tokens.get():
                pass
        return web.json_response({"choices": []})

    async def stream(self, request: web.Request, sequence: Sequence) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        count = 0
        while await sequence.tokens.get():
            count += 1
            chunk = {"usage": {"completion_tokens": count} if self.usage else None}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def metrics(self, _: web.Request) -> web.Response:
        names = ("steps", "prefills", "prefill_s", "gaps", "gap_s")
        counters = {name: getattr(self, name) for name in names}
        text = METRICS.format(
            block_size=self.block_size,
            kv_blocks=self.kv_blocks,
            running=len(self.running) + self.extra,
            waiting=len(self.waiting),
            **counters,
        )
        return web.Response(text=text)

    async def models(self, _: web.Request) -> web.Response:
        model = {"id": "org/fake", "max_model_len": self.max_model_len}
        return web.json_response({"data": [model]})

    async def show_version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self.version})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port; the URL."""
        app = web.Application()
        app.router.add_post("/v1/completions", self.completions)
        for path, answer in (
            ("/metrics", self.metrics),
            ("/v1/models", self.models),
            ("/version", self.show_version),
        ):
            app.router.add_get(path, answer)
        async with serving(app) as url:
            engine = asyncio.create_task(self.engine())
            try:
                yield url
            finally:
                engine.cancel()


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve `app` on a free port; its URL."""
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
