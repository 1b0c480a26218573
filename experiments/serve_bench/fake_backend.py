"""A server that talks as vLLM does and has its answers at once: what stands behind the routers.

`python -m makespan.experiments.serve_bench.fake_backend 4` serves four ports from one process,
prints them as a JSON list, and ends when its stdin does, so that it never outlives its parent.

An answer has `max_tokens` words. The field `seed` says how many microseconds lie between the chunks
of a streamed one: it needs no seed, and of the fields that it does not need this is one that every
router passes on. The word in a chunk is the time of `time.monotonic_ns` at which it was sent; that
clock is the same in all processes of a machine.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Any

import httptools
import uvloop

MODEL = "bench"

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
HEAD = '{"id":"bench-1","created":1700000000,"model":"bench",'
CHAT_CHUNK = (
    f'data: {HEAD}"object":"chat.completion.chunk","choices":[{{"index":0,'
    '"delta":{"content":"%d "},"logprobs":null,"finish_reason":null}]}\n\n'
)
TEXT_CHUNK = (
    f'data: {HEAD}"object":"text_completion","choices":[{{"index":0,'
    '"text":"%d ","logprobs":null,"finish_reason":null}]}\n\n'
)
USAGE_CHUNK = f'data: {HEAD}"choices":[],"usage":%s}}\n\n'

METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="bench"} %d
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="bench"} 0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="bench"} 0.1
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",enable_prefix_caching="True",engine="0",\
num_gpu_blocks="20000"} 1
"""


class Backend(asyncio.Protocol):
    """One connection to a backend, which asks one thing after another."""

    running = 0
    """Answers that are being streamed, by any connection of the process."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode()
        if path in ("/v1/chat/completions", "/v1/completions"):
            self._complete(chat="chat" in path)
        elif path == "/metrics":
            self._answer(METRICS % Backend.running, kind="text/plain; version=0.0.4")
        elif path == "/v1/models":
            model = {"id": MODEL, "object": "model", "max_model_len": 131_072}
            self._answer(json.dumps({"object": "list", "data": [model]}))
        else:
            self._answer("" if path == "/health" else "{}", 200 if path == "/health" else 404)

    def _complete(self, chat: bool) -> None:
        try:
            body = json.loads(self._body)
            words = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
            pause_s = int(body.get("seed") or 0) / 1e6
        except (ValueError, TypeError, AttributeError):
            self._answer('{"error":{"message":"not understood"}}', 400)
            return
        prompt_tokens = len(self._body) // 4
        total = prompt_tokens + words
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": words, "total_tokens": total}
        if not body.get("stream"):
            self._answer(_whole_answer(chat, words, usage))
            return
        asked = (body.get("stream_options") or {}).get("include_usage")
        end = (USAGE_CHUNK % json.dumps(usage) if asked else "") + "data: [DONE]\n\n"
        self._transport.write(CHUNKED)
        Backend.running += 1
        self._stream(CHAT_CHUNK if chat else TEXT_CHUNK, words, pause_s, end)

    def _stream(self, chunk: str, words: int, pause_s: float, end: str) -> None:
        """Send a chunk now and the others later."""
        if self._transport.is_closing():
            Backend.running -= 1
        elif words:
            self._write(chunk % time.monotonic_ns())
            again = (self._stream, chunk, words - 1, pause_s, end)
            asyncio.get_running_loop().call_later(pause_s, *again)
        else:
            self._write(end)
            self._transport.write(b"0\r\n\r\n")
            Backend.running -= 1

    def _write(self, text: str) -> None:
        self._transport.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def _answer(self, text: str, status: int = 200, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
        self._transport.write((head + text).encode())


async def serve(count: int) -> None:
    """Serve `count` free ports until stdin ends."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Backend, "127.0.0.1", 0) for _ in range(count)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


def _whole_answer(chat: bool, words: int, usage: dict[str, int]) -> str:
    text = "word " * words
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    choice = said | {"index": 0, "logprobs": None, "finish_reason": "length"}
    kind = "chat.completion" if chat else "text_completion"
    return f'{HEAD}"object":"{kind}","choices":[{json.dumps(choice)}],"usage":{json.dumps(usage)}}}'


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a collection would be a delay
    uvloop.run(serve(int(sys.argv[1])))
