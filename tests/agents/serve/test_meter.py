"""Tokens are counted from the bytes of an answer."""

import json
from pathlib import Path

import pytest
from fault_backends import CHAT, COMPLETIONS, RESPONSES, STREAMING, answer_of, events_of
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve.meter import LONGEST_READ, MODELS, TextTokens, TokenMeter, text_of
from makespan.agents.serve.prompt import BYTES_PER_TOKEN, TokenCounter


def text_tokens() -> TextTokens:
    return TextTokens(TokenCounter())


def meter_of(endpoint: str = CHAT, most: int | None = None) -> TokenMeter:
    return TokenMeter(text_tokens(), endpoint, "m", most)


def fed(*events: bytes, endpoint: str = CHAT) -> TokenMeter:
    meter = meter_of(endpoint)
    for event in events:
        meter.feed(event)
    return meter


def event(text: str) -> bytes:
    return f"data: {text}\n\n".encode()


WORD = event('{"choices":[{"delta":{"content":"a"}}]}')
ROLE = event('{"choices":[{"delta":{"role":"assistant","content":""}}]}')
DONE = event("[DONE]")


@pytest.mark.parametrize("endpoint", STREAMING)
def test_a_whole_stream_has_its_tokens(endpoint: str):
    meter = fed(*events_of(endpoint), endpoint=endpoint)
    assert meter.tokens == 3
    assert meter.done == (endpoint != RESPONSES)


@pytest.mark.parametrize(
    ("chunks", "tokens"),
    [
        ([], 0),
        ([b""], 0),
        ([WORD], 1),
        ([WORD.replace(b"\n", b"\r\n")], 1),
        ([WORD.replace(b"data: ", b"data:")], 1),
        ([ROLE], 0),
        ([ROLE, WORD, WORD, DONE], 2),
        ([b": ping\n\n", WORD], 1),
        ([b"event: x\nid: 3\nretry: 5\n\n"], 0),
        ([b"data"], 0),
        ([WORD, event('{"usage":{"completion_tokens":7}}'), DONE], 7),
        (
            [
                event('{"usage":{"completion_tokens": 2}}'),
                event('{"usage":{"completion_tokens":3}}'),
            ],
            3,
        ),
        ([event('{"usage":{"completion_tokens":0}}')], 0),
        ([event('{"usage":null}')], 1),
        ([event(r'{"content":"\"completion_tokens\": 900"}')], 6),
        ([event('{"usage":{"completion_tokens":"9"}}')], 1),
        ([b"\xff\xfe\x00" + WORD], 0),
        ([b"\n", WORD], 1),
    ],
)
def test_events_are_tokens_until_one_says_how_many(chunks: list[bytes], tokens: int):
    assert fed(*chunks).tokens == tokens


def test_usage_puts_right_what_was_counted():
    meter = meter_of()
    assert meter.feed(WORD * 5) == 5
    assert meter.feed(event('{"usage":{"completion_tokens":2}}')) == -3
    assert meter.feed(WORD) == 1
    assert meter.feed(event('{"usage":{"completion_tokens":0}}')) == -2
    assert meter.tokens == 1  # a first token has come, whatever is said


def words_of(endpoint: str, text: str) -> bytes:
    """An event with so much text."""
    if endpoint == RESPONSES:
        return event(json.dumps({"type": "response.output_text.delta", "delta": text}))
    choice = {"text": text} if endpoint == COMPLETIONS else {"delta": {"content": text}}
    return event(json.dumps({"choices": [choice]}))


@pytest.mark.parametrize("endpoint", STREAMING)
def test_an_event_of_several_tokens_counts_as_several(endpoint: str):
    meter = meter_of(endpoint)
    assert meter.feed(words_of(endpoint, "a" * 10 * BYTES_PER_TOKEN)) == 10
    assert meter.feed(words_of(endpoint, "bbbbbbbb")) == 2
    # The text now says 12; that there were 20 events says more.
    assert sum(meter.feed(words_of(endpoint, "")) for _ in range(18)) == 8


def test_an_event_is_a_token_whatever_its_text():
    meter = meter_of()
    assert [meter.feed(words_of(CHAT, text)) for text in ("", "a", "b")] == [1, 1, 1]


def test_no_more_is_estimated_than_the_request_allows():
    meter = meter_of(most=7)
    assert meter.feed(words_of(CHAT, "a" * 400)) == 7
    assert meter.feed(words_of(CHAT, "a" * 400)) == 0
    assert meter.feed(event('{"usage":{"completion_tokens":9}}')) == 2  # it should know


@pytest.mark.parametrize("done", [b"data: [DONE]", b"data:[DONE]", b"data:   [DONE]\r"])
def test_the_end_is_seen(done: bytes):
    assert fed(done + b"\n").done
    assert not fed(done[:-3] + b"\n").done


def test_only_deltas_of_responses_are_tokens():
    created = b'event: response.created\ndata: {"type":"response.created"}\n\n'
    delta = b'event: x\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n'
    end = b'data: {"type":"response.completed","response":{"usage":{"output_tokens":2}}}\n\n'
    meter = meter_of(RESPONSES)
    assert [meter.feed(e) for e in (created, delta, delta, end)] == [0, 1, 1, 0]


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES])
def test_a_whole_answer_says_its_tokens(endpoint: str):
    assert meter_of(endpoint).whole(answer_of(endpoint)) == 3


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b"", 0),
        (b"no json", 0),
        (b'{"usage": {"prompt_tokens": 4}}', 0),
        (b'{"usage": {"completion_tokens" : 12}, "x": "' + b"y" * 200_000 + b'"}', 12),
        (b'{"x": "' + b"y" * 200_000 + b'", "usage": {"completion_tokens": 12}}', 12),
        (b'{"usage": {"completion_tokens": -1}}', 0),
        (b'{"choices": [{"text": "' + b"four" * 9 + b'"}]}', 9),
        (b'{"usage": {"completion_tokens": 1' + b"0" * 30 + b"}}", 10**11),
    ],
)
def test_a_whole_answer_may_say_it_anywhere(body: bytes, tokens: int):
    assert meter_of().whole(body) == tokens


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "message", "content", "tool_calls", "function"]),
            inner,
            max_size=4,
        )
    ),
)


@given(st.lists(st.binary(max_size=200) | JSON.map(lambda j: event(json.dumps(j)))))
def test_any_bytes_are_counted_without_harm(chunks: list[bytes]):
    meter = meter_of()
    assert sum(meter.feed(chunk) for chunk in chunks) == meter.tokens >= 0


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"choices": [{"text": "a"}, {"text": "b"}]}, "ab"),
        ({"choices": [{"delta": {"content": "a", "reasoning_content": "b"}}]}, "ab"),
        ({"choices": [{"delta": {"reasoning": "b", "reasoning_content": "b"}}]}, "b"),
        ({"choices": [{"message": {"content": "a", "tool_calls": None}}]}, "a"),
        (
            {
                "choices": [
                    {"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}}
                ]
            },
            "{",
        ),
        ({"choices": [{"delta": {"content": [1]}}, 3]}, ""),
        ({"type": "response.output_text.delta", "delta": "a"}, "a"),
        ({"data": [{"embedding": [1.0]}]}, ""),
        ({"choices": [{"text": "a" * LONGEST_READ}]}, ""),
        (["choices"], ""),
    ],
)
def test_what_a_model_wrote_is_found(answer: object, text: str):
    assert text_of(json.dumps(answer).encode()) == text


def test_half_a_surrogate_is_text():
    assert meter_of().feed(event(r'{"choices":[{"text":"\ud83d"}]}')) == 1


# Bytes per token.


def test_answers_that_say_their_tokens_tell_how_long_the_models_tokens_are():
    told, asked = text_tokens(), "x" * 120
    assert told.tokens("m", asked) == 30
    meter = TokenMeter(told, CHAT, "m")
    meter.feed(words_of(CHAT, "y" * 600) + event('{"usage":{"completion_tokens":100}}') + DONE)
    meter.learn()
    assert told.tokens("m", asked) == 20
    assert told.tokens("other", asked) == 30
    whole = {"choices": [{"message": {"content": "z" * 300}}], "usage": {"completion_tokens": 100}}
    meter = TokenMeter(told, CHAT, "other")
    assert meter.whole(json.dumps(whole).encode()) == 100
    meter.learn()
    assert told.tokens("other", asked) == 40


def test_what_is_only_counted_teaches_nothing():
    told = text_tokens()
    for stream in (words_of(CHAT, "y" * 600), event('{"usage":{"completion_tokens":5}}')):
        meter = TokenMeter(told, CHAT, "m")
        meter.feed(stream)
        meter.learn()
    assert told.tokens("m", "x" * 40) == 10


def test_old_answers_are_forgotten_and_so_are_old_models():
    told = text_tokens()
    told.learn("m", 10**6, 10**4)
    told.learn("m", 2 * 10**4, 10**4)
    assert told.tokens("m", "xx") == 1
    for number in range(MODELS):
        told.learn(str(number), 100, 10)
    assert told.tokens("m", "xxxx") == 1  # as if it were new
    assert told.tokens("5", "x" * 10) == 1


def test_a_tokenizer_counts_pieces_of_text(tmp_path: Path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"word": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    told = TextTokens(TokenCounter(tmp_path / "tokenizer.json"))
    meter = TokenMeter(told, CHAT, "m")
    assert meter.feed(words_of(CHAT, " internationalisation")) == 1
    assert meter.feed(words_of(CHAT, " a b c")) == 3
    assert meter.feed(words_of(CHAT, "\ud83d")) == 1
