"""Synthetic workloads: hashes against texts, rates, and their likeness to the traces."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.traces.arrivals import Gamma, Poisson
from makespan.traces.lengths import Fixed, LogNormal, Quantiles
from makespan.traces.prefixes import infinite_cache_hits
from makespan.traces.sessions import ANSWER_TOKEN_S, SharedPrompts, Turns, hash_rows
from makespan.traces.synthetic import (
    SYNTHETIC,
    SessionConfig,
    SyntheticConfig,
    SystemPromptConfig,
    generate,
    synthetic,
)

small = st.integers(1, 60)
conversations = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.tuples(small, small), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@given(conversations, st.tuples(st.integers(0, 70), st.integers(0, 70)), st.randoms())
def test_hashes_agree_exactly_as_far_as_the_texts_do(found, system, shuffle):
    """Spells every text out token by token and compares all pairs of requests."""
    flat = [(s, u, a) for s, (_, turns) in enumerate(found) for u, a in turns]
    turns = Turns(*np.array(flat, np.int64).T)
    shared = SharedPrompts(np.array(system), np.array([prompt for prompt, _ in found]))
    texts = []
    for session, (prompt, its_turns) in enumerate(found):
        text = [("system", prompt, k) for k in range(system[prompt])]
        for user, answer in its_turns:
            text = [*text, *((session, len(text) + k) for k in range(user + answer))]
            texts.append(text)
    rows = list(range(len(flat)))
    shuffle.shuffle(rows)
    hashes, offsets = hash_rows(turns, shared, np.array(rows))
    found_hashes = {row: hashes[offsets[i] : offsets[i + 1]] for i, row in enumerate(rows)}
    ends = turns.prompts(shared.session_tokens) + turns.answer_tokens
    assert ends.tolist() == [len(text) for text in texts]
    for i, one in enumerate(texts):
        assert len(found_hashes[i]) == len(one) // 16
        for j, other in enumerate(texts[:i]):
            blocks = min(len(one), len(other)) // 16
            same = [one[: 16 * (k + 1)] == other[: 16 * (k + 1)] for k in range(blocks)]
            agree = found_hashes[i][:blocks] == found_hashes[j][:blocks]
            assert agree.tolist() == same


def test_turns_follow_each_other_after_answer_and_pause():
    turns = Turns(np.array([0, 0, 0, 1]), np.ones(4, np.int64), np.array([10, 20, 30, 40]))
    found = turns.arrivals(np.array([5.0, 6.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    second = 5 + 10 * ANSWER_TOKEN_S + 1
    assert found.tolist() == pytest.approx([5, second, second + 20 * ANSWER_TOKEN_S + 2, 6])


def chat(**changes):
    sessions = SessionConfig(mean_turns=4, think_s=5, later=Fixed(10))
    config = SyntheticConfig(
        requests=6000, arrivals=Poisson(20), prompt=Fixed(100), output=Fixed(50), sessions=sessions
    )
    return replace(config, **changes)


def test_rate_is_steady_from_the_first_request_on():
    workload = generate(chat())
    assert len(workload) == 6000
    assert workload.arrival_s[0] == 0
    quarters = np.histogram(workload.arrival_s, 4, (0, workload.arrival_s[-1]))[0]
    assert quarters / 6000 == pytest.approx([0.25] * 4, abs=0.03)
    assert workload.rate == pytest.approx(20, rel=0.08)


def test_prompts_grow_with_the_conversation():
    workload = generate(chat())
    assert set((workload.prompt_tokens - 100) % 60) == {0}
    last = {}
    for request in workload:
        if request.session in last:
            assert request.prompt_tokens == last[request.session] + 60
        last[request.session] = request.prompt_tokens


def test_conversations_end_before_they_get_too_long():
    # 150 tokens for the first turn, 60 for each later one.
    longest = SessionConfig(mean_turns=8, think_s=5, later=Fixed(10), longest=300)
    workload = generate(chat(sessions=longest))
    assert set(workload.prompt_tokens.tolist()) == {100, 160, 220}
    assert len(workload) == 6000


def test_a_first_message_that_is_too_long_is_left_out():
    half = Quantiles((10, 10, 9000, 9000), (0, 0.5, 0.500001, 1))
    config = chat(prompt=half, sessions=SessionConfig(mean_turns=2, longest=1000))
    workload = generate(config)
    assert workload.prompt_tokens.max() < 1000
    assert len(workload) == 6000


def test_lengths_that_never_fit_are_an_error():
    with pytest.raises(ValueError, match="no conversation of these lengths fits into 149 tokens"):
        generate(chat(requests=1, sessions=SessionConfig(longest=149)))


def test_system_prompts_are_shared_by_popularity():
    config = SyntheticConfig(
        requests=6000,
        prompt=Fixed(5),
        output=Fixed(1),
        system_prompts=SystemPromptConfig(count=3, tokens=Fixed(32), exponent=2.0),
    )
    workload = generate(config)
    first = workload.hashes[workload.hash_offsets[:-1]]
    _, users = np.unique(first, return_counts=True)
    weight = np.array([1, 1 / 4, 1 / 9])
    assert sorted(users / 6000)[::-1] == pytest.approx(weight / weight.sum(), abs=0.02)
    assert set(workload.prompt_tokens.tolist()) == {37}
    assert (workload.session == -1).all()
    # All but the first use of each is a hit on 32 of 37 tokens.
    assert infinite_cache_hits(workload).sum() == 32 * (6000 - 3)


def test_no_hashes_where_nothing_is_shared():
    assert len(generate(SyntheticConfig(requests=50)).hashes) == 0


def test_seeds():
    one, same, other = (generate(chat(), seed) for seed in (1, 1, 2))
    assert (one.arrival_s == same.arrival_s).all()
    assert (one.hashes == same.hashes).all()
    assert (one.arrival_s[:100] != other.arrival_s[:100]).any()


def test_one_source_of_randomness_does_not_move_another():
    plain = SyntheticConfig(requests=500, prompt=LogNormal(200, 100))
    other = generate(replace(plain, arrivals=Gamma(3.0, 4.0), output=Fixed(9)))
    assert (generate(plain).prompt_tokens == other.prompt_tokens).all()


def test_bursts_that_need_more_sessions_than_foreseen_still_fill_the_window():
    workload = generate(chat(requests=400, arrivals=Gamma(20, 12.0)))
    assert len(workload) == 400


@pytest.mark.parametrize("name", SYNTHETIC)
def test_named_workloads(name):
    workload = synthetic(name, requests=3000, rate=7.0)
    assert workload.name == name
    assert len(workload) == 3000
    assert SYNTHETIC[name]().arrivals.at_rate(7.0).rate == 7
    assert SYNTHETIC[name].__doc__


def test_one_request():
    assert len(synthetic("sharegpt_sessions", requests=1)) == 1


def test_sharegpt_sessions_are_like_sharegpt():
    """Against the table of turns: 654/551/1650/1900 in, 280/255/676/769 out, 87 % re-sent."""
    config = replace(SYNTHETIC["sharegpt_sessions"](), requests=60_000, system_prompts=None)
    workload = generate(config)
    prompt, output = workload.prompt_tokens, workload.output_tokens
    assert prompt.mean() == pytest.approx(654, rel=0.05)
    at = (50, 95, 99)
    np.testing.assert_allclose(np.percentile(prompt, at), (551, 1650, 1900), rtol=0.06)
    assert output.mean() == pytest.approx(280, rel=0.06)
    np.testing.assert_allclose(np.percentile(output, at), (255, 676, 769), rtol=0.06)
    hit = infinite_cache_hits(workload).sum() / prompt.sum()
    assert hit == pytest.approx(0.87, abs=0.03)


def test_mooncake_conversation_is_like_mooncake():
    workload = synthetic("mooncake_conversation", requests=12_031)
    assert workload.prompt_tokens.mean() == pytest.approx(12035, rel=0.05)
    hit = infinite_cache_hits(workload).sum() / workload.prompt_tokens.sum()
    assert hit == pytest.approx(0.374, abs=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SyntheticConfig(requests=0), "requests must be at least 1"),
        (lambda: SessionConfig(mean_turns=0.5), "mean_turns must be at least 1"),
        (lambda: SessionConfig(think_s=-1), "must not be negative"),
        (lambda: SystemPromptConfig(count=0), "count >= 1"),
        (lambda: synthetic("nothing"), "unknown synthetic workload 'nothing'; known: azure_conv"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
