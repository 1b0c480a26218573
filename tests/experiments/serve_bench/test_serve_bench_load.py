"""The client: what it asks, what it counts, and what it counts as an error."""

import asyncio
import json
from contextlib import asynccontextmanager
from itertools import islice

import pytest

from makespan.experiments.serve_bench import load
from makespan.experiments.serve_bench.load import LoadConfig, bodies, quantiles_ms
from makespan.experiments.serve_bench.systems import fake_backends, free_ports

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def urls():
    with fake_backends(2) as found:
        yield found


def measured(urls, **settings):
    return asyncio.run(load.measure(LoadConfig(urls, **settings)))


def chunk(text):
    return f"{len(text):x}\r\n{text}\r\n".encode()


@asynccontextmanager
async def serving(answer):
    """The URL of a server that has every request answered by `answer(writer, body)`."""
    under_way = set()

    async def serve(reader, writer):
        under_way.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await answer(writer, json.loads(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way)
        await asyncio.sleep(0)  # what is closed ends in the next turn of the loop


def answered_by(answer, **settings):
    """What the client says of such a server."""

    async def run():
        async with serving(answer) as url:
            return await load.measure(LoadConfig([url], **settings))

    return asyncio.run(run())


def test_a_closed_loop_asks_as_often_as_it_is_told(urls):
    found = measured(urls, requests=50, concurrency=4)
    assert (found["answers"], found["errors"]) == (50, {})
    assert found["answer_ms"]["p50"] <= found["answer_ms"]["p99"]
    assert found["first_ms"] is None
    assert found["requests_per_s"] > 0


def test_a_closed_loop_of_some_seconds_counts_chunks_too(urls):
    found = measured(urls, seconds=0.1, concurrency=3, chunks=2)
    assert found["answers"] > 3
    assert found["errors"] == {}
    assert found["chunks_per_s"] > found["requests_per_s"] > 0
    assert found["chunks"] == 2 * found["answers"]


def test_a_closed_loop_tells_how_busy_the_client_is():
    async def answer(writer, body):
        await asyncio.sleep(0.05)
        writer.write(OK)

    idle = answered_by(answer, seconds=0.3)["client_busy"]

    async def answer_slowly(writer, body):
        end = load.time.process_time() + 0.05  # of the client's process, in this test
        while load.time.process_time() < end:
            pass
        writer.write(OK)

    assert 0 <= idle < 0.5
    assert idle < answered_by(answer_slowly, seconds=0.3)["client_busy"] < 1.2


def test_streamed_answers_have_three_latencies(urls):
    found = measured(urls, requests=20, concurrency=2, chunks=4, pause_ms=1.0)
    assert found["answers"] == 20
    for latency in ("answer_ms", "first_ms", "chunk_ms"):
        assert 0 < found[latency]["p50"] <= found[latency]["p99"]
    assert found["first_ms"]["p50"] < found["answer_ms"]["p50"]


def test_an_open_loop_asks_whether_or_not_answers_come():
    waiting, everyone_is_here = [], asyncio.Event()

    async def answer(writer, body):
        waiting.append(body)
        if len(waiting) == 6:
            everyone_is_here.set()
        await everyone_is_here.wait()
        writer.write(OK)

    assert answered_by(answer, requests=6, rate=500.0)["answers"] == 6


def test_a_closed_loop_waits_for_answers():
    under_way, most = 0, 0

    async def answer(writer, body):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        writer.write(OK)

    assert answered_by(answer, requests=30, concurrency=3)["answers"] == 30
    assert most == 3


def test_servers_are_asked_in_turn():
    asked = []

    def answering_as(name):
        async def answer(writer, body):
            asked.append(name)
            writer.write(OK)

        return answer

    async def run():
        async with serving(answering_as("a")) as first, serving(answering_as("b")) as second:
            await load.measure(LoadConfig([first, second], requests=6))

    asyncio.run(run())
    assert asked == ["a", "b"] * 3


def test_the_way_of_a_chunk_is_counted_from_its_stamp():
    async def answer(writer, body):
        text = f'data: {{"delta":{{"content":"{load.time.monotonic_ns() - 10**9} "}}}}\n\n'
        writer.write(STREAM + chunk(text[:30]))
        await writer.drain()
        await asyncio.sleep(0.001)  # an event in two pieces
        writer.write(chunk(text[30:]) + END)

    found = answered_by(answer, requests=3, chunks=1)
    assert (found["answers"], found["errors"]) == (3, {})
    assert found["chunk_ms"]["p50"] >= 1000
    assert found["first_ms"]["p50"] < found["chunk_ms"]["p50"]


async def refuses(writer, body):
    writer.write(OK.replace(b"200", b"503"))


async def stops_in_the_middle(writer, body):
    writer.write(OK[:-1])
    raise ConnectionError


async def talks_otherwise(writer, body):
    writer.write(b"SSH-2.0\r\n\r\n")


async def leaves_chunks_out(writer, body):
    writer.write(STREAM + chunk('data: {"text":"1 "}\n\n') + END)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refuses, "status 503"),
        (stops_in_the_middle, "connection lost"),
        (talks_otherwise, "no HTTP"),
        (leaves_chunks_out, "1 chunks of 2"),
    ],
)
def test_other_answers_are_errors(answer, why):
    connections = set()

    async def noted(writer, body):
        connections.add(writer)
        await answer(writer, body)

    found = answered_by(noted, requests=4, concurrency=2, chunks=2)
    assert (found["answers"], found["errors"]) == (0, {why: 4})
    kept = answer is leaves_chunks_out
    assert len(connections) == (2 if kept else 4)


def test_nobody_there_is_an_error():
    found = measured([f"http://127.0.0.1:{free_ports(1)[0]}"], requests=3)
    assert found["answers"] == 0
    assert sum(found["errors"].values()) == 3


def test_silence_is_not_awaited_for_ever(monkeypatch):
    monkeypatch.setattr(load, "STALL_S", 0.05)

    async def answer(writer, body):
        await asyncio.sleep(0 if len(asked) < 5 else 60)
        asked.append(body)
        writer.write(OK)

    asked = []
    found = answered_by(answer, requests=20, concurrency=2)
    assert found["answers"] >= 5
    assert found["errors"] == {"no answer": 2}


def test_prompts_are_new_and_begin_alike():
    config = LoadConfig(["http://localhost:1"], prompt_chars=400, chunks=7, pause_ms=0.5, seed=3)
    made = [json.loads(body) for body in islice(bodies(config), 50)]
    systems, questions = zip(
        *([message["content"] for message in body["messages"]] for body in made), strict=True
    )
    assert 1 < len(set(systems)) <= load.SYSTEM_PROMPTS
    assert len(set(questions)) == 50
    assert {(body["max_tokens"], body["stream"], body["seed"]) for body in made} == {(7, True, 500)}
    other = json.loads(next(bodies(LoadConfig(["http://localhost:1"], prompt_chars=400, seed=4))))
    assert other["messages"][1]["content"] not in questions
    assert not other["stream"]


def test_quantiles_are_in_milliseconds():
    found = quantiles_ms([1_000_000 * value for value in range(101)])
    assert found == {"p50": pytest.approx(50), "p99": pytest.approx(99)}
    assert quantiles_ms([5]) is None
