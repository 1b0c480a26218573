"""How many are let in, and who waits."""

import asyncio

import pytest
from fault_backends import CHAT, Gate, alone, eventually, servers, soon
from hypothesis import given, settings
from hypothesis import strategies as st
from running_router import quick, routing

from makespan.agents.serve.admission import Admission, Full
from makespan.agents.serve.config import LimitConfig


class Guest:
    """Somebody who comes in, and stays until told to go."""

    def __init__(self, admission: Admission, order: list["Guest"]) -> None:
        self.go = asyncio.Event()
        self.inside = False
        self.task = asyncio.create_task(self._visit(admission, order))

    async def _visit(self, admission: Admission, order: list["Guest"]) -> None:
        async with admission:
            self.inside = True
            order.append(self)
            try:
                await self.go.wait()
            finally:
                self.inside = False


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def limits(in_flight: int, queue: int, queue_s: float = 60.0) -> LimitConfig:
    return LimitConfig(in_flight=in_flight, queue=queue, queue_s=queue_s)


@alone
async def test_who_finds_no_room_waits_in_order():
    admission, order = Admission(limits(2, 10)), []
    guests = [Guest(admission, order) for _ in range(5)]
    await settled()
    assert (admission.inside, admission.waiting) == (2, 3)
    for number in range(5):
        guests[number].go.set()
        await settled()
    assert order == guests
    assert (admission.inside, admission.waiting) == (0, 0)


@pytest.mark.parametrize("queue", [0, 1, 3])
@alone
async def test_who_finds_no_place_in_the_queue_is_turned_away(queue: int):
    admission, order = Admission(limits(1, queue)), []
    guests = [Guest(admission, order) for _ in range(1 + queue)]
    await settled()
    with pytest.raises(Full):
        await Guest(admission, order).task
    assert (admission.inside, admission.waiting) == (1, queue)
    for guest in guests:
        guest.go.set()
    await soon(asyncio.gather(*(guest.task for guest in guests)))


@alone
async def test_nobody_waits_longer_than_is_allowed():
    admission, order = Admission(limits(1, 1, queue_s=0.01)), []
    inside = Guest(admission, order)
    await settled()
    with pytest.raises(Full):
        await soon(Guest(admission, order).task)
    assert (admission.inside, admission.waiting) == (1, 0)
    inside.go.set()
    await inside.task


@alone
async def test_a_failure_inside_makes_room():
    admission = Admission(limits(1, 0))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with admission:
                raise ZeroDivisionError
    assert admission.inside == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["come", "go", "leave"]), st.integers(0, 9))))
def test_whatever_happens_the_counts_are_right(steps: list[tuple[str, int]]):
    @alone
    async def run():
        admission, order = Admission(limits(2, 2)), []
        guests: list[Guest] = []
        for step, number in steps:
            if step == "come":
                guests.append(Guest(admission, order))
            elif guests and step == "go":
                guests[number % len(guests)].go.set()
            elif guests:
                guests[number % len(guests)].task.cancel()
            if number % 3:
                await settled()
        await settled()
        there = [guest for guest in guests if not guest.task.done()]
        assert admission.inside == sum(guest.inside for guest in there) <= 2
        assert admission.waiting == len(there) - admission.inside <= 2
        assert admission.inside == 2 or not admission.waiting
        for guest in there:
            guest.go.set()
        await soon(asyncio.gather(*(g.task for g in guests), return_exceptions=True))
        assert (admission.inside, admission.waiting) == (0, 0)
        async with admission, admission:  # both places are free
            assert admission.inside == 2

    run()


@alone
async def test_a_router_that_is_full_says_so_and_when_to_come_again():
    gate = Gate()
    settings_ = quick(limits={"in_flight": 1, "queue": 1})
    async with servers(gate) as (server,), routing(server, settings=settings_) as live:
        served = [live.ask(CHAT, True), live.ask(CHAT, True)]
        await eventually(lambda: live.admission.waiting == 1)
        asked = await live.get(CHAT, True)
        assert asked.status == 503
        assert asked.error["code"] == "overloaded"
        assert asked.header("retry-after")
        gate.open.set()
        for ask in served:
            assert (await ask.done()).status == 200
        assert live.totals() == {"requests": 3, "finished": 2, "rejected": 1}


@alone
async def test_a_client_that_leaves_the_queue_gives_its_place_to_another():
    gate = Gate()
    settings_ = quick(limits={"in_flight": 1, "queue": 1})
    async with servers(gate) as (server,), routing(server, settings=settings_) as live:
        served = live.ask(CHAT, True)
        await server.call()
        leaving = live.ask(CHAT, True)
        await eventually(lambda: live.admission.waiting == 1)
        leaving.leave()
        await leaving.done()
        assert (live.admission.inside, live.admission.waiting) == (1, 0)
        other = live.ask(CHAT, True)
        await eventually(lambda: live.admission.waiting == 1)
        gate.open.set()
        for ask in (served, other):
            assert (await ask.done()).status == 200
        assert live.totals() == {"requests": 3, "finished": 2, "cancelled": 1}


@alone
async def test_a_request_that_waits_too_long_for_its_turn_is_turned_away():
    gate = Gate()
    settings_ = quick(limits={"in_flight": 1, "queue": 1, "queue_s": 0.02})
    async with servers(gate) as (server,), routing(server, settings=settings_) as live:
        served = live.ask(CHAT, True)
        await server.call()
        assert (await live.get(CHAT, True)).status == 503
        gate.open.set()
        assert (await served.done()).status == 200
