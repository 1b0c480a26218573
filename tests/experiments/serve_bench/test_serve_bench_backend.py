"""The fake server: it answers as vLLM does, so that routers take it for one."""

import http.client
import json
import re
import subprocess
import sys
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from makespan.experiments.serve_bench.systems import fake_backends


@pytest.fixture(scope="module")
def server():
    with fake_backends(2) as urls:
        yield urls[0].removeprefix("http://")


def ask(host, method, path, body=None):
    """Status and text of the answer."""
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request(method, path, body if isinstance(body, str) else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def running(host):
    for family in text_string_to_metric_families(ask(host, "GET", "/metrics")[1]):
        if family.name == "vllm:num_requests_running":
            return family.samples[0].value
    return None


def test_routers_find_what_they_look_for(server):
    assert ask(server, "GET", "/health") == (200, "")
    status, models = ask(server, "GET", "/v1/models")
    assert status == 200
    assert [model["id"] for model in json.loads(models)["data"]] == ["bench"]
    assert ask(server, "GET", "/get_server_info")[0] == 404


def test_metrics_have_the_names_of_the_v1_engine(server):
    families = text_string_to_metric_families(ask(server, "GET", "/metrics")[1])
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
    } < samples.keys()
    assert samples["vllm:cache_config_info"].labels["block_size"] == "16"


def test_a_chat_is_answered_with_as_many_words_as_were_asked_for(server):
    status, text = ask(server, "POST", "/v1/chat/completions", {"messages": [], "max_tokens": 5})
    answer = json.loads(text)
    assert status == 200
    assert answer["choices"][0]["message"]["content"].split() == ["word"] * 5
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 5


def test_the_newer_name_of_the_limit_is_understood(server):
    body = {"messages": [], "max_completion_tokens": 3}
    answer = json.loads(ask(server, "POST", "/v1/chat/completions", body)[1])
    assert answer["usage"]["completion_tokens"] == 3


def test_a_completion_has_a_text(server):
    _, text = ask(server, "POST", "/v1/completions", {"prompt": "a", "max_tokens": 2})
    assert json.loads(text)["choices"][0]["text"] == "word word "


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/chat/completions", "content"), ("/v1/completions", "text")]
)
def test_streamed_chunks_say_when_they_were_sent(server, path, field):
    before = time.monotonic_ns()
    body = {"prompt": "a", "max_tokens": 3, "stream": True, "seed": 2000}
    status, text = ask(server, "POST", path, body)
    after = time.monotonic_ns()
    events = text.removesuffix("\n\n").split("\n\n")
    assert status == 200
    assert events[-1] == "data: [DONE]"
    sent = [int(ns) for ns in re.findall(rf'"{field}":"(\d+) "', text)]
    assert len(sent) == 3 == len(events) - 1
    assert [before, *sent, after] == sorted([before, *sent, after])
    # `seed` is the pause in us; the timer counts whole milliseconds.
    assert sent[2] - sent[0] >= 2e6


def test_usage_comes_last_if_it_is_asked_for(server):
    body = {"prompt": "a", "max_tokens": 1, "stream": True}
    body["stream_options"] = {"include_usage": True}
    events = ask(server, "POST", "/v1/completions", body)[1].split("\n\n")
    assert json.loads(events[-3].removeprefix("data: "))["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize("body", ["{", "[]", '{"max_tokens": "many"}'])
def test_what_is_not_understood_is_refused(server, body):
    assert ask(server, "POST", "/v1/completions", body)[0] == 400


def test_an_answer_that_nobody_reads_ends(server):
    connection = http.client.HTTPConnection(server, timeout=10)
    body = {"prompt": "a", "max_tokens": 100_000, "stream": True, "seed": 1000}
    connection.request("POST", "/v1/completions", json.dumps(body))
    answer = connection.getresponse()
    answer.readline()
    assert running(server) == 1
    answer.close()
    connection.close()
    deadline = time.monotonic() + 10
    while running(server) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running(server) == 0


def test_it_ends_with_the_one_who_started_it():
    module = "makespan.experiments.serve_bench.fake_backend"
    command = [sys.executable, "-m", module, "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert len(set(json.loads(server.stdout.readline()))) == 3
        server.stdin.close()
        assert server.wait(10) == 0
