"""From a request to its answer: read it, have it routed, and try until a backend answers."""

import asyncio
import random
import time
import uuid
from collections.abc import Mapping
from typing import Any

from makespan.agents.serve.admission import Full
from makespan.agents.serve.attempt import Attempt, Question
from makespan.agents.serve.dispatcher import Assignment, NoBackend
from makespan.agents.serve.exchange import (
    Exchange,
    Parts,
    Receive,
    Refusal,
    Reply,
    Scope,
    Send,
    kind_of,
)
from makespan.agents.serve.prompt import BadRequest, read_prompt
from makespan.agents.serve.view import Incoming

LONG_BODY = 32 * 2**10
"""Bytes of a body that takes so long to read that it is done beside the event loop."""


class ClientLeft(Exception):
    """The client is gone before its request was whole."""


class Proxy:
    """An ASGI application that serves the routed endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._served += 1
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        exchange = Exchange(
            _name_of(headers.get("x-request-id", "")) or uuid.uuid4().hex,
            scope["path"],
            time.monotonic(),
        )
        reply = Reply(exchange, send)
        try:
            question = Question(headers, await self._read(receive, headers))
            service = Service(self._parts, exchange, self._served, question, reply)
            await _while_connected(service.serve(), receive, exchange)
        except Refusal as refusal:
            await reply.refuse(refusal)
        except ClientLeft:
            exchange.outcome = "cancelled"
        except asyncio.CancelledError:  # the server stops, and waits no longer
            exchange.outcome = "failed"
            await _cut_off(exchange, reply)
        finally:
            self._parts.ended(exchange)

    async def _read(self, receive: Receive, headers: Mapping[str, str]) -> bytes:
        """The body of a request, if it is small enough and comes in time."""
        most = self._parts.settings.limits.body_bytes
        if headers.get("content-length", "0").isdecimal():
            _check_size(int(headers.get("content-length", "0")), most)
        try:
            async with asyncio.timeout(self._parts.settings.timeouts.request_s):
                return await _whole_body(receive, most)
        except TimeoutError:
            raise Refusal(408, "the body of the request did not come in time") from None


async def _cut_off(exchange: Exchange, reply: Reply) -> None:
    """Tell the client that the router stops, before its answer or in the middle of it."""
    if exchange.status:
        await reply.break_off(503, "the router stops, in the middle of this answer")
    else:
        await reply.refuse(Refusal(503, "the router stops; try again"))


def _name_of(sent: str) -> str:
    """The client's name for a request, as far as it can stand in a header."""
    return "".join(c for c in sent if " " < c <= "~")[:128]


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise Refusal(413, f"the body of the request is longer than {most} bytes")


async def _whole_body(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        _check_size(size, most)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _while_connected(work: Any, receive: Receive, exchange: Exchange) -> None:
    """Do the work until it is done or the client leaves, which cancels it."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            exchange.outcome = "cancelled"
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
    finally:
        gone.cancel()
        if not task.done():  # the server stops, and waits no longer
            exchange.outcome = "cancelled"
            task.cancel()
            await asyncio.wait({task})


class Service:
    """Serves one request."""

    def __init__(
        self,
        parts: Parts,
        exchange: Exchange,
        number: int,
        question: Question,
        reply: Reply,
    ) -> None:
        self._parts = parts
        self._exchange = exchange
        self._number = number
        self._question = question
        self._reply = reply

    async def serve(self) -> None:
        """Answer the request, whatever happens."""
        exchange = self._exchange
        try:
            await self._read_prompt()
            async with self._parts.admission:
                exchange.outcome = "failed"
                await self._try_backends()
        except BadRequest as error:
            await self._reply.refuse(Refusal(400, str(error)))
        except Full:
            await self._reply.refuse(
                Refusal(503, "the router has too many requests; try again later")
            )
        except NoBackend:
            await self._reply.refuse(Refusal(503, "no backend is available; try again later"))
        except Refusal as refusal:
            await self._reply.refuse(refusal)
        except asyncio.CancelledError:
            exchange.outcome = "cancelled"
            raise

    async def _read_prompt(self) -> None:
        parts, exchange = self._parts, self._exchange
        body, headers = self._question.body, self._question.headers
        look = (exchange.endpoint, body, headers, parts.counter, parts.hash_key)
        if len(body) > LONG_BODY:
            prompt = await asyncio.to_thread(read_prompt, *look)
        else:
            prompt = read_prompt(*look)
        exchange.prompt = prompt
        exchange.incoming = Incoming(
            index=self._number,
            arrival_s=exchange.arrived_s,
            prompt_tokens=prompt.prompt_tokens,
            prefix_hashes=prompt.prefix_hashes,
            session=prompt.session,
            priority=prompt.priority,
            slo_class=prompt.slo_class,
            predicted_tokens=parts.lengths.predict(
                kind_of(exchange.endpoint, prompt), prompt.prompt_tokens, prompt.max_tokens
            ),
        )

    async def _try_backends(self) -> None:
        """Ask one backend after the other until one answers.

        A backend that cannot be reached costs no attempt while there are others to try: a request
        is not lost because many servers are down at once.

        Raises:
            NoBackend, Refusal: none does.
        """
        retry, tried = self._parts.settings.retry, self._exchange.tried
        prompt, failed = self._exchange.prompt, 0
        model = prompt.model if prompt else ""
        while True:
            assignment = await self._route()
            last = failed + 1 == retry.attempts
            attempt = Attempt(
                self._parts, self._exchange, assignment, self._question, self._reply, last
            )
            failure = await attempt.answer()
            if failure is None:
                return
            tried.add(assignment.backend)
            if not (failure.unreached and self._parts.dispatcher.untried(tried, model)):
                failed += 1
            if failed == retry.attempts:
                raise failure
            await asyncio.sleep(retry.wait_s(max(failed, 1), random.random()))

    async def _route(self) -> Assignment:
        exchange = self._exchange
        assert exchange.incoming is not None
        assert exchange.prompt is not None
        assignment = await self._parts.dispatcher.route(
            exchange.incoming,
            exchange.id,
            exchange.prompt.model,
            exchange.attempts,
            exchange.tried,
            exchange.wait,
        )
        if exchange.attempts:
            self._parts.telemetry.retried(assignment.backend.url)
        exchange.attempts += 1
        exchange.assignment = assignment
        return assignment
