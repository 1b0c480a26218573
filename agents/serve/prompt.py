"""What a router reads in the body of a request: how long the prompt is, and what it begins with.

A body that is a JSON object is never refused: what is odd in it is for the backend to judge, and is
left out of account here.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from makespan.traces.workload import HASH_BLOCK_TOKENS

BYTES_PER_TOKEN = 4
"""Of text, in UTF-8, where there is no tokenizer: the usual rule for English."""

LONGEST_CHAIN = 31_250
"""Blocks that are hashed: what the router remembers of a replica, after llm-d's prefix index."""

COMPLETION_TOKENS = 16
"""`max_tokens` of /v1/completions that do not say: OpenAI's default, also vLLM's and SGLang's."""

LONGEST_CLASS = 64
"""Characters of `x-slo-class`, which the log and its reports repeat."""

LONGEST_MODEL = 256
"""Characters of a model's name that are kept; no server has a longer one."""

INT32 = 2**31 - 1

INT64 = 2**63 - 1

PROCESS_KEY = secrets.token_bytes(32)
"""Key of the hashes of this process: without it, nobody can try texts against a log of hashes."""

MISSING = 'counting tokens with a tokenizer.json needs tokenizers: pip install "makespan[serve]"'


class BadRequest(ValueError):
    """The body is no JSON object; the message says what it is."""


class Tokens(NamedTuple):
    """One prompt: `data` holds `width` bytes for each token, ids or a text of unknown tokens."""

    data: bytes
    width: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as far as routing goes.

    Attributes:
        model: that is asked for; empty if not said.
        stream: whether the answer is to be streamed.
        prompt_tokens: of all its prompts together, at least 1.
        prefix_hashes: int64, not negative: one for each full block of 16 tokens of each prompt,
            `LONGEST_CHAIN` at most. Each stands for the model and all that is before the end of its
            block, so that requests share a prefix as far as their hashes agree.
        max_tokens: most tokens of one answer; None if not said.
        session: not negative, from the header `x-session-id`; -1 without one.
        priority: lower is more urgent, as in vLLM.
        slo_class: from the header `x-slo-class`.
        answers: that are expected, at least 1.
    """

    model: str
    stream: bool
    prompt_tokens: int
    prefix_hashes: np.ndarray
    max_tokens: int | None
    session: int
    priority: int
    slo_class: str
    answers: int


class TokenCounter:
    """Turns text into tokens: a tokenizer's, or one for each four bytes of UTF-8.

    Bytes rather than characters: it is the same for English, and three bytes make a Chinese
    character 0.75 tokens, where a quarter would be far too few.

    100,000 characters are counted and hashed in less than a millisecond; a tokenizer needs some
    60 ms for them, so a server should then read long bodies in a thread. Others run meanwhile.

    Args:
        tokenizer_file: a `tokenizer.json` of Hugging Face; None for none.

    Raises:
        ImportError: a file is given and the library `tokenizers` is not installed.
        ValueError: the file cannot be read; the message names it.
    """

    def __init__(self, tokenizer_file: Path | None = None) -> None:
        self._tokenizer = None if tokenizer_file is None else _load(tokenizer_file)

    def tokens(self, pieces: Iterable[str], special: bool) -> Tokens:
        """The tokens of the pieces, one after the other.

        With a tokenizer, no token reaches over the end of a piece, so that what comes after cannot
        change the tokens before.

        Args:
            pieces: of one text.
            special: add the tokens that the model wants at the beginning, as servers do with the
                prompt of a completion.
        """
        if self._tokenizer is None:
            return Tokens("".join(pieces).encode("utf-8", "surrogatepass"), BYTES_PER_TOKEN)
        # The library takes no lone surrogates.
        texts = [piece.encode("utf-8", "replace").decode("utf-8") for piece in pieces]
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=special)
        return token_ids([token for piece in encoded for token in piece.ids])

    def count(self, text: str) -> int | None:
        """Tokens of a text that stands alone; None without a tokenizer."""
        if self._tokenizer is None:
            return None
        text = text.encode("utf-8", "replace").decode("utf-8")
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _load(file: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(MISSING) from error
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{file} is no tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def token_ids(ids: list[Any]) -> Tokens:
    """Tokens of which the ids are known; none if these are no integers, which no server takes."""
    try:
        return Tokens(np.asarray(ids, np.int64).tobytes(), 8)
    except (ValueError, TypeError, OverflowError):
        return Tokens(b"", 8)


def read_prompt(
    endpoint: str,
    body: bytes,
    headers: Mapping[str, str],
    counter: TokenCounter,
    key: bytes = PROCESS_KEY,
) -> Prompt:
    """What the router has to know of a request.

    The header `x-session-id` names a session, as for the vLLM project's router. The field `user`
    does not: it stands for a person, who may have many conversations at once that share nothing,
    or, behind another proxy, for all the world.

    Args:
        endpoint: `/v1/completions`, `/v1/chat/completions`, `/v1/responses` or `/v1/embeddings`.
        body: of the request.
        headers: names in lower case, or a mapping that ignores case.
        counter: of tokens.
        key: of the hashes, 64 bytes at most; who has it can find out texts by trying.

    Raises:
        BadRequest: the body is no JSON object, or nested too deeply.
        KeyError: another endpoint.
    """
    reader = READERS[endpoint]
    try:
        fields = _json_object(body)
        prompts = reader.prompts(fields, counter)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    model = _text(fields.get("model"))[:LONGEST_MODEL]
    return Prompt(
        model=model,
        stream=fields.get("stream") is True,
        prompt_tokens=max(sum(len(prompt.data) // prompt.width for prompt in prompts), 1),
        prefix_hashes=_prefix_hashes(model, prompts, key),
        max_tokens=reader.max_tokens(fields),
        session=_session(headers.get("x-session-id", ""), key),
        priority=_integer(fields.get("priority"), -INT32) or 0,
        slo_class=_printable(headers.get("x-slo-class", "")),
        answers=max(len(prompts), 1) * (_integer(fields.get("n"), 1) or 1),
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is no JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is no text: {error}") from None
    except ValueError:
        raise BadRequest("a number in the body has too many digits") from None
    if not isinstance(fields, dict):
        kind = "null" if fields is None else type(fields).__name__
        raise BadRequest(f"the body must be a JSON object, not {kind}")
    return fields


def _completion_prompts(fields: dict[str, Any], counter: TokenCounter) -> list[Tokens]:
    return [_one_prompt(prompt, counter) for prompt in _split(fields.get("prompt"))]


def _embedding_prompts(fields: dict[str, Any], counter: TokenCounter) -> list[Tokens]:
    if "input" not in fields and "messages" in fields:  # as vLLM takes it, for pictures
        return _chat_prompts(fields, counter)
    return [_one_prompt(prompt, counter) for prompt in _split(fields.get("input"))]


def _chat_prompts(fields: dict[str, Any], counter: TokenCounter) -> list[Tokens]:
    """Tools and then messages, as chat templates put them: what is said next comes at the end.

    Of the model's own template nothing is known, so a line with the role stands for what it puts
    around a message. Pictures and sounds are told apart, but count for little: how many tokens they
    are depends on the model.
    """
    pieces = [_tools(fields), *(_message(m) for m in _items(fields.get("messages")))]
    return [counter.tokens(pieces, special=False)]


def _response_prompts(fields: dict[str, Any], counter: TokenCounter) -> list[Tokens]:
    """As a chat's. What `previous_response_id` stands for is known to the server alone."""
    instructions = {"role": "system", "content": fields.get("instructions")}
    pieces = [_tools(fields), _message(instructions)]
    pieces += [_message(item) for item in _items(fields.get("input"))]
    return [counter.tokens(pieces, special=False)]


def _split(value: Any) -> list[Any]:
    """The prompts in a string, a list of ids, a list of strings or a list of lists of ids."""
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        return value
    return [value] if isinstance(value, str | list) and value else []


def _one_prompt(value: Any, counter: TokenCounter) -> Tokens:
    if isinstance(value, str):
        return counter.tokens([value], special=True)
    return token_ids(value if isinstance(value, list) else [])


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [{"role": "user", "content": value}] if isinstance(value, str) else []


def _tools(fields: dict[str, Any]) -> str:
    return f"{_json(fields['tools'])}\n" if fields.get("tools") else ""


def _message(message: Any) -> str:
    """The text of a message, or of an item of /v1/responses that is no message."""
    if not isinstance(message, dict) or "content" not in message:
        return f"{_json(message)}\n"
    calls = message.get("tool_calls")
    called = _json(calls) if calls else ""
    return f"<|{_text(message.get('role'))}|>\n{_content(message['content'])}{called}\n"


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    return content if isinstance(content, str) else "" if content is None else _json(content)


def _part(part: Any) -> str:
    """The text of a part of a message; in place of anything else its digest."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(text := part.get("text"), str):
        return text
    data = _json(part).encode("utf-8", "surrogatepass")
    return f"<{blake2b(data, digest_size=16).hexdigest()}>"


def _prefix_hashes(model: str, prompts: Iterable[Tokens], key: bytes) -> np.ndarray:
    """One hash for each full block: of the model and of all full blocks up to its end.

    A prompt begins on a new block, as in an engine; which of several it is counts.
    """
    chain = blake2b(model.encode(), digest_size=8, key=key)
    hashes: list[bytes] = []
    for data, width in prompts:
        chain.update(b"\0%d\0" % width)
        block = width * HASH_BLOCK_TOKENS
        end = min(len(data), (LONGEST_CHAIN - len(hashes)) * block)
        for at in range(block, end + 1, block):
            chain.update(data[at - block : at])
            hashes.append(chain.copy().digest())
    return np.frombuffer(b"".join(hashes), np.int64) & INT64


def _session(name: str, key: bytes) -> int:
    if not name:
        return -1
    data = name.encode("utf-8", "surrogatepass")
    digest = blake2b(data, digest_size=8, key=key, person=b"session").digest()
    return int.from_bytes(digest, "little") & INT64


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))[:LONGEST_CLASS]


def _text(value: Any) -> str:
    """A string that can be encoded, and so logged; empty for anything else."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _integer(value: Any, least: int) -> int | None:
    """A whole number of sane size; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if least <= value <= INT32 else None


def _completion_limit(fields: dict[str, Any]) -> int | None:
    return _integer(fields.get("max_tokens", COMPLETION_TOKENS), 0)


def _chat_limit(fields: dict[str, Any]) -> int | None:
    newer = fields.get("max_completion_tokens")
    return _integer(fields.get("max_tokens") if newer is None else newer, 0)


def _response_limit(fields: dict[str, Any]) -> int | None:
    return _integer(fields.get("max_output_tokens"), 0)


def _embedding_limit(fields: dict[str, Any]) -> int | None:
    return 1  # it stands for the vector


class _Reader(NamedTuple):
    prompts: Callable[[dict[str, Any], TokenCounter], list[Tokens]]
    max_tokens: Callable[[dict[str, Any]], int | None]


READERS = {
    "/v1/completions": _Reader(_completion_prompts, _completion_limit),
    "/v1/chat/completions": _Reader(_chat_prompts, _chat_limit),
    "/v1/responses": _Reader(_response_prompts, _response_limit),
    "/v1/embeddings": _Reader(_embedding_prompts, _embedding_limit),
}
