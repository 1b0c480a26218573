"""What engines say in `/metrics`, and when it is believed."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve import scrape
from makespan.agents.serve.scrape import EngineReport, ScrapeError, Trust, parse

LABELS = 'engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"'

HISTOGRAMS = (
    "iteration_tokens_total",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_params_max_tokens",
    "request_params_n",
    "request_prefill_kv_computed_tokens",
    "request_max_num_generation_tokens",
)
"""Of vLLM 0.32, each with some thirty buckets."""

CACHE_CONFIG = (
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",calculate_kv_scales="False",'
    'cpu_kvcache_space_bytes="None",enable_prefix_caching="True",engine="%s",'
    'gpu_memory_utilization="0.9",is_attention_free="False",kv_cache_memory_bytes="None",'
    'kv_sharing_fast_prefill="False",mamba_block_size="None",mamba_cache_dtype="auto",'
    'num_cpu_blocks="None",num_gpu_blocks="%s",num_gpu_blocks_override="None",'
    'prefix_caching_hash_algo="sha256",sliding_window="None",swap_space="4.0"} 1.0\n'
)


def gauges(engine: int, running: float, waiting: float, usage: float, blocks: object) -> str:
    labels = f'{{engine="{engine}",model_name="m"}}'
    return (
        f"vllm:num_requests_running{labels} {running}\n"
        f"vllm:num_requests_waiting{labels} {waiting}\n"
        f"vllm:kv_cache_usage_perc{labels} {usage}\n" + CACHE_CONFIG % (engine, blocks)
    )


def histogram(name: str) -> str:
    bounds = [f"{2.0**power}" for power in range(-10, 20)] + ["+Inf"]
    lines = [f"# HELP vllm:{name} Histogram of {name}.", f"# TYPE vllm:{name} histogram"]
    lines += [f'vllm:{name}_bucket{{{LABELS},le="{bound}"}} 1234.0' for bound in bounds]
    lines += [f"vllm:{name}_{part}{{{LABELS}}} 1.7e+05" for part in ("count", "sum", "created")]
    return "\n".join(lines) + "\n"


def whole_text() -> str:
    """As long as vLLM's, and in its order."""
    head = "".join(f"# HELP python_gc_{i} Of the process.\npython_gc_{i} 1.0\n" for i in range(9))
    counters = (
        f"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{{{LABELS}}} 1.0e+06\n"
        f"vllm:prompt_tokens_created{{{LABELS}}} 1.7e+09\n"
        f"vllm:generation_tokens_total{{{LABELS}}} 234567.0\n"
    )
    reasons = "".join(
        f'vllm:num_requests_waiting_by_reason{{{LABELS},reason="{reason}"}} 9.0\n'
        for reason in ("capacity", "deferred")
    )
    gauge = "# HELP vllm:num_requests_running Number.\n# TYPE vllm:num_requests_running gauge\n"
    ours = gauge + gauges(0, 3.0, 2.0, 0.25, 4321)
    return head + ours + reasons + counters + "".join(map(histogram, HISTOGRAMS))


def report(
    running: float = 0.0, waiting: float = 0.0, usage: float = 0.0, computed: float = math.nan
) -> EngineReport:
    return EngineReport(running, waiting, usage, 16, 1000, computed, ())


def test_a_text_as_vllm_writes_it():
    text = whole_text()
    assert 55_000 < len(text) < 70_000
    assert parse(text) == EngineReport(
        running=3.0,
        waiting=2.0,
        kv_usage=0.25,
        block_size=16,
        kv_blocks=4321,
        computed_tokens=1_234_567.0,
        sources=(
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "vllm:cache_config_info",
            "vllm:cache_config_info",
        ),
    )


def test_the_slow_parser_sees_only_the_lines_that_are_wanted(monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = scrape.text_string_to_metric_families
    monkeypatch.setattr(
        scrape, "text_string_to_metric_families", lambda text: seen.append(text) or real(text)
    )
    assert parse(whole_text()).running == 3.0
    assert [line.split("{")[0] for line in "".join(seen).splitlines()] == [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:cache_config_info",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
    ]


def test_the_old_name_of_the_usage():
    old = parse("vllm:num_requests_running 1\nvllm:gpu_cache_usage_perc 0.5\n")
    assert old.kv_usage == 0.5
    assert old.sources[2] == "vllm:gpu_cache_usage_perc"
    assert parse("vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.7").kv_usage == 0.7


def test_what_is_missing_is_not_known():
    one = parse("vllm:num_requests_waiting 4")
    assert one.waiting == 4.0
    assert math.isnan(one.running)
    assert math.isnan(one.kv_usage)
    assert math.isnan(one.computed_tokens)
    assert (one.block_size, one.kv_blocks) == (0, 0)
    assert one.sources == ("", "vllm:num_requests_waiting", "", "", "")


def test_engines_of_one_server_are_taken_together():
    both = parse(gauges(0, 3, 1, 0.2, 100) + gauges(1, 4, 0, 0.6, 150))
    assert (both.running, both.waiting, both.block_size, both.kv_blocks) == (7.0, 1.0, 16, 250)
    assert both.kv_usage == pytest.approx(0.4)


def test_sglang():
    labels = 'engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"'
    text = f"""# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{{labels}}} 5.0
sglang:num_running_reqs_offline_batch{{{labels}}} 1.0
sglang:num_queue_reqs{{{labels}}} 2.0
sglang:token_usage{{{labels}}} 0.28
sglang:page_size{{{labels}}} 1.0
sglang:num_pages{{{labels}}} 161721.0
sglang:realtime_tokens_total{{{labels},mode="decode"}} 10.0
sglang:realtime_tokens_total{{{labels},mode="prefill_compute"}} 30.0
"""
    found = parse(text)
    assert (found.running, found.waiting, found.kv_usage) == (5.0, 2.0, 0.28)
    assert (found.block_size, found.kv_blocks, found.computed_tokens) == (1, 161721, 40.0)


def test_sglang_before_it_had_gauges_for_its_pages():
    text = 'sglang:token_usage 0.1\nsglang:cache_config_info{page_size="64",num_pages="100"} 1\n'
    found = parse(text)
    assert (found.block_size, found.kv_blocks) == (64, 100)


def test_sglang_repeats_figures_for_ranks_and_priorities():
    series = [("0", "0", "", 5), ("0", "1", "", 5), ("1", "0", "", 2)]
    series += [("0", "0", "1", 3), ("0", "0", "2", 2)]
    lines = [
        f'sglang:num_running_reqs{{dp_rank="{dp}",tp_rank="{tp}",priority="{level}"}} {value}'
        for dp, tp, level, value in series
    ]
    assert parse("\n".join(lines)).running == 7.0
    with pytest.raises(ScrapeError):
        parse(lines[-1])


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "-0.5"])
def test_values_that_cannot_be_true_are_not_known(value: str):
    odd = parse(gauges(0, 3, 1, 0.2, 100).replace(" 3\n", f" {value}\n"))
    assert math.isnan(odd.running)
    assert odd.waiting == 1.0


def test_a_usage_above_one_is_not_known():
    assert math.isnan(parse("vllm:kv_cache_usage_perc 45.0").kv_usage)
    assert parse("vllm:kv_cache_usage_perc 1.0").kv_usage == 1.0


@pytest.mark.parametrize("blocks", ["None", "", "-3", "nan", "inf", "9" * 5000, "1e300"])
def test_blocks_that_are_no_number(blocks: str):
    odd = parse(gauges(0, 3, 1, 0.2, blocks))
    assert (odd.block_size, odd.kv_blocks) == (16, 0)


@pytest.mark.parametrize("written", ["1.2e+01", "12", "12.0", "1.2E1", "12.0 1700000000000"])
def test_numbers_as_prometheus_allows_them(written: str):
    assert parse(f"vllm:num_requests_running {written}").running == 12.0


def test_labels_with_quotes_braces_and_newlines_in_them():
    label = r"a \"model\", {x=\"y\"} \\ 9\n"
    text = f'vllm:num_requests_running{{model_name="{label}",engine="0"}} 3\n'
    assert parse(text).running == 3.0


def test_windows_line_ends():
    assert parse(whole_text().replace("\n", "\r\n")) == parse(whole_text())


def test_openmetrics():
    text = (
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 3 1700000000.123\n"
        '# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total 9 # {trace_id="a"} 1.0\n'
        "# EOF\n"
    )
    assert parse(text).running == 3.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# EOF",
        "<html><body>502 Bad Gateway</body></html>",
        '{"detail": "no"}',
        "\0\xff",
    ],
)
def test_a_text_without_gauges(text: str):
    with pytest.raises(ScrapeError, match="no gauge"):
        parse(text)


@pytest.mark.parametrize("rest", ["{", "{a=", '{a="b} 1', " one", " ", '{a="b"}'])
def test_a_line_that_is_cut_off(rest: str):
    with pytest.raises(ScrapeError, match="no Prometheus text"):
        parse(f"vllm:num_requests_waiting 1\nvllm:num_requests_running{rest}")


NAMES = ["vllm:num_requests_running", "vllm:cache_config_info", "sglang:token_usage", "other"]
WORDS = ["{", "}", '"', "=", ",", " ", "\n", "\\", "#", "1", "-", "nan", "engine", "block_size"]


@given(st.lists(st.sampled_from(NAMES + WORDS) | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str):
    try:
        found = parse("vllm:num_requests_waiting 1\n" + text)
    except ScrapeError:
        return
    assert found.sources[1] == "vllm:num_requests_waiting"


def test_a_huge_text():
    assert parse("other_metric 1\n" * 500_000 + "vllm:num_requests_running 2").running == 2.0
    with pytest.raises(ScrapeError, match="lines of gauges"):
        parse("vllm:num_requests_running 2\n" * 100_000)
    with pytest.raises(ScrapeError, match="characters"):
        parse(f'vllm:num_requests_running{{model_name="{"a" * 100_000}"}} 2\n')


def trust(busy: EngineReport, until: float, own_in_flight: int = 0) -> Trust:
    """After scrapes each second from 0, that all said the same."""
    watched = Trust(old_after_s=5.0, stuck_after_s=10.0)
    for second in range(int(until) + 1):
        again = replace(busy, computed_tokens=float("nan"))  # which is not the nan of before
        watched.scraped(float(second), again, own_in_flight)
    return watched


def test_before_the_first_scrape_there_is_nothing_to_believe():
    watched = Trust(5.0, 10.0)
    assert not watched.believed(0.0)
    assert not watched.due_probe(1000.0)


def test_old_gauges_are_not_believed():
    watched = Trust(5.0, 10.0)
    watched.scraped(100.0, report(), 0)
    assert watched.believed(105.0)
    assert not watched.believed(105.1)
    watched.scraped(106.0, report(), 0)
    assert watched.believed(106.0)


@pytest.mark.parametrize(
    "busy",
    [report(running=1), report(waiting=1), report(usage=0.51), report(math.nan, 2, math.nan)],
)
def test_busy_gauges_that_never_change_are_stuck(busy: EngineReport):
    assert trust(busy, 9).believed(9.0)
    watched = trust(busy, 10)
    assert not watched.believed(10.0)
    assert watched.due_probe(10.0)


@pytest.mark.parametrize("idle", [report(), report(usage=0.5), report(math.nan, math.nan, 0.1)])
def test_an_idle_engine_may_say_the_same_for_ever(idle: EngineReport):
    watched = trust(idle, 100)
    assert watched.believed(100.0)
    assert not watched.due_probe(100.0)


def test_gauges_are_not_stuck_while_the_router_has_something_there():
    watched = trust(report(running=1), 100, own_in_flight=1)
    assert watched.believed(100.0)
    for second in range(101, 111):
        watched.scraped(float(second), report(running=1), 0)
    assert watched.believed(110.0), "for nine seconds it has had nothing there"
    watched.scraped(111.0, report(running=1), 0)
    assert not watched.believed(111.0)


def test_only_the_time_since_the_last_own_request_counts():
    watched = trust(report(running=1), 8)
    for second in range(9, 25):
        watched.scraped(float(second), report(running=1), 1 if second < 20 else 0)
    assert watched.believed(24.0)


def test_gauges_that_other_routers_move_are_believed():
    watched = Trust(5.0, 10.0)
    for second in range(100):
        watched.scraped(float(second), report(running=1, usage=0.6 + second / 1000), 0)
    assert watched.believed(99.0)


def test_an_engine_that_counts_tokens_works_though_its_gauges_stand_still():
    watched = Trust(5.0, 10.0)
    for second in range(100):
        watched.scraped(float(second), report(running=1, usage=0.6, computed=second), 0)
    assert watched.believed(99.0)


def test_stuck_gauges_are_believed_when_they_move_and_not_before():
    watched = trust(report(running=9, usage=0.99), 10)
    watched.scraped(11.0, report(running=9, usage=0.99), 1)
    assert not watched.believed(11.0), "a request was sent, and has not yet made a step"
    watched.scraped(12.0, report(running=1, usage=0.01), 1)
    assert watched.believed(12.0)
    assert not watched.due_probe(100.0)


def test_one_probe_is_due_in_each_period():
    watched = trust(report(running=9), 10)
    due = []
    for tenths in range(101, 400):
        watched.scraped(tenths / 10, report(running=9), 0)
        due += [tenths / 10] if watched.due_probe(tenths / 10) else []
    assert due == [10.1, 20.1, 30.1]


def test_a_server_that_does_not_answer_is_not_probed():
    watched = trust(report(running=9), 10)
    assert not watched.due_probe(15.1)
    watched.scraped(16.0, report(running=9), 0)
    assert watched.due_probe(16.0)
