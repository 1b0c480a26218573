"""Tokens are counted from the bytes of an answer."""

import pytest
from fault_backends import CHAT, COMPLETIONS, RESPONSES, STREAMING, answer_of, events_of
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve.meter import LONGEST_LINE, TokenMeter


def fed(*chunks: bytes, endpoint: str = CHAT) -> TokenMeter:
    meter = TokenMeter(endpoint)
    for chunk in chunks:
        meter.feed(chunk)
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


@pytest.mark.parametrize("endpoint", STREAMING)
@given(data=st.data())
def test_it_does_not_matter_where_chunks_end(endpoint: str, data: st.DataObject):
    stream = b"".join(events_of(endpoint))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    meter = TokenMeter(endpoint)
    assert sum(meter.feed(part) for part in parts) == meter.tokens == 3


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
        ([WORD.rstrip(b"\n")], 0),  # its line has not ended
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
        ([event(r'{"content":"\"completion_tokens\": 900"}')], 1),
        ([event('{"usage":{"completion_tokens":"9"}}')], 1),
        ([b"\xff\xfe\x00", WORD], 0),
        ([b"\n", WORD], 1),
    ],
)
def test_events_are_tokens_until_one_says_how_many(chunks: list[bytes], tokens: int):
    assert fed(*chunks).tokens == tokens


def test_new_tokens_are_never_negative():
    meter = TokenMeter(CHAT)
    assert meter.feed(WORD * 5) == 5
    assert meter.feed(event('{"usage":{"completion_tokens":2}}')) == 0
    assert meter.feed(WORD) == 1


@pytest.mark.parametrize("done", [b"data: [DONE]", b"data:[DONE]", b"data:   [DONE]\r"])
def test_the_end_is_seen(done: bytes):
    assert fed(done + b"\n").done
    assert not fed(done[:-3] + b"\n").done


def test_only_deltas_of_responses_are_tokens():
    created = b'event: response.created\ndata: {"type":"response.created"}\n\n'
    delta = b'event: x\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n'
    end = b'data: {"type":"response.completed","response":{"usage":{"output_tokens":2}}}\n\n'
    meter = TokenMeter(RESPONSES)
    assert [meter.feed(e) for e in (created, delta, delta, end)] == [0, 1, 1, 0]


def test_lines_without_end_are_not_kept():
    meter = TokenMeter(CHAT)
    meter.feed(b"data: ")
    for _ in range(100):
        meter.feed(b"x" * 10_000)
        assert len(meter._rest) <= LONGEST_LINE
    meter.feed(b"\n\n" + WORD)
    assert meter.tokens == 2


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES])
def test_a_whole_answer_says_its_tokens(endpoint: str):
    assert TokenMeter(endpoint).whole(answer_of(endpoint)) == 3


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b"", 0),
        (b"no json", 0),
        (b'{"usage": {"prompt_tokens": 4}}', 0),
        (b'{"usage": {"completion_tokens" : 12}, "x": "' + b"y" * 200_000 + b'"}', 12),
        (b'{"x": "' + b"y" * 200_000 + b'", "usage": {"completion_tokens": 12}}', 12),
        (b'{"usage": {"completion_tokens": -1}}', 0),
        (b'{"usage": {"completion_tokens": 1' + b"0" * 30 + b"}}", 10**11),
    ],
)
def test_a_whole_answer_may_say_it_anywhere(body: bytes, tokens: int):
    assert TokenMeter().whole(body) == tokens


@given(st.lists(st.binary(max_size=200)))
def test_any_bytes_are_counted_without_harm(chunks: list[bytes]):
    meter = TokenMeter(CHAT)
    assert all(meter.feed(chunk) >= 0 for chunk in chunks)
