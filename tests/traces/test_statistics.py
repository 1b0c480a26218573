"""The statistics table, by hand and against the published figures of the public traces."""

import math
from pathlib import Path

import pytest

from makespan.traces import Request, TraceWarning, Workload, read
from makespan.traces.statistics import describe

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "llm"


def trace(name):
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    return read(DATA / name)


def rounded(lengths, digits=1):
    return (
        round(lengths.mean, digits),
        *(round(x) for x in (lengths.p50, lengths.p95, lengths.p99)),
    )


def test_by_hand():
    workload = Workload.from_requests(
        [
            Request(0.0, 32, 10, (1, 2), session=3),
            Request(1.0, 48, 20, (1, 2, 3), session=3),
            Request(4.0, 20, 30),
        ]
    )
    found = describe(workload)
    assert (found.requests, found.span_s, found.rate) == (3, 4.0, 0.5)
    assert found.iat_cv == 0.5
    assert (found.output.mean, found.output.p50, found.output.max) == (20, 20, 30)
    assert found.sessions == 1
    assert found.prefix_hit == 32 / 100


def test_what_is_not_there_is_nan():
    found = describe(Workload.from_requests([Request(0.0, 1, 1)] * 2))
    assert math.isnan(found.iat_cv)
    assert math.isnan(found.prefix_hit)
    assert found.sessions == 0


def test_empty():
    with pytest.raises(ValueError, match="empty workload"):
        describe(Workload.from_requests([]))


def test_azure_conversation():
    found = describe(trace("AzureLLMInferenceTrace_conv.csv"))
    assert found.requests == 19_366
    assert round(found.span_s, 1) == 3501.7
    assert round(found.rate, 2) == 5.53
    assert round(found.iat_cv, 3) == 1.094
    assert rounded(found.prompt) == (1154.7, 1020, 4083, 4142)
    assert rounded(found.output) == (211.1, 129, 451, 601)
    assert found.output.max == 1000


def test_azure_code():
    found = describe(trace("AzureLLMInferenceTrace_code.csv"))
    assert found.requests == 8_819
    assert round(found.span_s, 1) == 3435.9
    assert found.rate == pytest.approx(2.567, abs=0.001)
    assert round(found.iat_cv, 2) == 13.15
    assert rounded(found.prompt) == (2047.8, 1469, 7303, 7436)
    assert rounded(found.output) == (27.9, 13, 90, 251)


def test_vidur_copy_of_azure_is_the_same_trace():
    ours, theirs = trace("AzureLLMInferenceTrace_conv.csv"), trace("vidur_splitwise_conv.csv")
    assert abs(ours.arrival_s - theirs.arrival_s).max() < 1e-6
    assert (ours.prompt_tokens == theirs.prompt_tokens).all()
    assert (ours.output_tokens == theirs.output_tokens).all()


def test_mooncake_conversation():
    found = describe(trace("mooncake_conversation_trace.jsonl.gz"))
    assert found.requests == 12_031
    assert round(found.span_s) == 3537
    assert round(found.rate, 2) == 3.40
    assert round(found.iat_cv, 2) == 3.03
    assert rounded(found.prompt, 0) == pytest.approx((12035, 6909, 39550, 85400), abs=0.5)
    assert rounded(found.output, 0) == pytest.approx((343, 350, 698, 1118), abs=1)
    assert round(found.prefix_hit, 3) == 0.374


def test_arxiv_summarisation():
    name = "vidur_arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv"
    found = describe(trace(name))
    assert found.requests == 28_257
    assert rounded(found.prompt, 0)[:2] == (2588, 2730)
    assert rounded(found.output, 0)[:2] == (291, 167)
    assert (round(found.prompt.p99), round(found.output.p99)) == (3933, 3271)


def test_sharegpt_conversations():
    with pytest.warns(TraceWarning, match="left out 54 of 61239"):
        found = describe(trace("sharegpt_v3_lengths_derived.csv.gz"))
    # A turn without message or answer is not a request; 654/551/1650/1900 counts them.
    assert rounded(found.prompt, 0) == pytest.approx((654, 551, 1650, 1900), abs=2)
    assert rounded(found.output, 0) == (280, 255, 676, 769)
    # 87 % of prompt tokens are history; full blocks of it are a little less.
    assert found.prefix_hit == pytest.approx(0.87, abs=0.015)
    assert found.rate == pytest.approx(1, abs=0.02)


def test_servegen():
    workload = trace("servegen_reason_deepseek-r1.tar.gz")
    found = describe(workload)
    # The sum of rate times window over all clients.
    assert found.requests == pytest.approx(1_383_669, rel=1e-4)
    assert found.span_s == pytest.approx(86_400, rel=1e-3)
    assert workload.models == ("deepseek-r1",)
