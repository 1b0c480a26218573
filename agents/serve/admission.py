"""How many requests the router takes at once, and how many may wait for that."""

import asyncio

from makespan.agents.serve.config import LimitConfig


class Full(Exception):
    """There is no room, or there was none in time."""


class Admission:
    """Lets so many in at once, in the order in which they came: `async with admission`.

    Raises:
        Full: on entry, when the queue is full, or after `queue_s` seconds in it.

    Attributes:
        inside: requests that were let in.
        waiting: requests in the queue.
    """

    def __init__(self, limits: LimitConfig) -> None:
        self._limits = limits
        self._room = asyncio.Semaphore(limits.in_flight)
        self.inside = 0
        self.waiting = 0

    async def __aenter__(self) -> None:
        if self._room.locked():
            await self._wait()
        else:
            await self._room.acquire()
        self.inside += 1

    async def __aexit__(self, *_: object) -> None:
        self.inside -= 1
        self._room.release()

    async def _wait(self) -> None:
        if self.waiting >= self._limits.queue:
            raise Full
        self.waiting += 1
        try:
            async with asyncio.timeout(self._limits.queue_s):
                await self._room.acquire()
        except TimeoutError:
            raise Full from None
        finally:
            self.waiting -= 1
