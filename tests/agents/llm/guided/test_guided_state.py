"""State, mixing impact, guidance and reward of decisions made by hand."""

from math import exp, log1p, log2

import numpy as np
import pytest
from guided_decisions import NAN, decision

from makespan.agents.llm.guided.config import GuidedConfig
from makespan.agents.llm.guided.mixing import Mixing, guidance
from makespan.agents.llm.guided.reward import Moment, reward, steps
from makespan.agents.llm.guided.state import encode
from makespan.agents.llm.guided.survey import survey

ROWS = [
    [(300, 10, 400.0), (100, 0, 3000.0)],  # the first streams, the second waits
    [],
    [(2048, 20, 100.0)],
    [(200, 500, 300.0)],  # longer than was predicted
]


def test_the_27_entries_of_a_state() -> None:
    shown = decision(ROWS, held=127)
    state = encode(shown, survey(shown, lengths=True))
    assert state.shape == (27,)
    assert state.dtype == np.float32
    head = [128 / 512, log1p(100) / log1p(2048), 0.5]
    footprints = [300 + 200 + 100 + 1500, 0, 2048 + 50, 200 + 250]
    free = [1 - log2(1 + tokens / 1600) for tokens in footprints]
    # Tokens left times a step: 390 of 10 + 3.1 ms, 80 of 10 + 20.68 ms, at least 1 of 10 + 7 ms.
    done = [log1p(390 * 0.0131), 0.0, log1p(80 * 0.03068), log1p(0.017)]
    counts = [(1, 0, 1, 1), (0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)]
    rows = [
        [n / 128 for n in count] + [capacity, first]
        for count, capacity, first in zip(counts, free, done, strict=True)
    ]
    assert state == pytest.approx(np.concatenate([head, *rows]), rel=1e-5)


def test_without_lengths_predictions_are_not_looked_at() -> None:
    known, other = decision(ROWS), decision([[(p, s, 9.0) for p, s, _ in r] for r in ROWS])
    states = [encode(shown, survey(shown, lengths=False)) for shown in (known, other)]
    assert np.array_equal(states[0], states[1])
    assert not np.array_equal(states[0], encode(known, survey(known, lengths=True)))


def test_a_missing_prediction_counts_as_the_mean_of_the_paper() -> None:
    seen = survey(decision([[(10, 5, NAN)], []], predicted=NAN), lengths=True)
    assert seen.output.tolist() == [175.71]
    assert seen.own_output == 175.71


def test_the_queue_is_cut_off() -> None:
    shown = decision(ROWS, held=9000)
    assert encode(shown, survey(shown, True))[0] == 1


def test_the_fraction_that_is_done_counts_less() -> None:
    seen = survey(decision([[(10, 100, 400.0)], [(10, 0, 50.0)]], held=2), lengths=True)
    assert seen.unfinished == pytest.approx(3 + 0.75 + 1)


def test_mixing_impact_by_hand() -> None:
    shown = decision([[(1000, 400, 800.0)], []], prompt=700, predicted=200.0)
    impacts = Mixing()(shown, survey(shown, lengths=True))
    # 1 ms per prompt token, and 0.01 ms per token in decode.
    heavy = [0.5 / (0.7 + 0.00001 * 1400) - 1, 0.5 / 0.7 - 1]
    load = [(1000 + 400 + 700 + 100) / 1600, 800 / 1600]
    crowded = [(1 - x) / (1 + x) for x in load]
    wanted = [(p + d) / 2 for p, d in zip(heavy, crowded, strict=True)]
    assert impacts == pytest.approx([*wanted, 0.0], rel=1e-3)


def test_overloaded_replicas_are_told_apart() -> None:
    shown = decision([[(1000, 1, 900.0)] * 40, [(1000, 1, 900.0)] * 39])
    impacts = Mixing()(shown, survey(shown, lengths=True))
    assert -1 < impacts[0] < impacts[1] < 0


def test_guidance_is_against_the_best_that_is_legal() -> None:
    impacts = np.array([0.2, 0.6, -0.1])
    everything = np.ones(3, bool)
    assert guidance(impacts, 1, everything) == 0
    assert guidance(impacts, 0, everything) == pytest.approx(-0.4)
    assert guidance(impacts, 0, np.array([True, False, True])) == 0
    assert guidance(impacts, 0, np.array([True, False])) == 0


def test_guidance_vanishes_and_the_discount_comes_in() -> None:
    config = GuidedConfig("guided")
    assert [config.guide(k) for k in (0, 1, 4)] == pytest.approx([1, exp(-0.5), exp(-2)])
    assert config.guide(19) < 1e-4
    assert config.discount(0) == 0
    assert config.discount(19) == pytest.approx(config.gamma, rel=1e-3)
    for variant in ("baseline", "aware"):
        other = GuidedConfig(variant)
        assert (other.guide(0), other.discount(0)) == (0, other.gamma)


def moment(time: float, unfinished: float, finished: int) -> Moment:
    impacts = np.array([0.5, -0.25, 0.0])
    return Moment(time, np.zeros(3), np.ones(3, bool), impacts, unfinished, finished)


@pytest.mark.parametrize(
    ("variant", "mixing"), [("baseline", 0.0), ("aware", -0.25), ("guided", -0.25)]
)
def test_reward_by_hand(variant, mixing: float) -> None:
    before, after = moment(1.0, 10.0, 3), moment(1.5, 14.0, 5)
    earned = reward(GuidedConfig(variant), before, 1, after)
    assert earned == pytest.approx((60 * 2 - 12 * 0.5 + 60 * mixing) / 60)
    assert steps(before, after) == pytest.approx(25)
    assert steps(before, before) == 0


def test_exploration_falls() -> None:
    shares = [GuidedConfig().exploration(k) for k in range(20)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < 0.06


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"variant": "guidde"}, "unknown variant 'guidde'. Did you mean 'guided'"),
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"gamma": 1.0}, "gamma must be in"),
        ({"mixing": -1.0}, "mixing must not be negative"),
        ({"rate": 0.0}, "rate must be positive"),
    ],
)
def test_impossible_settings_are_refused(wrong, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GuidedConfig(**wrong)
