"""What holds for every registered policy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.llm import POLICIES, TUNED, make, policy, summary
from makespan.envs.core.registry import load

SEEDED = {
    "random",
    "power_of_two",
    "production_prefixaware",
    "aibrix_prefix_cache",
    "llmd_epp",
    "dynamo_kv",
    "dynamo_kv_queue",
    "ray_prefix_affinity",
}
NEED_MODELS = {"ttft_estimate", "mixing_impact", "lookahead", "lookahead_hold"}
MAY_HOLD = {"dynamo_kv_queue", "lookahead_hold"}


def untuned(name: str) -> str:
    return name.removesuffix("_tuned")


def random_decision(decide, models, random, n, healthy=None, **fields):
    """A decision with something in every column; some gauges and predictions are missing."""

    def gauge(high):
        return np.where(random.random(n) < 0.2, np.nan, random.integers(0, high, n))

    def in_flight():
        return {
            "prompt_tokens": random.integers(1, 3000),
            "uncached_tokens": random.integers(1, 3000),
            "streamed_tokens": random.integers(0, 3) * 20,
            "predicted_tokens": random.choice([np.nan, 50.0, 400.0]),
        }

    def finished():
        fields = in_flight() | {"ttft_s": random.random(), "tpot_s": 0.1, "output_tokens": 9}
        return {k: v for k, v in fields.items() if k not in ("streamed_tokens", "predicted_tokens")}

    return decide(
        n,
        healthy=healthy,
        requests=random.integers(0, 60, n),
        prefill_tokens=random.integers(0, 9000, n),
        decode_tokens=random.integers(0, 50_000, n),
        prefix_tokens=random.integers(0, 60, n) * 16,
        gauges={
            "running": gauge(40),
            "waiting": gauge(20),
            "kv_usage": gauge(2) / 2,
            "age_s": gauge(2),
        },
        in_flight=[[in_flight() for _ in range(random.integers(0, 4))] for _ in range(n)],
        recent=[[finished() for _ in range(random.integers(0, 10))] for _ in range(n)],
        models=models(*([1.0] * n)),
        session=int(random.integers(-1, 3)),
        predicted_tokens=float(random.choice([np.nan, 20.0])),
        **fields,
    )


@pytest.mark.parametrize("name", POLICIES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_only_healthy_replicas_are_chosen(decide, models, name, data):
    n = data.draw(st.sampled_from([1, 2, 4, 64]))
    can_hold = data.draw(st.booleans())
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rule = policy(name, seed=5)
    for step in range(4):
        healthy = random.random(n) < 0.5
        if not can_hold:
            healthy[random.integers(n)] = True
        decision = random_decision(
            decide, models, random, n, healthy, time=0.1 * step, can_hold=can_hold
        )
        action = rule(decision)
        assert type(action) is int
        assert decision.action_mask[action]
        if untuned(name) not in MAY_HOLD or not can_hold:
            assert (action == n) == (not healthy.any())


def run(decide, models, name, seed: int, n: int = 4, count: int = 40, **constants: Any):
    random = np.random.default_rng(0)
    rule = policy(name, seed, **constants)
    decisions = (random_decision(decide, models, random, n, time=0.1 * i) for i in range(count))
    return [rule(decision) for decision in decisions]


@pytest.mark.parametrize("name", POLICIES)
def test_a_fresh_policy_of_the_same_seed_decides_the_same(decide, models, name):
    assert run(decide, models, name, seed=1) == run(decide, models, name, seed=1)


@pytest.mark.parametrize("name", POLICIES)
def test_the_seed_matters_to_those_that_draw(decide, name):
    def ties(seed):
        rule = policy(name, seed)
        return [rule(decide(8, in_flight=None, index=0)) for _ in range(30)]

    if untuned(name) in SEEDED:
        assert ties(1) != ties(2)
    elif untuned(name) not in NEED_MODELS:
        assert ties(1) == ties(2)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_use_more_than_one_replica(decide, models, name):
    assert len(set(run(decide, models, name, seed=3, n=8))) > 1


@pytest.mark.parametrize("name", POLICIES)
def test_summaries_are_one_short_sentence(name):
    text = summary(name)
    assert text.endswith(".")
    assert len(text) < 100


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_names_its_source(name):
    assert "Source:" in load("router policy", POLICIES, name).__doc__


def test_settings_replace_constants(decide):
    decision = decide(2, requests=[20, 0], prefix_tokens=[900, 0])
    assert make("cache_aware")(decision) == 0
    assert make("cache_aware", balance_abs=10)(decision) == 1


@pytest.mark.parametrize("name", TUNED)
def test_a_tuned_rule_is_the_published_one_with_other_constants(decide, models, name):
    rule, constants = untuned(name), TUNED[name]
    assert rule in POLICIES
    tuned = run(decide, models, name, seed=4, n=8, count=200)
    assert tuned == run(decide, models, rule, seed=4, n=8, count=200, **constants)
    assert rule in summary(name)


def test_tuned_constants_count():
    assert TUNED
    assert all(TUNED.values())


def test_settings_replace_tuned_constants(monkeypatch, decide):
    monkeypatch.setitem(TUNED, "cache_aware_tuned", {"balance_abs": 10, "cache_threshold": 0.1})
    monkeypatch.setitem(POLICIES, "cache_aware_tuned", POLICIES["cache_aware"])
    decision = decide(2, requests=[20, 0], prefix_tokens=[200, 0])
    assert policy("cache_aware_tuned")(decision) == 1
    assert policy("cache_aware_tuned", balance_abs=99)(decision) == 0
    assert policy("cache_aware", balance_abs=99)(decision) == 1


@pytest.mark.parametrize("construct", [make, policy, summary])
def test_unknown_names_are_answered_with_the_nearest(construct):
    with pytest.raises(ValueError, match=r"unknown router policy 'lest_request'.*'least_requests'"):
        construct("lest_request")
