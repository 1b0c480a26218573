"""One try of one backend: what is asked, what comes back, and whose fault it is if nothing does."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from makespan.agents.serve.dispatcher import Assignment
from makespan.agents.serve.events import EventCutter
from makespan.agents.serve.exchange import Exchange, Parts, Refusal, Reply
from makespan.agents.serve.meter import TokenMeter
from makespan.agents.serve.upstream import BODILESS, Answer, Head, UpstreamError

RETRIED = frozenset({408, 429, *range(500, 600)})
"""Statuses of an answer after which another backend is tried."""

PATIENT = frozenset({408, 429})
"""Those of them that are no fault of the backend's: it has too much to do."""

BACKEND = b"x-makespan-backend"

SAID = {
    "connect": "it cannot be reached",
    "timeout": "nothing came in time",
    "broken": "what came was cut off, or is no HTTP",
}
"""What clients are told of a failure; more would name the backend's address."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What the client sent: headers by lower-case name, and the body."""

    headers: Mapping[str, str]
    body: bytes


class Attempt:
    """Asks one backend, and passes on what it answers.

    Args:
        last: what it answers is passed on, whatever it is.
    """

    def __init__(
        self,
        parts: Parts,
        exchange: Exchange,
        assignment: Assignment,
        question: Question,
        reply: Reply,
        last: bool,
    ) -> None:
        self._parts = parts
        self._exchange = exchange
        self._assignment = assignment
        self._question = question
        self._reply = reply
        self._last = last
        self._streamed = False
        self._verdict: bool | None = None

    async def answer(self) -> Refusal | None:
        """None if the client has its answer; else why not, and nothing of one was sent."""
        backend = self._assignment.backend
        headers = forwarded(self._question.headers, self._exchange.id, self._parts)
        url = backend.url + self._exchange.endpoint
        ask = self._parts.upstream.request("POST", url, headers, self._question.body)
        try:
            async with ask as answer:
                return await self._receive(answer)
        except UpstreamError as error:
            self._failed(error, error.kind)
            status = 504 if error.kind == "timeout" else 502
            message = f"the backend did not answer: {SAID[error.kind]}"
            return Refusal(status, message, unreached=error.kind == "connect")
        finally:
            self._parts.dispatcher.settle(self._assignment, self._streamed, self._verdict)

    async def _receive(self, answer: Answer) -> Refusal | None:
        status = answer.head.status
        if status in RETRIED:
            self._verdict = None if status in PATIENT else False
            self._parts.telemetry.error(self._assignment.backend.url, str(status))
            if not self._last:
                return Refusal(502, f"the backend answered {status}")
        if answer.head.is_events and status == 200:
            await self._stream(answer)
        else:
            await self._copy(answer)
        return None

    async def _copy(self, answer: Answer) -> None:
        """Pass on an answer that is not streamed, once it is whole."""
        body = await answer.body()
        status = answer.head.status
        if status not in RETRIED:
            self._verdict = True
        if status == 200:
            meter = self._meter()
            self._exchange.output_tokens = meter.whole(body)
            meter.learn()
        self._exchange.outcome = "failed" if status in RETRIED else "finished"
        await self._start(answer.head, None if status in BODILESS else len(body))
        await self._reply.pass_on(body, last=True)

    async def _start(self, head: Head, length: int | None) -> None:
        url = self._assignment.backend.url.encode()
        await self._reply.start(head.status, [*head.headers, (BACKEND, url)], length)

    async def _stream(self, answer: Answer) -> None:
        """Pass on events as they come, byte for byte, from the moment that there is one."""
        cutter, meter = EventCutter(), self._meter()
        events = await _next_events(answer, cutter)
        if not (events or answer.delimited):  # nothing is sent yet: another is asked
            raise UpstreamError("broken", "the stream ended before its first event")
        await self._start(answer.head, None)
        try:
            while events:
                await self._pass_on(events, meter)
                events = await _next_events(answer, cutter)
            rest = cutter.rest()
            meter.feed(rest)
            self._exchange.output_tokens = meter.tokens
            if not (answer.delimited or meter.done):
                raise UpstreamError("broken", "the stream ended without its last event")
        except UpstreamError as error:
            self._failed(error, f"stream {error.kind}")
            self._exchange.outcome = "failed"
            what = f"the backend died in the middle of this answer: {SAID[error.kind]}"
            await self._reply.break_off(502, what)
            return
        self._streamed = self._verdict = True
        self._exchange.outcome = "finished"
        meter.learn()
        await self._reply.pass_on(rest, last=True)

    def _failed(self, error: UpstreamError, what: str) -> None:
        url = self._assignment.backend.url
        self._verdict = False
        self._parts.telemetry.error(url, what)
        # What a backend sent that is no HTTP stands in other errors, and in no log.
        log.info("%s: %s", url, error if error.kind == "connect" else SAID[error.kind])

    async def _pass_on(self, events: bytes, meter: TokenMeter) -> None:
        if tokens := meter.feed(events):
            self._parts.dispatcher.count(self._assignment, tokens)
            self._exchange.output_tokens = meter.tokens
            if self._exchange.ttft_s is None:
                self._exchange.ttft_s = time.monotonic() - self._exchange.arrived_s
        await self._reply.pass_on(events, last=False)

    def _meter(self) -> TokenMeter:
        prompt = self._exchange.prompt
        assert prompt is not None
        most = None if prompt.max_tokens is None else prompt.max_tokens * prompt.answers
        return TokenMeter(self._parts.text_tokens, self._exchange.endpoint, prompt.model, most)


async def _next_events(answer: Answer, cutter: EventCutter) -> bytes:
    """Whole events, as soon as there is one; empty at the end of the stream."""
    while chunk := await answer.read():
        if events := cutter.feed(chunk):
            return events
    return b""


def forwarded(headers: Mapping[str, str], id: str, parts: Parts) -> dict[str, str]:
    """Headers of a request that reach the backend, under the name that the router gave it."""
    headers = {**headers, "x-request-id": id}
    kept = {name: headers[name] for name in parts.settings.headers if name in headers}
    kept.pop("authorization", None)  # it may be the router's own key
    if parts.keys.backend:
        kept["authorization"] = f"Bearer {parts.keys.backend}"
    elif not parts.keys.client and "authorization" in headers:
        kept["authorization"] = headers["authorization"]
    return kept
