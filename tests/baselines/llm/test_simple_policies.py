"""Textbook policies: hand-made decisions and draws."""

from collections import Counter

import numpy as np
import pytest

from makespan.baselines.llm.simple import (
    PowerOfTwo,
    Random,
    RoundRobin,
    SessionHash,
    draw_lowest,
    least_requests,
    least_tokens,
    lowest_from,
)

CHI_SQUARE_3_DF = 16.27
"""99.9th percentile of the chi-square distribution with three degrees of freedom."""


def chi_square(counts: Counter, replicas: int) -> float:
    expected = counts.total() / replicas
    return sum((counts[i] - expected) ** 2 / expected for i in range(replicas))


def test_random_is_uniform_over_the_healthy(decide):
    rule = Random(seed=1)
    counts = Counter(rule(decide(5, healthy=[1, 1, 0, 1, 1])) for _ in range(4000))
    assert counts[2] == 0
    counts = Counter({position: counts[i] for position, i in enumerate((0, 1, 3, 4))})
    assert chi_square(counts, 4) < CHI_SQUARE_3_DF


def test_round_robin_takes_turns_and_skips_the_unhealthy(decide):
    rule = RoundRobin()
    assert [rule(decide(3)) for _ in range(5)] == [0, 1, 2, 0, 1]
    assert [rule(decide(3, healthy=[1, 0, 1])) for _ in range(3)] == [2, 0, 2]


def test_power_of_two_draws_pairs_uniformly(decide):
    """The idle one of four replicas is in half of all pairs, and wins each of them."""
    rule = PowerOfTwo(seed=2)
    draws = 4000
    idle = sum(rule(decide(4, requests=[9, 9, 0, 9])) == 2 for _ in range(draws))
    assert abs(idle - draws / 2) < 4 * np.sqrt(draws / 4)


def test_power_of_two_never_takes_the_most_loaded(decide):
    rule = PowerOfTwo(seed=3)
    assert {rule(decide(3, requests=[1, 2, 3])) for _ in range(200)} == {0, 1}


def test_power_of_two_breaks_ties_evenly(decide):
    rule = PowerOfTwo(seed=4)
    counts = Counter(rule(decide(4)) for _ in range(4000))
    assert chi_square(counts, 4) < CHI_SQUARE_3_DF


def test_least_requests_and_least_tokens_disagree_on_long_requests(decide):
    decision = decide(2, requests=[1, 2], prefill_tokens=[4000, 100], decode_tokens=[0, 300])
    assert least_requests(decision) == 0
    assert least_tokens(decision) == 1


def test_least_tokens_counts_decoding_requests(decide):
    assert least_tokens(decide(2, prefill_tokens=[0, 100], decode_tokens=[200, 0])) == 1


def test_a_session_stays_where_it_is(decide):
    rule = SessionHash()
    choices = {rule(decide(8, session=7, index=i, requests=[i] * 8)) for i in range(20)}
    assert len(choices) == 1


def test_sessions_and_single_requests_spread_over_all_replicas(decide):
    rule = SessionHash()
    sessions = Counter(rule(decide(4, session=i)) for i in range(2000))
    singles = Counter(rule(decide(4, index=i)) for i in range(2000))
    for counts in (sessions, singles):
        assert min(counts.values()) > 300
        assert len(counts) == 4
    assert sessions != singles


def test_only_the_sessions_of_a_failed_replica_move(decide):
    rule = SessionHash()
    before = [rule(decide(4, session=i)) for i in range(400)]
    after = [rule(decide(4, session=i, healthy=[1, 1, 0, 1])) for i in range(400)]
    assert all(a == b for a, b in zip(after, before, strict=True) if b != 2)
    moved = {a for a, b in zip(after, before, strict=True) if b == 2}
    assert moved == {0, 1, 3}


def test_a_new_replica_takes_only_its_share_of_sessions(decide):
    rule = SessionHash()
    before = [rule(decide(4, session=i)) for i in range(1000)]
    after = [rule(decide(5, session=i)) for i in range(1000)]
    moved = [a for a, b in zip(after, before, strict=True) if a != b]
    assert set(moved) == {4}
    assert 100 < len(moved) < 320


def test_virtual_nodes_even_out_the_ring(decide):
    def spread(nodes: int) -> int:
        rule = SessionHash(virtual_nodes=nodes)
        counts = Counter(rule(decide(4, session=i)) for i in range(2000))
        return max(counts[i] for i in range(4)) - min(counts[i] for i in range(4))

    assert spread(160) < spread(1)


def test_draw_lowest_draws_among_equals_alone(decide):
    random = np.random.default_rng(0)
    scores = np.array([2.0, 1.0, 1.0, 0.0])
    decision = decide(4, healthy=[1, 1, 1, 0])
    assert {draw_lowest(decision, scores, random) for _ in range(100)} == {1, 2}


@pytest.mark.parametrize(("start", "choice"), [(0, 1), (1, 1), (2, 2), (3, 1), (6, 2)])
def test_lowest_from_scans_cyclically(decide, start, choice):
    assert lowest_from(decide(4), np.array([2, 1, 1, 2]), start) == choice
