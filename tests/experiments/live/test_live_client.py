"""The client of a vLLM server, against one that answers alike."""

import asyncio

import pytest
from aiohttp import web
from fake_vllm import FakeVLLM, serving

from makespan.experiments.fidelity.scheduler.real_vllm import VersionWarning
from makespan.experiments.live.client import Client, ServerError


def with_client(server, use):
    """What `use(client)` gives."""

    async def run():
        async with server.serving() as url, Client(url) as client:
            return await use(client)

    return asyncio.run(run())


def test_limits_are_those_that_the_server_tells():
    limits = with_client(FakeVLLM(), lambda client: client.limits())
    assert limits.model == "org/fake"
    assert (limits.block_size, limits.kv_blocks, limits.max_model_len) == (16, 101, 256)
    assert limits.pool_tokens == 1600
    assert not limits.prefix_caching


def test_an_answer_has_a_time_for_every_token():
    answer = with_client(FakeVLLM(), lambda client: client.complete([1, 2, 3], 5))
    assert len(answer.token_s) == 5
    assert sorted([answer.sent_s, *answer.token_s]) == [answer.sent_s, *answer.token_s]


def test_metrics_leave_out_buckets():
    metrics = with_client(FakeVLLM(), lambda client: client.metrics())
    assert metrics["vllm:iteration_tokens_total_count"] == 0
    assert not any("bucket" in name for name in metrics)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (FakeVLLM(status=400), "refuses: 400 Bad Request: ignore_eos is not allowed here"),
        (FakeVLLM(short=2), "answered with 3 tokens where exactly 5"),
        (FakeVLLM(usage=False), "does not count tokens"),
    ],
)
def test_what_is_refused_is_said(server, message):
    with pytest.raises(ServerError, match=message):
        with_client(server, lambda client: client.complete([1], 5))


def test_another_version_is_named():
    with pytest.warns(VersionWarning, match=r"0\.19\.1.*0\.32\.0"):
        with_client(FakeVLLM(version="0.19.1+cpu"), lambda client: client.check_version())
    assert with_client(FakeVLLM(), lambda client: client.check_version()) == "0.32.0"


def test_no_answer_is_said():
    async def ask():
        async with Client("http://127.0.0.1:9") as client:
            await client.limits()

    with pytest.raises(ServerError, match=r"no answer from http://127.0.0.1:9/v1/models"):
        asyncio.run(ask())


TYPE = "# TYPE vllm:cache_config_info gauge\n"
ENGINE = 'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{}",engine="{}"}} 1.0\n'


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("other_requests_total 3\n", "no vLLM with the V1 engine"),
        ("<html>hello</html>", "metrics are not those of Prometheus"),
        (TYPE + ENGINE.format(8, 0) + ENGINE.format(8, 1), "several engines"),
        (ENGINE.format("None", 0), "does not tell block size"),
    ],
)
def test_other_servers_are_told_apart(metrics, message):
    async def answer(request):
        if request.path == "/metrics":
            return web.Response(text=metrics)
        return web.json_response({"data": [{"id": "other", "max_model_len": 100}]})

    async def ask():
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        async with serving(app) as url, Client(url) as client:
            await client.limits()

    with pytest.raises(ServerError, match=message):
        asyncio.run(ask())


def test_an_answer_that_is_no_json_is_no_vllm():
    async def answer(_):
        return web.Response(text="<html>hello</html>")

    async def ask():
        app = web.Application()
        app.router.add_get("/version", answer)
        async with serving(app) as url, Client(url) as client:
            await client.check_version()

    with pytest.raises(ServerError, match="does not answer with a JSON object"):
        asyncio.run(ask())
