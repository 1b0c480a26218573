"""What the router reads in the bodies of requests."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from makespan.agents.serve import prompt as prompt_module
from makespan.agents.serve.prompt import (
    LONGEST_CHAIN,
    READERS,
    BadRequest,
    Prompt,
    TokenCounter,
    read_prompt,
)

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"
KEY = b"a key for the tests"

LOREM = "".join(f"sentence {i} of a long text. " for i in range(40))
"""A little more than a thousand characters."""


def read(endpoint: str, counter: TokenCounter | None = None, /, **fields: Any) -> Prompt:
    body = json.dumps({"model": "m"} | fields).encode()
    return read_prompt(endpoint, body, {}, counter or TokenCounter(), KEY)


def shared(one: Prompt, other: Prompt) -> int:
    """Leading blocks that two prompts have in common."""
    n = min(len(one.prefix_hashes), len(other.prefix_hashes))
    differ = np.flatnonzero(one.prefix_hashes[:n] != other.prefix_hashes[:n])
    return int(differ[0]) if len(differ) else n


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE that puts <s> before a text and cuts it to 8 tokens, as such files may."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([LOREM], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def test_a_completion():
    found = read(COMPLETIONS, prompt="a" * 403, max_tokens=7, stream=True, priority=-2)
    assert found.model == "m"
    assert found.stream
    assert found.prompt_tokens == 100
    assert len(found.prefix_hashes) == 6
    assert (found.max_tokens, found.priority, found.answers) == (7, -2, 1)
    assert (found.session, found.slo_class) == (-1, "")


def test_what_a_completion_does_not_say():
    found = read(COMPLETIONS)
    assert found.prompt_tokens == 1
    assert found.max_tokens == 16
    assert not found.stream
    assert found.answers == 1
    assert read(COMPLETIONS, max_tokens=None).max_tokens is None
    assert read(CHAT).max_tokens is None


def test_hashes_are_of_the_type_that_the_router_works_with():
    for found in (read(COMPLETIONS, prompt=LOREM * 20), read(COMPLETIONS, prompt="short")):
        assert found.prefix_hashes.dtype == np.int64
        assert (found.prefix_hashes >= 0).all()
    assert len(set(read(COMPLETIONS, prompt="a" * 6400).prefix_hashes)) == 100


def test_prompts_share_blocks_as_far_as_they_agree():
    text = LOREM[:640]
    whole = read(COMPLETIONS, prompt=text)
    assert shared(whole, read(COMPLETIONS, prompt=text + "more of it" * 20)) == 10
    assert shared(whole, read(COMPLETIONS, prompt=text[:639] + "~")) == 9
    assert shared(whole, read(COMPLETIONS, prompt=text[:100] + "~" + text[101:])) == 1
    assert shared(whole, read(COMPLETIONS, prompt="~" + text[1:])) == 0


def test_a_block_stands_for_all_that_is_before_it():
    one, other = (read(COMPLETIONS, prompt=first + LOREM[:640]) for first in ("a" * 64, "b" * 64))
    assert set(one.prefix_hashes).isdisjoint(other.prefix_hashes)


def test_models_share_nothing():
    one, other = (read(COMPLETIONS, model=model, prompt=LOREM) for model in ("a", "b"))
    assert set(one.prefix_hashes).isdisjoint(other.prefix_hashes)


def test_hashes_depend_on_the_key():
    body = json.dumps({"prompt": LOREM}).encode()
    headers = {"x-session-id": "s"}
    found = [read_prompt(COMPLETIONS, body, headers, TokenCounter(), key) for key in (b"a", b"b")]
    assert set(found[0].prefix_hashes).isdisjoint(found[1].prefix_hashes)
    assert found[0].session != found[1].session
    again = [read_prompt(COMPLETIONS, body, headers, TokenCounter()) for _ in range(2)]
    assert shared(*again) == len(LOREM) // 64
    assert again[0].session == again[1].session


def test_the_key_of_a_process_is_drawn():
    assert len(prompt_module.PROCESS_KEY) == 32
    assert len(set(prompt_module.PROCESS_KEY)) > 8


@pytest.mark.parametrize(
    ("prompt", "tokens", "blocks", "answers"),
    [
        ("a" * 640, 160, 10, 1),
        (["a" * 640], 160, 10, 1),
        (["a" * 640, "b" * 100], 185, 11, 2),
        (list(range(100)), 100, 6, 1),
        ([list(range(100))], 100, 6, 1),
        ([list(range(100)), list(range(20))], 120, 7, 2),
        ([], 1, 0, 1),
        ("", 1, 0, 1),
    ],
)
def test_forms_of_a_prompt(prompt: Any, tokens: int, blocks: int, answers: int):
    for endpoint, field in ((COMPLETIONS, "prompt"), (EMBEDDINGS, "input")):
        found = read(endpoint, **{field: prompt})
        assert found.prompt_tokens == tokens
        assert len(found.prefix_hashes) == blocks
        assert found.answers == answers


def test_a_list_of_one_prompt_is_that_prompt():
    for prompt in (LOREM, list(range(100))):
        one, same = read(COMPLETIONS, prompt=prompt), read(COMPLETIONS, prompt=[prompt])
        assert np.array_equal(one.prefix_hashes, same.prefix_hashes)


def test_prompts_of_one_request_begin_on_new_blocks():
    one, other = "a" * 64, "b" * 64
    joined = read(COMPLETIONS, prompt=one + other)
    apart = read(COMPLETIONS, prompt=[one, other])
    ragged = read(COMPLETIONS, prompt=[one + "tail", other])
    assert shared(joined, apart) == 1
    assert shared(apart, ragged) == 2, "the tail is no part of what comes after it"


def test_answers_are_counted():
    assert read(COMPLETIONS, prompt=["a", "b", "c"], n=4).answers == 12
    assert read(CHAT, messages=[], n=4).answers == 4
    assert read(CHAT, messages=[], n=0).answers == 1


def test_chinese_is_counted_as_more():
    assert read(COMPLETIONS, prompt="\u8bed" * 400).prompt_tokens == 300
    assert len(read(COMPLETIONS, prompt="\u8bed" * 400).prefix_hashes) == 18


def test_blocks_never_reach_over_the_prompt():
    for length in range(130):
        found = read(COMPLETIONS, prompt="\u00e9" * length)
        assert 16 * len(found.prefix_hashes) <= found.prompt_tokens


def turns(*texts: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def test_a_conversation_goes_on_where_it_was():
    said = turns(LOREM, "yes? " * 30, LOREM)
    for endpoint, field in ((CHAT, "messages"), (RESPONSES, "input")):
        for end in (1, 2):
            before = read(endpoint, **{field: said[:end]})
            after = read(endpoint, **{field: said})
            assert shared(before, after) == len(before.prefix_hashes) > 0
            assert before.prompt_tokens < after.prompt_tokens


def test_who_said_it_matters():
    one, other = ({"role": role, "content": LOREM} for role in ("user", "system"))
    assert shared(read(CHAT, messages=[one]), read(CHAT, messages=[other])) == 0


def test_parts_are_the_text_that_they_make():
    parts = [{"type": "text", "text": LOREM[:500]}, {"type": "text", "text": LOREM[500:]}]
    whole = read(CHAT, messages=turns(LOREM))
    in_parts = read(CHAT, messages=[{"role": "user", "content": parts}])
    assert np.array_equal(whole.prefix_hashes, in_parts.prefix_hashes)
    as_input = [{"role": "user", "content": [{"type": "input_text", "text": LOREM}]}]
    of_responses = read(RESPONSES, input=as_input)
    assert shared(of_responses, read(RESPONSES, input=LOREM)) == len(of_responses.prefix_hashes)


def picture(data: str) -> list[dict[str, Any]]:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return [{"role": "user", "content": [url, {"type": "text", "text": LOREM}]}]


def test_pictures_are_told_apart_but_their_bytes_are_no_tokens():
    one, same, other = (read(CHAT, messages=picture(d * 100_000)) for d in "aab")
    assert one.prompt_tokens < 400
    assert shared(one, same) == len(one.prefix_hashes) > 10
    assert shared(one, other) == 0


def test_tools_come_first_and_count():
    tools = [{"type": "function", "function": {"name": f"tool_{i}"}} for i in range(20)]
    plain, armed = read(CHAT, messages=turns("hi")), read(CHAT, messages=turns("hi"), tools=tools)
    assert armed.prompt_tokens > plain.prompt_tokens + 200
    other = read(CHAT, messages=turns("something else"), tools=tools)
    assert shared(armed, other) == (len(json.dumps(tools)) + 1) // 64


def test_calls_of_tools_count():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": LOREM}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert read(CHAT, messages=[called]).prompt_tokens > 250
    item = {"type": "function_call", "name": "f", "arguments": LOREM, "call_id": "1"}
    assert read(RESPONSES, input=[item]).prompt_tokens > 250


def test_instructions_come_before_the_input():
    one, other = (read(RESPONSES, instructions=LOREM, input=text) for text in ("a", "b"))
    assert shared(one, other) >= len(LOREM) // 64


def test_embeddings_of_a_conversation():
    found = read(EMBEDDINGS, messages=turns(LOREM))
    assert found.prompt_tokens > 250
    assert found.max_tokens == 1


@pytest.mark.parametrize(
    ("endpoint", "fields", "limit"),
    [
        (COMPLETIONS, {"max_tokens": 100}, 100),
        (COMPLETIONS, {"max_tokens": 0}, 0),
        (CHAT, {"max_tokens": 100}, 100),
        (CHAT, {"max_completion_tokens": 50}, 50),
        (CHAT, {"max_tokens": 100, "max_completion_tokens": 50}, 50),
        (CHAT, {"max_tokens": 100, "max_completion_tokens": None}, 100),
        (RESPONSES, {"max_output_tokens": 60}, 60),
        (EMBEDDINGS, {"max_tokens": 60}, 1),
        (CHAT, {"max_tokens": 100.0}, 100),
        *((CHAT, {"max_tokens": odd}, None) for odd in (-1, 10**30, True, "9", 1.5, [1], 1e400)),
    ],
)
def test_limits(endpoint: str, fields: dict[str, Any], limit: int | None):
    assert read(endpoint, **fields).max_tokens == limit


@pytest.mark.parametrize("odd", [None, True, "1", 10**30, -(10**30), 1.5, float("nan"), [], {}])
def test_odd_fields_are_left_to_the_backend(odd: Any):
    found = read(CHAT, messages=turns("hi"), priority=odd, n=odd, stream=odd, max_tokens=odd)
    assert (found.priority, found.answers, found.max_tokens) == (0, 1, None)
    assert found.stream is (odd is True)
    for endpoint in READERS:
        for field in ("model", "prompt", "messages", "input", "tools", "instructions"):
            assert read(endpoint, **{field: odd}).prompt_tokens >= 1


FIELDS = st.sampled_from(
    ["model", "prompt", "messages", "input", "tools", "instructions", "content", "role", "text"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=12,
)


@given(st.sampled_from(sorted(READERS)), st.dictionaries(FIELDS, JSON, max_size=6))
@example(CHAT, {"messages": [{"role": "\ud800", "content": "\ud800" * 100}], "model": "\udfff"})
@example(COMPLETIONS, {"prompt": [[1], [2, [3]], "a", None, [2**70], [1.5], [{}]]})
def test_any_object_is_read(endpoint: str, fields: dict[str, Any]):
    found = read(endpoint, **fields)
    assert found.prompt_tokens >= 1
    assert found.answers >= 1
    assert found.model.encode().decode() == found.model
    assert 16 * len(found.prefix_hashes) <= found.prompt_tokens


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"hello", "no JSON"),
        (b'{"model": "m"', "no JSON"),
        (b'{"model": "m"} x', "no JSON"),
        (b"[1, 2]", "must be a JSON object, not list"),
        (b'"text"', "must be a JSON object, not str"),
        (b"null", "must be a JSON object, not null"),
        (b"NaN", "must be a JSON object, not float"),
        (b'{"model": "\xff"}', "no text"),
        (b'{"n": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, message: str):
    with pytest.raises(BadRequest, match=message):
        read_prompt(CHAT, body, {}, TokenCounter())


def test_no_depth_of_nesting_crashes():
    read_or_refused = []
    for depth in range(100, 2000, 50):
        body = b'{"tools": ' + b"[" * depth + b"]" * depth + b"}"
        try:
            read_prompt(CHAT, body, {}, TokenCounter())
            read_or_refused.append("read")
        except BadRequest as error:
            read_or_refused.append(str(error))
    assert set(read_or_refused) == {"read", "the body is nested too deeply"}


@pytest.mark.parametrize(
    "body", [b'{"model": "a", "model": "m"}', b'\xef\xbb\xbf{"model": "m", "x": NaN}']
)
def test_odd_json_that_servers_take(body: bytes):
    assert read_prompt(CHAT, body, {}, TokenCounter()).model == "m"


def test_a_message_of_an_error_repeats_no_text():
    with pytest.raises(BadRequest) as caught:
        read_prompt(CHAT, b'{"prompt": "secret" secret}', {}, TokenCounter())
    assert "secret" not in str(caught.value)


def test_another_endpoint_is_no_request():
    with pytest.raises(KeyError):
        read("/v1/audio")


def with_headers(headers: dict[str, str], **fields: Any) -> Prompt:
    return read_prompt(CHAT, json.dumps(fields).encode(), headers, TokenCounter(), KEY)


def test_sessions_come_from_the_header():
    one, same, other = (with_headers({"x-session-id": name}).session for name in ("a", "a", "b"))
    assert one == same != other
    assert min(one, other) >= 0
    assert with_headers({"x-session-id": ""}).session == -1
    assert with_headers({}, user="somebody").session == -1


@given(st.text(max_size=8))
def test_a_session_is_an_int64(name: str):
    session = with_headers({"x-session-id": name}).session
    assert np.iinfo(np.int64).max >= session >= (0 if name else -1)


def test_service_classes_are_short_and_printable():
    assert with_headers({"x-slo-class": "batch"}).slo_class == "batch"
    assert with_headers({"x-slo-class": "ba\x00t\nch\x7f"}).slo_class == "batch"
    assert with_headers({"x-slo-class": "x" * 100}).slo_class == "x" * 64


def test_a_chain_ends_where_no_index_would_keep_more():
    found = read(COMPLETIONS, prompt=["a" * 1_000_000, "b" * 1_100_000])
    assert found.prompt_tokens == 525_000
    assert len(found.prefix_hashes) == LONGEST_CHAIN


def test_a_tokenizer_counts(tokenizer_file: Path):
    from tokenizers import Tokenizer

    counter = TokenCounter(tokenizer_file)
    plain = Tokenizer.from_file(str(tokenizer_file))
    plain.no_truncation()
    plain.no_padding()
    ids = plain.encode(LOREM).ids
    found = read(COMPLETIONS, counter, prompt=LOREM)
    assert found.prompt_tokens == len(ids) > 100
    assert len(found.prefix_hashes) == len(ids) // 16
    as_ids = read(COMPLETIONS, counter, prompt=ids)
    assert np.array_equal(found.prefix_hashes, as_ids.prefix_hashes)


def test_with_a_tokenizer_a_conversation_goes_on_where_it_was(tokenizer_file: Path):
    counter = TokenCounter(tokenizer_file)
    said = turns(LOREM, "yes? " * 30, LOREM)
    for end in (1, 2):
        before, after = (read(CHAT, counter, messages=m) for m in (said[:end], said))
        assert shared(before, after) == len(before.prefix_hashes) > 5


def test_a_tokenizer_takes_lone_surrogates(tokenizer_file: Path):
    assert read(COMPLETIONS, TokenCounter(tokenizer_file), prompt="a\ud800b").prompt_tokens >= 3
    assert read(CHAT, TokenCounter(tokenizer_file)).prompt_tokens == 1


def test_a_file_that_is_no_tokenizer(tmp_path: Path):
    pytest.importorskip("tokenizers")
    file = tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer\.json"):
        TokenCounter(file)
    file.write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer"):
        TokenCounter(file)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert TokenCounter().tokens(["text"], special=True).width == 4
    with pytest.raises(ImportError, match=r"makespan\[serve\]"):
        TokenCounter(tmp_path / "tokenizer.json")
