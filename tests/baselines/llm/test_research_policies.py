"""Policies from papers: decisions computed by hand."""

import numpy as np
import pytest

from makespan.baselines.llm import make
from makespan.baselines.llm.research import (
    decode_token_seconds,
    lmetric,
    prompt_token_seconds,
)
from makespan.baselines.llm.simple import least_requests
from makespan.envs.llm.config import EngineConfig


def test_lmetric_multiplies_p_tokens_by_batch_size(decide):
    # (0 + 1000 - 0) * 3 = 3000 against (100 + 1000 - 800) * 5 = 1500
    decision = decide(2, requests=[3, 5], prefill_tokens=[0, 100], prefix_tokens=[0, 800])
    assert lmetric(decision) == 1
    assert least_requests(decision) == 0
    # (500 + 1000) * 3 against 1000 * 5
    assert lmetric(decide(2, requests=[3, 5], prefill_tokens=[500, 0])) == 0


def test_lmetric_on_idle_replicas_takes_the_cached_prompt(decide):
    assert lmetric(decide(3, prefix_tokens=[0, 0, 160])) == 2
    assert lmetric(decide(3, requests=[0, 1, 1], prefix_tokens=[0, 0, 984])) == 0


# SMetric


def finished(uncached: int, ttft_s: float, count: int = 8) -> list[dict]:
    return [{"uncached_tokens": uncached, "prompt_tokens": uncached, "ttft_s": ttft_s}] * count


def turn(rule, decide, **columns):
    """The choice for a turn of session 1 after one of 800 tokens, the scan starting at 0."""
    idle = decide(2, session=1, prompt_tokens=800)
    rule(idle)
    rule(decide(2, session=9))
    return rule(decide(2, session=1, **columns))


def test_smetric_first_turns_go_to_the_least_work_times_requests(decide):
    # (0 + 1000) * 4 against (2000 + 1000 - 600) * 1
    columns = {"requests": [4, 1], "prefill_tokens": [0, 2000], "prefix_tokens": [0, 600]}
    assert make("smetric")(decide(2, **columns)) == 1
    # a long cached prefix alone does not hold a request without a session
    assert make("smetric")(decide(2, requests=[1, 19], prefix_tokens=[0, 900])) == 0


@pytest.mark.parametrize(("matched", "choice"), [(400, 0), (416, 1)])
def test_smetric_follow_ups_need_half_of_their_history(decide, matched, choice):
    columns = {"requests": [1, 9], "prefix_tokens": [0, matched]}
    assert turn(make("smetric"), decide, **columns) == choice


@pytest.mark.parametrize(
    ("pending", "elsewhere", "choice"),
    [
        (800, 0, 1),  # 1000 tokens at 1000/s: 1.0 s meets 1 s + 0.0625 s
        (900, 0, 0),  # 1.1 s does not, and replica 0 takes 1.0 s
        (900, 100, 1),  # nor does any other
    ],
)
def test_smetric_leaves_its_prefix_only_for_a_replica_in_time(decide, pending, elsewhere, choice):
    columns = {
        "requests": [1, 9],
        "prefix_tokens": [0, 800],
        "prefill_tokens": [elsewhere, pending],
        "recent": [finished(1000, 1.0), finished(1000, 1.0)],
    }
    assert turn(make("smetric"), decide, **columns) == choice


def test_smetric_needs_eight_samples_to_doubt(decide):
    columns = {"requests": [1, 9], "prefix_tokens": [0, 800], "prefill_tokens": [0, 10**6]}
    few, enough = finished(1000, 1.0, count=7), finished(1000, 1.0)
    assert turn(make("smetric"), decide, **columns, recent=[enough, few]) == 1
    assert turn(make("smetric"), decide, **columns, recent=[enough, enough]) == 0


def test_smetric_takes_the_90th_percentile_of_rates(decide):
    # Of ten samples the ninth: it decides whether 2,000 tokens take 2 s or 1 s.
    columns = {"requests": [1, 9], "prefix_tokens": [0, 800], "prefill_tokens": [0, 1800]}
    one_fast = finished(1000, 1.0, count=9) + finished(1000, 0.5, count=1)
    two_fast = finished(1000, 1.0, count=8) + finished(1000, 0.5, count=2)
    idle = finished(1000, 1.0)
    assert turn(make("smetric"), decide, **columns, recent=[idle, one_fast]) == 0
    assert turn(make("smetric"), decide, **columns, recent=[idle, two_fast]) == 1


def test_smetric_counts_attention_of_pending_prompts(decide):
    # Equal uncached tokens, but replica 0's belong to a long, mostly cached prompt:
    # 100 * (4000 - 50) > 100 * (100 - 50).
    long = {"uncached_tokens": 100, "prompt_tokens": 4000}
    short = {"uncached_tokens": 100, "prompt_tokens": 100}
    done = {"uncached_tokens": 9000, "prompt_tokens": 9000, "streamed_tokens": 1}
    decision = decide(
        2,
        requests=[1, 1],
        prefill_tokens=[100, 100],
        in_flight=[[long], [short, done]],
    )
    assert make("smetric")(decision) == 0
    assert make("smetric", c_att=1e-3)(decision) == 1


def test_smetric_moves_the_start_of_its_scan(decide):
    rule = make("smetric")
    assert [rule(decide(3)) for _ in range(4)] == [0, 1, 2, 0]


# TTFT estimate


def test_ttft_estimate_counts_queue_and_own_uncached_tokens(decide, models):
    columns = {"requests": [0, 9], "prefill_tokens": [700, 100], "prefix_tokens": [496, 0]}
    decision = decide(2, **columns, models=models(1.0, 1.0))
    assert make("ttft_estimate")(decision) == 1
    columns["prefix_tokens"] = [704, 0]
    assert make("ttft_estimate")(decide(2, **columns, models=models(1.0, 1.0))) == 0


def test_ttft_estimate_sends_more_to_the_faster_replica(decide, models):
    columns = {"prefill_tokens": [0, 900]}
    assert make("ttft_estimate")(decide(2, **columns, models=models(1.0, 2.0))) == 1
    assert make("ttft_estimate")(decide(2, **columns, models=models(1.0, 1.8))) == 0


def test_ttft_estimate_spreads_over_equals_by_requests(decide, models):
    decision = decide(3, requests=[2, 1, 1], models=models(1.0, 1.0, 1.0))
    assert make("ttft_estimate")(decision) == 1


def test_token_seconds_follow_the_speed(decide, models):
    decision = decide(2, models=models(1.0, 2.0))
    for seconds in (prompt_token_seconds(decision), decode_token_seconds(decision)):
        assert seconds[0] == pytest.approx(2 * seconds[1])
        assert 0 < seconds[0] < 1e-2


def test_prompt_token_seconds_use_the_token_budget(decide, models):
    small, large = (EngineConfig(max_num_batched_tokens=budget) for budget in (64, 2048))
    slow = prompt_token_seconds(decide(1, models=models(1.0), engine=small))[0]
    assert slow > 2 * prompt_token_seconds(decide(1, models=models(1.0), engine=large))[0]


# Mixing impact


def busy(prompt: int, predicted: float, streamed: int = 1) -> dict:
    return {"prompt_tokens": prompt, "predicted_tokens": predicted, "streamed_tokens": streamed}


V100 = {"grad1": 3.2e-4, "grad2": 3.3e-5}


def test_mixing_impact_keeps_heavy_prompts_from_decodes(decide):
    # Replica 0: T = 0.32 + 0.33 = 0.65 s, r_p = 0.5 / 0.65 - 1 = -0.231; r_d is the same for both.
    # A light prompt (0.032 + 0.33 s) does no harm: the first of equals.
    columns = {
        "decode_tokens": [10_000, 100],
        "in_flight": [[busy(9_900, 300)], [busy(9_900, 300)]],
        "kv_blocks": 2001,
        "predicted_tokens": 100,
    }
    assert make("mixing_impact", **V100)(decide(2, prompt_tokens=1000, **columns)) == 1
    assert make("mixing_impact", **V100)(decide(2, prompt_tokens=100, **columns)) == 0


def test_mixing_impact_weighs_prompt_harm_against_crowding(decide):
    # r_p = -0.231, 0; r_d = 1 - 2 * (10000 + 1100) / 32000 and 1 - 2 * (x + 1100) / 32000: at
    # alpha 0.5 replica 0 wins if x - 10000 > 0.231 * 16000 = 3692.
    def choice(held: int, alpha: float = 0.5) -> int:
        decision = decide(
            2,
            decode_tokens=[10_000, 0],
            in_flight=[[busy(9_900, 100)], [busy(held - 100, 100)]],
            kv_blocks=2001,
            predicted_tokens=100,
        )
        return make("mixing_impact", alpha=alpha, **V100)(decision)

    assert choice(13_600) == 1
    assert choice(13_800) == 0
    assert choice(13_800, alpha=0.6) == 1


def test_mixing_impact_fills_in_missing_predictions(decide):
    """175.71 tokens where there is none; never less than what has been streamed."""
    unknown, known = busy(100, np.nan), busy(100, 175)
    longer = busy(100, np.nan, streamed=180)

    def choice(one: dict, other: dict) -> int:
        rule = make("mixing_impact", **V100)
        return rule(decide(2, prompt_tokens=10, in_flight=[[one], [other]]))

    assert choice(unknown, known) == 1
    assert choice(unknown, busy(100, 176)) == 0
    assert choice(longer, busy(100, 179)) == 1


def test_mixing_impact_takes_its_gradients_from_the_step_time_models(decide, models):
    """A heavy prompt for the slow replica is a light one for the fast."""
    decision = decide(2, prompt_tokens=100_000, kv_blocks=10**6, models=models(1.0, 100.0))
    assert make("mixing_impact")(decision) == 1
