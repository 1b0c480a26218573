"""How many tokens of an answer have come, told from its bytes."""

import json
import re
from collections import OrderedDict

from makespan.agents.serve.prompt import BYTES_PER_TOKEN, TokenCounter

COUNTED = re.compile(rb'"(?:completion_tokens|output_tokens)"\s*:\s*(\d{1,12})')
"""Where an answer says its own length: `usage`, of the older APIs and of responses."""

EVENT, DONE, DELTA = b"data:", b"[DONE]", b".delta"

TEXTS = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|arguments|delta)": ?'
    rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
)
"""What the model wrote, as JSON has it: a text in a text has its quotes escaped, and is not found.
Parsing the whole of every event would take four times as long."""

LONGEST_READ = 2**20
"""Bytes that are looked through; of what is longer the beginning and the end, for usage only."""

MODELS = 256
"""Models of which the bytes per token are known; more push out the one not seen for longest."""

MEMORY_TOKENS = 10_000
"""Tokens over which the bytes per token of a model are averaged."""


class TextTokens:
    """How many tokens a text of a model is, where its answer does not say.

    With a tokenizer they are counted. Without, they are told from the text's bytes in UTF-8, by the
    bytes per token of those answers of the model that did say: of the last 10,000 tokens or so, and
    four before there are any.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def tokens(self, model: str, text: str) -> float:
        """Of a text, or of one more piece of a text; an estimate need not be a whole number."""
        counted = self._counter.count(text)
        return counted if counted is not None else len(utf8(text)) / self._bytes_per_token(model)

    def learn(self, model: str, size: int, tokens: int) -> None:
        """An answer of so many bytes of text said that it is so many tokens."""
        if not (size and tokens):
            return
        bytes_, known = self._seen.get(model, (0.0, 0.0))
        kept = max(0.0, 1.0 - tokens / MEMORY_TOKENS)
        self._seen[model] = kept * bytes_ + size, kept * known + tokens
        self._seen.move_to_end(model)
        if len(self._seen) > MODELS:
            self._seen.popitem(last=False)

    def _bytes_per_token(self, model: str) -> float:
        bytes_, known = self._seen.get(model, (BYTES_PER_TOKEN, 1.0))
        return bytes_ / known


class TokenMeter:
    """Counts the tokens of an answer as it is passed on.

    The answer itself is believed where it says (`usage`, at the end of a stream with
    `include_usage`, in each event with `continuous_usage_stats`). Until then each event counts as
    one token at least, and as more if there is more text than that: a vLLM that is busy puts the
    tokens of several steps into one event (vLLM 0.32 on a CPU: of 100 streams of 32 tokens at once
    only 20 came in 32 events, and 16 in a single one).

    Args:
        text_tokens: tells tokens from text, and learns from answers that say both.
        endpoint: of the request; events of `/v1/responses` count only if they are deltas.
        model: that answers.
        most: tokens that the request allows; None: any number.

    Attributes:
        tokens: that have come so far.
        done: whether the stream's last event, `[DONE]`, has come.
    """

    def __init__(
        self, text_tokens: TextTokens, endpoint: str = "", model: str = "", most: int | None = None
    ) -> None:
        self.tokens = 0
        self.done = False
        self._text_tokens = text_tokens
        self._deltas_only = endpoint.endswith("/responses")
        self._model = model
        self._most = most
        self._said = 0
        self._events, self._estimated = 0, 0.0  # since the answer said how many
        self._bytes = 0  # of text

    def feed(self, events: bytes) -> int:
        """Look at the next whole events of a stream; how many tokens are new.

        Negative where more were counted than the answer then says.
        """
        before = self.tokens
        for line in events.split(b"\n"):
            if line.startswith(EVENT):
                self._look(line[len(EVENT) :].strip())
        return self.tokens - before

    def whole(self, body: bytes) -> int:
        """Look at an answer that was not streamed; its tokens."""
        text = text_of(body)
        self._bytes = len(utf8(text))
        found = COUNTED.findall(body[-LONGEST_READ:]) or COUNTED.findall(body[:LONGEST_READ])
        if found:
            self._say(int(found[-1]))
        else:
            self._estimate(text)
        return self.tokens

    def learn(self) -> None:
        """The answer is complete: let others be told by it, if it said how many tokens it is."""
        if not self._events:
            self._text_tokens.learn(self._model, self._bytes, self._said)

    def _look(self, data: bytes) -> None:
        if data == DONE:
            self.done = True
            return
        if self._deltas_only and DELTA not in data[:200]:
            text, bears_token = "", False
        else:
            text, bears_token = text_of(data), not _is_role(data)
        self._bytes += len(utf8(text))
        if found := COUNTED.findall(data):
            self._say(int(found[-1]))
        elif bears_token:
            self._events += 1
            self._estimate(text)

    def _say(self, tokens: int) -> None:
        """The answer says that it is so many, up to here."""
        # A stream that has begun has one at least.
        self.tokens = self._said = max(tokens, min(self.tokens, 1))
        self._events, self._estimated = 0, 0.0

    def _estimate(self, text: str) -> None:
        self._estimated += self._text_tokens.tokens(self._model, text)
        tokens = self._said + max(self._events, round(self._estimated))
        if self._most is not None:
            tokens = min(tokens, self._most)
        self.tokens = max(self.tokens, tokens)


def _is_role(data: bytes) -> bool:
    """Whether it is the first event of a chat, which only says who speaks."""
    return b'"content":""' in data and b'"role"' in data


def text_of(data: bytes) -> str:
    """What the model wrote in an answer, or in an event of one; empty if there is none."""
    found = TEXTS.findall(data) if len(data) <= LONGEST_READ else []
    # Some servers say the same under two names.
    texts = found if b"reasoning_content" not in data else list(dict.fromkeys(found))
    return "".join(map(_unescaped, texts))


def _unescaped(text: bytes) -> str:
    if b"\\" not in text:
        return text.decode("utf-8", "replace")
    try:
        return json.loads(b'"' + text + b'"')
    except ValueError:
        return ""


def utf8(text: str) -> bytes:
    """Bytes of a text, also of one that JSON allows and UTF-8 does not."""
    return text.encode("utf-8", "surrogatepass")
