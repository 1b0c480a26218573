"""The encoding of routing decisions, over a router that is not the fleet."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.envs.llm.config import EngineConfig
from makespan.envs.llm.decision import IN_FLIGHT, RECENT, Gauges, RequestView, RoutingDecision
from makespan.envs.llm.env import LLMRouterEnv, observation_space
from makespan.envs.llm.observation import LIMIT, REPLICA_FIELDS, REQUEST_FIELDS, Encoder
from makespan.envs.llm.step_time import ClosedForm

A100 = ClosedForm(
    linear=((8.84, 0.028), (4.62, 0.0473)),
    decode=(0.58, 0.0271, 3.13e-4),
    prefill=(0.58, 1.2e-3, 2.86e-6),
    mixed=None,
    lm_head=(0.18, 0.0),
)
NAN = float("nan")


@dataclass
class Proxy:
    """The columns of a router with N replicas, as a live proxy would keep them."""

    requests: np.ndarray
    prefill_tokens: np.ndarray
    decoding: np.ndarray
    streaming: np.ndarray
    gauge: np.ndarray  # (4, N): running, waiting, kv_usage, age_s
    prefix: np.ndarray
    block_size: np.ndarray
    kv_blocks: np.ndarray
    step_time: list = field(default_factory=list)
    engines: list = field(default_factory=list)
    held: int = 0

    def decode_tokens(self) -> np.ndarray:
        return self.streaming

    def gauges(self) -> Gauges:
        return Gauges(*self.gauge)

    def prefix_tokens(self, request: RequestView) -> np.ndarray:
        return self.prefix

    def in_flight(self, replica: int) -> np.ndarray:
        return np.zeros(0, IN_FLIGHT)

    def recent(self, replica: int) -> np.ndarray:
        return np.zeros(0, RECENT)


def proxy(n: int = 2) -> Proxy:
    """Replica r holds r + 1 times what the first does, but for the last, which has no gauges."""
    scale = np.arange(1, n + 1)
    gauge = np.array([[3.0], [1.0], [0.25], [0.5]]) * np.ones(n)
    gauge[:, -1] = NAN
    return Proxy(
        requests=4 * scale,
        prefill_tokens=1000 * scale,
        decoding=3 * scale,
        streaming=2000 * scale,
        gauge=gauge,
        prefix=np.full(n, 160),
        block_size=np.full(n, 16),
        kv_blocks=np.full(n, 1001),
        step_time=[A100] * n,
        engines=[EngineConfig()] * n,
    )


REQUEST = RequestView(
    index=0,
    prompt_tokens=500,
    prefix_hashes=np.zeros(0, np.int64),
    session=7,
    priority=-2,
    slo_class="",
    predicted_tokens=100.0,
    attempt=1,
)


def decision(router: Proxy, request: RequestView = REQUEST, mask: list | None = None):
    legal = np.ones(len(router.requests), bool) if mask is None else np.array(mask)
    return RoutingDecision(0.0, request, legal, router)


def raw(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The raw value of every field by name, recovered from what is shown."""
    values = {}
    for prefix, key, fields in (
        ("", "replica", REPLICA_FIELDS),
        ("request.", "request", REQUEST_FIELDS),
    ):
        for j, described in enumerate(fields):
            shown = observation[key][..., j].astype(float)
            unscaled = np.abs(shown) * math.log1p(described.reference)
            values[prefix + described.name] = np.sign(shown) * np.expm1(unscaled)
    return values


def test_every_field_shows_its_value():
    values = raw(Encoder(2).encode(decision(proxy())))
    expected = {
        "requests": [4, 8],
        "prefill_tokens": [1000, 2000],
        "decoding": [3, 6],
        "decode_tokens": [2000, 4000],
        "prefix_tokens": [160, 160],
        "uncached_tokens": [340, 340],
        "kv_load": [(1340 + 2000) / 16_000, (2340 + 4000) / 16_000],
        "prefill_s": [1340 * values["prefill_token_s"][0], 2340 * values["prefill_token_s"][0]],
        "running": [3, 0],
        "waiting": [1, 0],
        "kv_usage": [0.25, 0],
        "gauge_age_s": [0.5, 0],
        "gauge_known": [1, 0],
        "kv_tokens": [16_000, 16_000],
        "decode_step_s": [A100.decode_run(1, 1, 1)] * 2,
        "prefill_token_s": [A100.step(0, 0, 1, 1024, 1024 * 512.0, 0) / 1024] * 2,
        "request.prompt_tokens": 500,
        "request.predicted_tokens": 100,
        "request.prediction_known": 1,
        "request.in_session": 1,
        "request.priority": -2,
        "request.attempt": 1,
    }
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5, err_msg=name)


def test_a_value_at_its_reference_is_shown_as_one():
    router = proxy()
    router.requests[:] = 256
    router.streaming[:] = 262_144
    replica = Encoder(2).encode(decision(router))["replica"]
    assert replica[:, 0] == pytest.approx(1.0)
    assert replica[:, 3] == pytest.approx(1.0)


def test_what_is_not_known_is_zero_with_a_flag():
    request = replace(REQUEST, predicted_tokens=NAN, session=-1)
    values = raw(Encoder(2).encode(decision(proxy(), request)))
    assert values["request.predicted_tokens"] == 0
    assert values["request.prediction_known"] == 0
    assert values["request.in_session"] == 0


def test_rows_without_a_replica_are_padding():
    encoder = Encoder(5)
    observation = encoder.encode(decision(proxy(3), mask=[True, False, True]))
    assert observation["replica_mask"].tolist() == [1, 1, 1, 0, 0]
    assert observation["action_mask"].tolist() == [1, 0, 1, 0, 0]
    assert not observation["replica"][3:].any()
    assert observation["replica"][:3].any(axis=1).all()
    exact = Encoder(3).encode(decision(proxy(3)))["replica"]
    np.testing.assert_array_equal(observation["replica"][:3], exact)


def test_holding_is_the_last_action_whatever_the_size_of_the_fleet():
    encoder = Encoder(4, hold=True)
    due = decision(proxy(2), mask=[False, True, True])
    assert encoder.mask(due).tolist() == [False, True, False, False, True]
    assert encoder.answer(due, 4) == 2
    assert encoder.answer(due, 1) == 1
    barred = decision(proxy(2), mask=[True, True, False])
    assert encoder.mask(barred).tolist() == [True, True, False, False, False]
    unable = decision(proxy(2))
    assert encoder.mask(unable).tolist() == [True, True, False, False, False]


def test_more_replicas_than_rows_are_an_error():
    with pytest.raises(ValueError, match="3 replicas"):
        Encoder(2).encode(decision(proxy(3)))


def test_observations_share_no_memory_with_the_router_or_each_other():
    router, encoder = proxy(), Encoder(2)
    first = encoder.encode(decision(router))
    kept = {key: value.copy() for key, value in first.items()}
    router.requests += 50
    router.gauge[:] = 9.0
    second = encoder.encode(decision(router, mask=[True, False]))
    for key, value in first.items():
        np.testing.assert_array_equal(value, kept[key])
        assert not np.shares_memory(value, second[key])
    assert not np.array_equal(first["replica"], second["replica"])


def test_another_fleet_shows_other_hardware():
    encoder, faster = Encoder(2), proxy()
    faster.step_time = [A100.with_speed(2.0)] * 2
    slow = raw(encoder.encode(decision(proxy())))
    fast = raw(encoder.encode(decision(faster)))
    for name in ("decode_step_s", "prefill_token_s", "prefill_s"):
        np.testing.assert_allclose(fast[name], slow[name] / 2, rtol=1e-4)


counts = st.integers(0, 2**40)


@given(
    columns=st.tuples(counts, counts, counts, counts),
    gauge=st.tuples(*[st.floats(0, 1e12) | st.just(NAN)] * 4),
    prompt=st.integers(1, 2**31),
    cached=st.floats(0, 1),
    predicted=st.floats(0, 1e12) | st.just(NAN),
    priority=st.integers(-(2**62), 2**62),
)
def test_every_observation_is_finite_and_in_its_space(
    columns, gauge, prompt, cached, predicted, priority
):
    router = proxy(1)
    router.requests, router.prefill_tokens, router.decoding, router.streaming = (
        np.array([value]) for value in columns
    )
    router.gauge = np.array(gauge)[:, None]
    router.prefix = np.array([int(cached * prompt)])
    request = replace(REQUEST, prompt_tokens=prompt, predicted_tokens=predicted, priority=priority)
    observation = Encoder(2).encode(decision(router, request))
    space = observation_space(2, False)
    assert space.contains(observation)
    assert all(np.isfinite(value).all() for value in observation.values())
    assert observation["replica"].max() <= LIMIT


def test_the_documentation_lists_the_fields_in_their_order():
    text = LLMRouterEnv.__doc__
    assert text is not None
    for fields in (REPLICA_FIELDS, REQUEST_FIELDS):
        for j, described in enumerate(fields):
            row = next(line for line in text.splitlines() if f"| {j} `{described.name}`" in line)
            assert row.split("|")[-2].strip() == f"{described.reference:,}"
    assert f"(R, {len(REPLICA_FIELDS)})" in text
    assert f"({len(REQUEST_FIELDS)},)" in text
