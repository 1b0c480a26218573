"""The lookahead policy against a simulation that takes every step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.baselines.llm import make
from makespan.baselines.llm.lookahead import LookaheadHold, added_seconds
from makespan.envs.llm.config import EngineConfig
from makespan.envs.llm.decision import IN_FLIGHT
from makespan.envs.llm.observation import prefill_token_s
from makespan.envs.llm.step_kernels import step_seconds

FIELDS = ("prompt_tokens", "uncached_tokens", "streamed_tokens", "predicted_tokens")


def stepwise_seconds(model, requests, budget, max_sequences, kv_tokens) -> float:
    """Sum of finish times of (prompt, uncached, streamed, output left), one step at a time."""
    decodes = [[p + s, left] for p, _, s, left in requests if s > 0]
    prompts = [[p, max(u, 1), left, False] for p, u, s, left in requests if s == 0]
    now = total = 0.0
    while decodes or prompts:
        context = sum(held for held, _ in decodes)
        room, held, running = budget - len(decodes), context, len(decodes)
        chunks = []
        for entry in prompts:
            prompt, left, _, begun = entry
            fits = running < max_sequences and held + prompt <= kv_tokens
            if room <= 0 or not (begun or fits or running == 0):
                break
            chunks.append((entry, min(room, left), prompt - left))
            room, held, running = room - chunks[-1][1], held + prompt, running + 1
        tokens = sum(chunk for _, chunk, _ in chunks)
        work = sum(chunk * (done + chunk / 2) for _, chunk, done in chunks)
        computed = sum(done for _, _, done in chunks)
        batch = len(decodes)
        now += step_seconds(
            model,
            batch + tokens,
            batch + len(chunks),
            batch,
            context,
            len(chunks),
            tokens,
            float(work),
            computed,
        )
        decodes = [[held + 1, left - 1] for held, left in decodes]
        for entry, chunk, _ in chunks:
            entry[1], entry[3] = entry[1] - chunk, True
        decodes += [[p + 1, output - 1] for p, left, output, _ in prompts if left == 0]
        prompts = [entry for entry in prompts if entry[1] > 0]
        total += now * sum(left == 0 for _, left in decodes)
        decodes = [entry for entry in decodes if entry[1] > 0]
    return total


def in_flight(*values: tuple) -> np.ndarray:
    rows = np.zeros(len(values), IN_FLIGHT)
    for row, fields in zip(rows, values, strict=True):
        for name, value in zip(FIELDS, fields, strict=True):
            row[name] = value
    return rows


requests = st.tuples(
    st.integers(1, 700), st.integers(0, 700), st.integers(0, 40), st.integers(1, 60)
).map(lambda r: (r[0], min(r[0], r[1]), r[2], r[3]))


@given(
    held=st.lists(requests, max_size=12),
    new=requests,
    budget=st.sampled_from([16, 64, 2048]),
    max_sequences=st.sampled_from([1, 4, 256]),
    kv_tokens=st.sampled_from([500, 2000, 10**6]),
)
@settings(max_examples=150, deadline=None)
def test_jumps_land_where_single_steps_do(models, held, new, budget, max_sequences, kv_tokens):
    model = models(1.0)[0].pack()
    limits = (budget, max_sequences, kv_tokens)
    rows = in_flight(*((p, u, s, s + left) for p, u, s, left in held))
    prompt, uncached, _, output = new
    expected = stepwise_seconds(
        model, [*held, (prompt, max(uncached, 1), 0, output)], *limits
    ) - stepwise_seconds(model, held, *limits)
    added = added_seconds(model, rows, prompt, max(uncached, 1), output, 100.0, *limits)
    assert added == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_an_idle_replica_costs_one_prompt_and_the_decodes(models):
    model = models(1.0)[0].pack()
    prefill = step_seconds(model, 100, 1, 0, 0, 1, 100, 5000.0, 0)
    decode = sum(step_seconds(model, 1, 1, 1, 101 + i, 0, 0, 0.0, 0) for i in range(2))
    added = added_seconds(model, in_flight(), 100, 100, 3, 1.0, 2048, 256, 10**6)
    assert added == pytest.approx(prefill + decode)


def test_an_outlived_prediction_counts_as_one_token(models):
    model = models(1.0)[0].pack()

    def added(*row) -> float:
        return added_seconds(model, in_flight(row), 100, 100, 3, 50.0, 2048, 256, 10**6)

    assert added(100, 100, 40, 20.0) == added(100, 100, 40, 41.0)
    assert added(100, 100, 40, np.nan) == added(100, 100, 40, 50.0)


def row(prompt=500, streamed=10, predicted=100.0, uncached=500) -> dict:
    return dict(zip(FIELDS, (prompt, uncached, streamed, predicted), strict=True))


def test_lookahead_prefers_requests_that_end_soon(decide, models):
    """Equal counts and tokens: only the predictions tell the replicas apart."""
    held = [[row(predicted=1000.0)] * 5, [row(predicted=12.0)] * 5]
    decision = decide(
        2, requests=[5, 5], in_flight=held, predicted_tokens=300, models=models(1.0, 1.0)
    )
    assert make("lookahead")(decision) == 1


def test_lookahead_counts_the_harm_to_others(decide, models):
    """A long prompt stalls four decodes or delays one: fewer stalls win over an earlier finish."""
    held = [[row(predicted=200.0)] * 4, [row(streamed=0, uncached=500, predicted=2.0)]]
    decision = decide(
        2,
        in_flight=held,
        prompt_tokens=8000,
        predicted_tokens=1,
        kv_blocks=10_000,
        models=models(1.0, 1.0),
    )
    assert make("lookahead")(decision) == 1


def test_lookahead_uses_the_cache_and_the_speed(decide, models):
    warm = {"prefix_tokens": [0, 960], "predicted_tokens": 10}
    assert make("lookahead")(decide(2, **warm, models=models(1.0, 1.0))) == 1
    assert make("lookahead")(decide(2, **warm, models=models(9.0, 1.0))) == 0


def test_lookahead_waits_for_kv_capacity(decide, models):
    """Replica 0 has two requests fewer, but no room before its one ends."""
    full = [row(prompt=3000, streamed=5, predicted=900.0)]
    small = [row(prompt=100, streamed=5, predicted=900.0)] * 3
    columns = {"in_flight": [full, small], "predicted_tokens": 50, "models": models(1.0, 1.0)}
    assert make("lookahead")(decide(2, **columns, kv_blocks=201, prompt_tokens=1500)) == 1
    assert make("lookahead")(decide(2, **columns, kv_blocks=9001, prompt_tokens=1500)) == 0


def test_lookahead_reads_the_engine_limits(decide, models):
    """With one sequence at a time the new request waits for the longer answer."""
    held = [[row(predicted=500.0)], [row(prompt=9000, predicted=60.0)]]
    columns = {"in_flight": held, "predicted_tokens": 200, "kv_blocks": 10_000}
    columns["models"] = models(1.0, 1.0)
    serial = EngineConfig(max_num_batched_tokens=2048, max_num_seqs=1)
    assert make("lookahead")(decide(2, **columns, engine=serial)) == 1
    assert make("lookahead")(decide(2, **columns)) == 0


def test_lookahead_refuses_engines_without_limits(decide, models):
    with pytest.raises(ValueError, match="max_num_batched_tokens"):
        make("lookahead")(decide(1, models=models(1.0), engine=EngineConfig()))


def test_lookahead_without_predictions_assumes_a_mean(decide, models):
    held = [[row(predicted=np.nan)] * 3, [row(predicted=np.nan)]]
    assert make("lookahead")(decide(2, in_flight=held, models=models(1.0, 1.0))) == 1
    short = make("lookahead", missing_output=20)
    held = [[row(predicted=np.nan)] * 3, [row(predicted=900.0)] * 3]
    assert short(decide(2, in_flight=held, models=models(1.0, 1.0))) == 0


def queued(decide, models, backlog_s, **fields):
    """Replica 0 is the fast one, with a backlog; replica 1 takes fifty times as long."""
    fast, slow = models(1.0, 0.02)
    tokens = [round(backlog_s / prefill_token_s(fast)), 0]
    columns = {"can_hold": True, "predicted_tokens": 50} | fields
    return decide(2, prefill_tokens=tokens, models=[fast, slow], **columns)


@pytest.mark.parametrize(("backlog_s", "choice"), [(0.39, 0), (0.41, 2)])
def test_lookahead_hold_waits_for_the_backlog_of_its_choice(decide, models, backlog_s, choice):
    decision = queued(decide, models, backlog_s)
    assert make("lookahead")(decision) == 0
    assert make("lookahead_hold")(decision) == choice


def test_lookahead_hold_looks_at_no_other_backlog(decide, models):
    decision = queued(decide, models, 9.0, prefix_tokens=[0, 992])
    assert make("lookahead_hold", limit_s=10)(decision) == 0
    busy = [[row(predicted=2000.0)] * 200, []]
    assert make("lookahead_hold")(queued(decide, models, 9.0, in_flight=busy)) == 1


def test_lookahead_hold_holds_only_where_that_is_legal(decide, models):
    assert make("lookahead_hold")(queued(decide, models, 9.0, can_hold=False)) == 0
    decision = queued(decide, models, 9.0)
    decision.action_mask[-1] = False
    assert make("lookahead_hold")(decision) == 0


def test_lookahead_hold_measures_backlogs_in_seconds(decide, models):
    decision = decide(2, prefill_tokens=[5000, 5000], models=models(1.0, 0.5))
    rule = LookaheadHold()
    assert rule.backlog_s(decision, 1) == pytest.approx(2 * rule.backlog_s(decision, 0), rel=0.1)
    expected = 5000 * prefill_token_s(decision.step_time[0])
    assert rule.backlog_s(decision, 0) == pytest.approx(expected)
