"""Policies of production routers: decisions computed by hand, on either side of a threshold."""

from collections import Counter

import pytest

from makespan.baselines.llm import make
from makespan.baselines.llm.production import cache_aware, production_loadaware


def choices(rule, decision, draws: int = 100) -> set[int]:
    return {rule(decision) for _ in range(draws)}


# vLLM data parallel


def test_vllm_dp_takes_the_larger_of_own_count_and_gauges(decide):
    # scores: max(5, 1) = 5; max(1, 4) = 4
    decision = decide(2, requests=[5, 1], gauges={"running": [1, 4], "waiting": [0, 0]})
    assert make("vllm_dp")(decision) == 1
    # eight clients: max(8 * 5, 1) = 40; max(8 * 1, 4) = 8, against max(8 * 1, 10) = 10
    decision = decide(2, requests=[1, 1], gauges={"running": [10, 4], "waiting": [0, 0]})
    assert make("vllm_dp", client_count=8)(decision) == 1


@pytest.mark.parametrize(("kv_usage", "choice"), [(0.5, 0), (0.7, 0), (0.72, 1)])
def test_vllm_dp_charges_a_queue_for_kv_pressure(decide, kv_usage, choice):
    # replica 0: 4 + 6 * 4 * (kv - 0.5) = 4, 8.8, 9.28; replica 1: 9
    gauges = {"running": [0, 9], "waiting": [4, 0], "kv_usage": [kv_usage, 1.0]}
    assert make("vllm_dp")(decide(2, gauges=gauges)) == choice


def test_vllm_dp_counts_what_it_sent_until_the_next_scrape(decide):
    rule = make("vllm_dp")
    gauges = {"running": [0, 1], "waiting": [0, 0], "kv_usage": [0, 0]}
    first = decide(2, time=1.0, gauges=gauges | {"age_s": [0.02, 0.02]})
    later = decide(2, time=1.05, gauges=gauges | {"age_s": [0.07, 0.07]})
    # 0 wins; then 1 against 1 and the scan starts at 1; then 1 against 2.
    assert [rule(first), rule(later), rule(later)] == [0, 1, 0]
    fresh = decide(2, time=1.1, gauges=gauges | {"age_s": [0.02, 0.02]})
    assert rule(fresh) == 0


def test_vllm_dp_rotates_over_equals_before_the_first_scrape(decide):
    rule = make("vllm_dp")
    assert [rule(decide(3)) for _ in range(4)] == [0, 1, 2, 0]


# production-stack


def test_prefixaware_ignores_load_and_counts_chunks_of_32_tokens(decide):
    rule = make("production_prefixaware")
    loaded = decide(3, prefix_tokens=[16, 64, 80], requests=[0, 99, 99])
    assert choices(rule, loaded) == {1, 2}
    assert choices(rule, decide(3, prefix_tokens=[16, 64, 96])) == {2}
    assert choices(rule, decide(3, prefix_tokens=[16, 0, 0])) == {0, 1, 2}


@pytest.mark.parametrize(("matched", "choice"), [(400, 1), (600, 0)])
def test_loadaware_trades_hits_for_load(decide, matched, choice):
    # Mean load 4: relative loads +0.25 and -0.25, so replica 0 needs more than half of the prompt.
    decision = decide(2, requests=[5, 3], prefix_tokens=[matched, 0])
    assert production_loadaware(decision) == choice


def test_loadaware_beta_is_the_exchange_rate(decide):
    decision = decide(2, requests=[5, 3], prefix_tokens=[400, 0])
    assert make("production_loadaware", beta=0.5)(decision) == 0


def test_loadaware_averages_over_the_healthy(decide):
    # With the failed replica the mean would be 34 and its neighbour's load would hardly count:
    # (10 - 34) / 34 - 0.4 < (2 - 34) / 34; over the healthy, (10 - 6) / 6 - 0.4 > (2 - 6) / 6.
    decision = decide(3, requests=[10, 2, 90], prefix_tokens=[400, 0, 0], healthy=[1, 1, 0])
    assert production_loadaware(decision) == 1


# vllm-router and SGLang


@pytest.mark.parametrize(("matched", "choice"), [(500, 1), (501, 0)])
def test_cache_aware_needs_more_than_half_of_the_prompt(decide, matched, choice):
    assert cache_aware(decide(2, requests=[20, 10], prefix_tokens=[matched, 0])) == choice


@pytest.mark.parametrize(
    ("requests", "choice"),
    [
        ([32, 0], 0),  # difference 32 is not more than 32
        ([33, 0], 1),
        ([400, 364], 0),  # 36 more, yet not 1.1 times as many
        ([400, 363], 1),
    ],
)
def test_cache_aware_balances_when_both_thresholds_are_passed(decide, requests, choice):
    assert cache_aware(decide(2, requests=requests, prefix_tokens=[900, 0])) == choice


# AIBrix


@pytest.mark.parametrize(("requests", "choice"), [([8, 0, 8, 8], 0), ([9, 0, 0, 0], 1)])
def test_aibrix_prefix_cache_routes_to_the_least_loaded_when_imbalanced(decide, requests, choice):
    # [8, 0, 8, 8]: difference 8 is balanced, limit 6 + 4 = 10. [9, 0, 0, 0]: imbalanced.
    decision = decide(4, requests=requests, prefix_tokens=[900, 100, 0, 0])
    assert choices(make("aibrix_prefix_cache"), decision) == {choice}


def test_aibrix_prefix_cache_passes_over_replicas_above_one_sigma(decide):
    # Mean 2, sample deviation 4: the limit is 6; the longest match has 8, the next is taken.
    decision = decide(4, requests=[8, 0, 0, 0], prefix_tokens=[900, 100, 0, 0])
    assert choices(make("aibrix_prefix_cache"), decision) == {1}
    assert choices(make("aibrix_prefix_cache", deviations=2.0), decision) == {0}


def test_aibrix_prefix_cache_compares_whole_percents_then_load(decide):
    rule = make("aibrix_prefix_cache")
    load = [2, 1, 1, 2]
    assert choices(rule, decide(requests=load, prefix_tokens=[509, 500, 500, 0])) == {1, 2}
    assert choices(rule, decide(requests=load, prefix_tokens=[510, 500, 500, 0])) == {0}


def test_aibrix_prefix_cache_without_a_match_draws_from_the_least_loaded(decide):
    assert choices(make("aibrix_prefix_cache"), decide(3, requests=[1, 0, 0])) == {1, 2}


def finished(**fields):
    default = {"uncached_tokens": 100, "prompt_tokens": 100, "output_tokens": 11}
    return default | {"ttft_s": 0.5, "tpot_s": 0.05} | fields


def test_aibrix_least_latency_explores_then_takes_the_fastest(decide):
    rule = make("aibrix_least_latency")
    assert rule(decide(2, recent=[[finished()], []])) == 1
    slow, fast = finished(tpot_s=0.1), finished(ttft_s=0.9)
    # decode 1.0 s + prefill 0.5 s against decode 0.5 s + prefill 0.9 s
    assert make("aibrix_least_latency")(decide(2, recent=[[slow], [fast]])) == 1


def test_aibrix_least_latency_scales_by_tokens_but_not_the_queue(decide):
    # Replica 0 had prompts of 300 tokens: 1.5 s for 300, so 1.0 s for the mean of 200. Replica 1:
    # 0.6 s for 100, 1.2 s for 200; or all but 0.1 s of it queueing, which is not scaled: 0.7 s.
    long = finished(prompt_tokens=300, uncached_tokens=300, ttft_s=1.5)
    short = finished(ttft_s=0.6)
    queued = finished(ttft_s=0.6, queued_tokens=500)
    assert make("aibrix_least_latency")(decide(2, recent=[[long], [short]])) == 0
    assert make("aibrix_least_latency")(decide(2, recent=[[long], [queued]])) == 1


def test_aibrix_least_latency_keeps_its_means_between_refreshes(decide):
    rule = make("aibrix_least_latency", refresh_s=1.0)
    assert rule(decide(2, time=5.0, recent=[[finished()], []])) == 1
    assert rule(decide(2, time=5.5, recent=[[], [finished()]])) == 1
    assert rule(decide(2, time=6.0, recent=[[], [finished()]])) == 0


def test_aibrix_least_latency_reads_one_token_answers(decide):
    single = finished(output_tokens=1, tpot_s=float("nan"), ttft_s=0.4)
    assert make("aibrix_least_latency")(decide(2, recent=[[finished()], [single]])) == 1


# llm-d


@pytest.mark.parametrize(("matched", "choice"), [(656, 1), (672, 0)])
def test_llmd_epp_weighs_prefix_3_against_queue_2(decide, matched, choice):
    # 1,000 tokens are 63 blocks: 3 * 41 / 63 = 1.95 and 3 * 42 / 63 = 2, against 2 - 2 * 0.01.
    gauges = {"waiting": [5, 0], "kv_usage": [0.5, 0.51]}
    decision = decide(2, gauges=gauges, prefix_tokens=[matched, 0])
    assert choices(make("llmd_epp"), decision) == {choice}


def test_llmd_epp_weighs_kv_2(decide):
    gauges = {"waiting": [0, 0], "kv_usage": [0.9, 0.1]}
    # 3 * 33 / 63 = 1.57 < 2 * 0.8 = 1.6 < 3 * 34 / 63
    assert choices(make("llmd_epp"), decide(2, gauges=gauges, prefix_tokens=[528, 0])) == {1}
    assert choices(make("llmd_epp"), decide(2, gauges=gauges, prefix_tokens=[544, 0])) == {0}


def test_llmd_epp_sees_no_more_than_256_blocks(decide):
    prefix = [4096, 8192]
    seen = choices(make("llmd_epp"), decide(2, prompt_tokens=9000, prefix_tokens=prefix))
    assert seen == {0, 1}


def test_llmd_epp_draws_among_equals_before_the_first_scrape(decide):
    rule = make("llmd_epp", seed=1)
    counts = Counter(rule(decide(4)) for _ in range(400))
    assert set(counts) == {0, 1, 2, 3}


def test_llmd_epp_normalises_queues_over_the_healthy(decide):
    # Without the failed replica the queues are 0 and 4, a whole point of difference times 2.
    gauges = {"waiting": [4, 0, 400], "kv_usage": [0, 0.5, 0]}
    decision = decide(3, gauges=gauges, healthy=[1, 1, 0])
    assert choices(make("llmd_epp"), decision) == {1}


# Dynamo


@pytest.mark.parametrize(("decode", "choice"), [(479, 0), (481, 1)])
def test_dynamo_charges_uncached_prompt_and_kv_in_use(decide, decode, choice):
    # (1000 - 480 + decode) / 16 against 1000 / 16
    decision = decide(2, prefix_tokens=[480, 0], decode_tokens=[decode, 0])
    assert choices(make("dynamo_kv"), decision) == {choice}


def test_dynamo_charges_prefill_in_flight_twice(decide):
    """Once as work to be done, once as blocks in use."""
    decision = decide(2, prefill_tokens=[100, 0], decode_tokens=[0, 199])
    assert choices(make("dynamo_kv"), decision) == {1}
    decision = decide(2, prefill_tokens=[100, 0], decode_tokens=[0, 201])
    assert choices(make("dynamo_kv"), decision) == {0}


def test_dynamo_scale_and_credit(decide):
    decision = decide(2, prefix_tokens=[480, 0], decode_tokens=[600, 0])
    assert choices(make("dynamo_kv"), decision) == {1}
    assert choices(make("dynamo_kv", prefill_load_scale=2.0), decision) == {0}
    assert choices(make("dynamo_kv", overlap_credit=2.0), decision) == {0}


@pytest.mark.parametrize(("pending", "choice"), [(4096, 1), (4097, 2)])
def test_dynamo_queue_holds_above_the_threshold(decide, pending, choice):
    # Twice the budget of 2,048 tokens is not more than the threshold.
    decision = decide(2, prefill_tokens=[9000, pending], can_hold=True)
    assert choices(make("dynamo_kv_queue", queue_threshold=2.0), decision) == {choice}


def test_dynamo_queue_waits_for_the_healthy_alone(decide):
    fleet = {"healthy": [1, 0], "can_hold": True}
    rule = make("dynamo_kv_queue", queue_threshold=1.0)
    assert rule(decide(2, prefill_tokens=[3000, 0], **fleet)) == 2
    assert rule(decide(2, prefill_tokens=[2000, 9000], **fleet)) == 0


def test_dynamo_queue_is_16_budgets_and_off_in_dynamo_kv(decide):
    decision = decide(2, prefill_tokens=[16 * 2048 + 1] * 2, can_hold=True)
    assert make("dynamo_kv_queue")(decision) == 2
    assert make("dynamo_kv_queue", queue_threshold=17)(decision) < 2
    assert make("dynamo_kv")(decision) < 2


def test_dynamo_queue_holds_only_where_that_is_legal(decide):
    rule = make("dynamo_kv_queue", queue_threshold=0.0)
    assert rule(decide(2, prefill_tokens=[500, 400])) == 1
    decision = decide(2, prefill_tokens=[500, 400], can_hold=True)
    assert rule(decision) == 2
    decision.action_mask[-1] = False
    assert rule(decision) == 1


# Ray


@pytest.mark.parametrize(("matched", "choice"), [(96, 1), (112, 0)])
def test_ray_needs_a_tenth_of_the_prompt(decide, matched, choice):
    rule = make("ray_prefix_affinity")
    rule(decide(2, prompt_tokens=50, requests=[0, 9]))  # now replica 0 has the larger tree
    assert rule(decide(2, requests=[0, 9], prefix_tokens=[matched, 0])) == choice


def test_ray_takes_the_shorter_queue_of_the_longest_matches(decide):
    decision = decide(3, requests=[7, 3, 0], prefix_tokens=[512, 512, 496])
    assert choices(make("ray_prefix_affinity"), decision) == {1}


def test_ray_grows_the_tree_by_what_did_not_match(decide):
    rule = make("ray_prefix_affinity")
    rule(decide(2, prompt_tokens=100, requests=[0, 9]))  # tree 100, 0
    rule(decide(2, prompt_tokens=150, requests=[9, 9]))  # tree 100, 150
    rule(decide(2, prompt_tokens=150, requests=[0, 0], prefix_tokens=[96, 0]))  # 154, 150
    assert rule(decide(2, requests=[0, 9])) == 1


def test_ray_falls_back_to_two_choices_when_imbalanced(decide):
    rule = make("ray_prefix_affinity", imbalanced_threshold=10)
    decision = decide(3, requests=[12, 1, 5], prefix_tokens=[900, 0, 0])
    assert choices(rule, decision) == {1, 2}
    assert choices(make("ray_prefix_affinity"), decision) == {0}
