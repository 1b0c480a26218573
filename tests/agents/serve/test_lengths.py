"""The predictor of output lengths."""

import math
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve.lengths import KEYS, OutputLengths

CHAT = ("/v1/chat/completions", "small", "")
CODE = ("/v1/completions", "small", "")


def learned(*answers: tuple[object, int, int]) -> OutputLengths:
    lengths = OutputLengths()
    for key, prompt_tokens, output_tokens in answers:
        lengths.learn(key, prompt_tokens, output_tokens)
    return lengths


def test_nothing_is_predicted_from_few_answers():
    lengths = learned(*[(CHAT, 100, 10)] * 7)
    assert math.isnan(lengths.predict(CHAT, 100, None))
    assert math.isnan(lengths.predict(CHAT, 100, 50))
    lengths.learn(CHAT, 100, 18)
    assert lengths.predict(CHAT, 100, None) == 11.0


def test_prompts_of_like_length_tell_most():
    lengths = learned(*[(CHAT, 100, 10)] * 8, *[(CHAT, 1000, 90)] * 8)
    assert lengths.predict(CHAT, 64, None) == 10.0
    assert lengths.predict(CHAT, 127, None) == 10.0
    assert lengths.predict(CHAT, 1023, None) == 90.0
    assert lengths.predict(CHAT, 128, None) == 50.0, "no answers in that band: all of the key"


def test_bands_go_from_one_power_of_two_to_the_next():
    lengths = OutputLengths()
    for power in range(8):
        for _ in range(8):
            lengths.learn(CHAT, 2**power, power + 1)
    assert [lengths.predict(CHAT, n, None) for n in (1, 2, 3, 4, 7, 8, 64, 127, 255)] == [
        *(1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 7.0, 7.0, 8.0)
    ]


def test_then_the_key_and_then_everything():
    lengths = learned(*[(CHAT, 100, 10)] * 8, *[(CODE, 100, 30)] * 8)
    assert lengths.predict(CODE, 5000, None) == 30.0
    assert lengths.predict("unknown", 100, None) == 20.0


def test_a_key_of_few_answers_is_not_enough():
    lengths = learned(*[(CHAT, 100, 10)] * 9, *[(CODE, 100, 110)] * 1)
    assert lengths.predict(CODE, 100, None) == 20.0


def test_only_the_last_256_answers_count():
    lengths = learned(*[(CHAT, 100, 1000)] * 300, *[(CHAT, 100, 8)] * 256)
    assert lengths.predict(CHAT, 100, None) == 8.0
    lengths.learn(CHAT, 100, 264)
    assert lengths.predict(CHAT, 100, None) == 9.0


def test_a_prediction_is_between_one_and_max_tokens():
    lengths = learned(*[(CHAT, 100, 0)] * 8, *[(CODE, 100, 500)] * 8)
    assert lengths.predict(CHAT, 100, None) == 1.0
    assert lengths.predict(CODE, 100, 20) == 20.0
    assert lengths.predict(CODE, 100, 0) == 1.0


@given(
    st.lists(st.tuples(st.sampled_from([CHAT, CODE]), st.integers(), st.integers()), max_size=40),
    st.none() | st.integers(),
)
def test_any_numbers_make_a_sane_prediction(
    answers: list[tuple[object, int, int]], max_tokens: int | None
):
    lengths = learned(*answers)
    predicted = lengths.predict(CHAT, 100, max_tokens)
    assert math.isnan(predicted) == (len(answers) < 8)
    if len(answers) >= 8:
        assert predicted >= 1.0
        assert max_tokens is None or predicted <= max(max_tokens, 1)


def test_the_key_without_answers_for_longest_is_forgotten():
    lengths = learned(*[(CHAT, 100, 10)] * 8, *[(CODE, 100, 90)] * 8)
    for other in range(KEYS - 2):
        lengths.learn(other, 100, 50)
    lengths.learn(CHAT, 100, 10)
    lengths.learn("one more", 100, 50)
    assert lengths.predict(CHAT, 100, None) == 10.0
    assert lengths.predict(CODE, 100, None) != 90.0


def test_memory_is_bounded_whatever_clients_send():
    lengths = OutputLengths()
    tracemalloc.start()
    try:
        for i in range(20_000):
            lengths.learn(i, i, i)
            lengths.predict(-i, i, None)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2_000_000


def test_a_prediction_is_a_float_whichever_bound_it_meets():
    """Kernels are compiled for floats, and a policy fails on anything else."""
    lengths = OutputLengths()
    for _ in range(8):
        lengths.learn("chat", 100, 50)
    predicted = [lengths.predict("chat", 100, most) for most in (None, 10, 50, 99)]
    assert predicted == [50.0, 10.0, 50.0, 50.0]
    assert {type(value) for value in predicted} == {float}
