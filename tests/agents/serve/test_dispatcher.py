"""Decisions, and what waits in the router."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
from fault_backends import alone, soon
from running_router import QUICK, first, holding, quick

from makespan.agents.serve.backend import Backend
from makespan.agents.serve.config import BackendConfig, RouterConfig
from makespan.agents.serve.dispatcher import FALLBACK, Assignment, Dispatcher, NoBackend, Wait
from makespan.agents.serve.status import HOLD
from makespan.agents.serve.view import Incoming
from makespan.baselines.llm import policy as baseline
from makespan.envs.core.contract import Policy

MAY_HOLD = replace(QUICK, hold=True)


def incoming(number: int = 0, tokens: int = 100, predicted: float = nan) -> Incoming:
    hashes = np.arange(tokens // 16, dtype=np.int64)
    return Incoming(number, 0.0, tokens, hashes, predicted_tokens=predicted)


class Desk:
    """A dispatcher, its backends, and a clock that is turned by hand."""

    def __init__(
        self,
        count: int = 2,
        policy: Callable[[], Policy] = lambda: first,
        settings: RouterConfig = QUICK,
        shadows: dict[str, Callable[[], Policy]] | None = None,
    ) -> None:
        self.now = 0.0
        self.decided: list[tuple[str, str, str]] = []
        self.choices: list[Any] = []
        self.dispatcher = Dispatcher(
            settings, "tested", policy, shadows or {}, self._decided, lambda: self.now
        )
        self.backends = [Backend(BackendConfig(f"http://b{i}:1"), settings) for i in range(count)]
        self.dispatcher.use(self.backends)

    def _decided(self, now: float, id: str, request: Incoming, choice: Any) -> None:
        self.decided.append((id, choice.chosen, choice.policy))
        self.choices.append(choice)

    def ask(self, number: int = 0, **options: Any) -> "asyncio.Task[Assignment]":
        request = options.pop("request", None) or incoming(number)
        return asyncio.create_task(self.dispatcher.route(request, id=str(number), **options))

    async def route(self, **options: Any) -> Assignment:
        return await soon(self.ask(**options))

    def end(self, assignment: Assignment, verdict: bool | None = True) -> None:
        self.dispatcher.settle(assignment, verdict is True, verdict)

    @property
    def loads(self) -> list[int]:
        return [backend.replica.requests for backend in self.backends]


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


@alone
async def test_the_policy_chooses_and_is_told_what_it_chose():
    desk = Desk(3, lambda: lambda decision: 1)
    assignment = await desk.route(number=7)
    assert assignment.backend is desk.backends[1]
    assert desk.loads == [0, 1, 0]
    assert desk.decided == [("7", "http://b1:1", "tested")]
    desk.end(assignment)
    assert desk.loads == [0, 0, 0]


@alone
async def test_what_was_chosen_counts_before_the_next_is_asked():
    desk = Desk(2, lambda: lambda decision: int(np.argmin(decision.requests)))
    tasks = [desk.ask(number) for number in range(4)]
    chosen = [(await soon(task)).backend for task in tasks]
    assert chosen == desk.backends * 2


@alone
async def test_a_request_is_settled_once():
    desk = Desk(1)
    assignment = await desk.route()
    for verdict in (True, False, None):
        desk.end(assignment, verdict)
    assert desk.loads == [0]
    assert len(desk.backends[0].replica.recent()) == 0  # no token of it was counted


@alone
async def test_tokens_are_counted_while_they_come():
    desk = Desk(1)
    assignment = await desk.route()
    replica = desk.backends[0].replica
    assert (replica.prefill_tokens, replica.decoding) == (100, 0)
    desk.dispatcher.count(assignment, 2)
    assert (replica.prefill_tokens, replica.decoding, replica.decode_tokens) == (0, 1, 102)
    desk.end(assignment)
    assert (replica.decoding, replica.decode_tokens, len(replica.recent())) == (0, 0, 1)


# Who may be chosen.


@pytest.mark.parametrize("why", ["unhealthy", "breaker open", "draining"])
@alone
async def test_what_is_down_is_not_chosen(why: str):
    desk = Desk(2)
    make_down(desk.backends[0], why)
    assert desk.backends[0].why(0.0) == why
    assert (await desk.route()).backend is desk.backends[1]
    make_down(desk.backends[1], why)
    with pytest.raises(NoBackend):
        await desk.route()


def make_down(backend: Backend, why: str) -> None:
    if why == "draining":
        backend.draining = True
    elif why == "unhealthy":
        for _ in range(3):
            backend.checked(False)
    else:
        for _ in range(QUICK.breaker.failures):
            backend.breaker.failed(backend.breaker.begin(0.0), 0.0)


@alone
async def test_with_no_backends_there_is_none():
    with pytest.raises(NoBackend):
        await Desk(0).route()


@alone
async def test_what_failed_is_not_chosen_again_while_there_are_others():
    desk = Desk(3)
    tried: set[Backend] = set()
    for backend in (*desk.backends, desk.backends[0]):
        assert (await desk.route(attempt=len(tried), tried=tried)).backend is backend
        tried.add(backend)


@pytest.mark.parametrize(
    ("models", "asked", "chosen"),
    [
        ((["a"], ["b"]), "b", 1),
        ((["a"], ["a", "b"]), "b", 1),
        ((["a"], []), "b", 1),  # it is not known what that one serves
        ((["a"], ["b"]), "", 0),
        ((["a"], ["a"]), "b", 0),  # then a server may say that there is no such model
    ],
)
@alone
async def test_a_request_goes_where_its_model_is(
    models: Sequence[list[str]], asked: str, chosen: int
):
    desk = Desk(2)
    for backend, names in zip(desk.backends, models, strict=True):
        backend.models = frozenset(names)
    assert (await desk.route(model=asked)).backend is desk.backends[chosen]


@alone
async def test_the_only_one_with_the_model_is_asked_again_where_it_failed():
    desk = Desk(2)
    desk.backends[0].models, desk.backends[1].models = frozenset("a"), frozenset("b")
    assignment = await desk.route(model="b", attempt=1, tried={desk.backends[1]})
    assert assignment.backend is desk.backends[1]


# Policies that fail.


def raises(decision: Any) -> int:
    raise RuntimeError("it broke")


def counts_too_far(decision: Any) -> int:
    return 99


FAULTY: dict[str, Any] = {
    "raises": raises,
    "too high": counts_too_far,
    "negative": lambda decision: -1,
    "nothing": lambda decision: None,
    "text": lambda decision: "b1",
    "nan": lambda decision: nan,
    "infinite": lambda decision: float("inf"),
    "an array": lambda decision: np.arange(3),
    "one that is down": lambda decision: 0,
    "holds where it may not": lambda decision: len(decision.action_mask),
    "no memory": lambda decision: (_ for _ in ()).throw(MemoryError()),
    "recursion": lambda decision: FAULTY["recursion"](decision),
}


@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.parametrize("settings", [QUICK, MAY_HOLD], ids=["sends", "may hold"])
@alone
async def test_a_faulty_policy_loses_no_request(fault: str, settings: RouterConfig, caplog):
    desk = Desk(3, lambda: FAULTY[fault], settings)
    make_down(desk.backends[0], "unhealthy")
    chosen = [await desk.route(number=n) for n in range(4)]
    assert desk.loads == [0, 2, 2]  # by the fewest requests
    assert {by for _, _, by in desk.decided} == {FALLBACK}
    complaints = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(complaints) == 1  # not one for each request
    for assignment in chosen:
        desk.end(assignment)
    assert desk.loads == [0, 0, 0]


@alone
async def test_shadows_are_asked_and_not_followed():
    shadows = {"other": lambda: lambda d: 1, "broken": lambda: raises, "waits": lambda: holding}
    desk = Desk(2, lambda: first, MAY_HOLD, shadows)
    one = await desk.route()
    two = await desk.route()
    assert one.choice.shadows == {"other": "http://b1:1", "broken": "error", "waits": "http://b0:1"}
    assert two.choice.shadows["waits"] == HOLD
    assert desk.loads == [2, 0]


@alone
async def test_a_policy_is_made_anew_when_the_backends_are_others():
    made: list[int] = []
    desk = Desk(1, lambda: made.append(1) or first)
    before = len(made)
    desk.dispatcher.use(desk.backends)
    assert len(made) == before + 1


@pytest.mark.parametrize("count", [0, 1, 3])
def test_warming_up_leaves_nothing_behind(count: int):
    desk = Desk(count, lambda: holding, MAY_HOLD, {"broken": lambda: raises})
    desk.dispatcher.warm_up()
    assert desk.loads == [0] * count
    assert desk.decided == []


# Holding.


def waiting(desk: Desk) -> tuple[int, int]:
    return desk.dispatcher.held, len(desk.dispatcher._held)


async def held(desk: Desk, *requests: Incoming) -> tuple[Assignment, list[asyncio.Task]]:
    """One request in flight, and these held."""
    running = await desk.route(number=99)
    tasks = [desk.ask(request.index, request=request) for request in requests]
    await settled()
    assert waiting(desk) == (len(requests), len(requests))
    return running, tasks


@alone
async def test_what_is_held_is_sent_when_something_ends():
    desk = Desk(2, lambda: holding, MAY_HOLD)
    running, wait = await desk.route(number=99), Wait()
    task = desk.ask(1, wait=wait)
    await settled()
    desk.now = 2.5
    desk.end(running)
    await soon(task)
    assert wait.choice is not None
    assert (wait.held_s, wait.choice.chosen) == (2.5, "http://b0:1")
    assert waiting(desk) == (0, 0)
    assert [chosen for _, chosen, _ in desk.decided][1:] == [HOLD, "http://b0:1"]


@alone
async def test_what_is_held_and_lost_is_told_too():
    desk = Desk(2, lambda: holding, MAY_HOLD)
    await desk.route(number=99)
    waits = [Wait(), Wait()]
    tasks = [desk.ask(k, wait=wait) for k, wait in enumerate(waits)]
    await settled()
    desk.now = 2.5
    tasks[0].cancel()  # its client left
    await settled()
    desk.now = 3.5
    desk.dispatcher.use([])  # nobody is left
    with pytest.raises(NoBackend):
        await soon(tasks[1])
    assert [w.held_s for w in waits] == [2.5, 3.5]
    assert [w.choice and w.choice.chosen for w in waits] == [HOLD, HOLD]


@pytest.mark.parametrize("verdict", [True, False, None])
@alone
async def test_it_is_sent_however_that_ended(verdict: bool | None):
    desk = Desk(2, lambda: holding, MAY_HOLD)
    running, (task,) = await held(desk, incoming(1))
    desk.end(running, verdict)
    await soon(task)


@pytest.mark.parametrize(
    ("order", "expected"), [("shortest", ["2", "1", "3"]), ("fcfs", ["1", "2", "3"])]
)
@alone
async def test_what_is_held_has_an_order(order: Any, expected: list[str]):
    desk = Desk(1, lambda: holding, replace(MAY_HOLD, hold_order=order))
    requests = [incoming(1, 100), incoming(2, 50), incoming(3, 80, predicted=500.0)]
    running, tasks = await held(desk, *requests)
    sent = []
    for _ in requests:
        desk.end(running)
        await settled()
        (task,) = [t for t in tasks if t.done()]
        tasks.remove(task)
        running = task.result()
        sent.append(str(running.sent.request.index))
    assert sent == expected


class HoldsUntil:
    """Holds until it is told not to."""

    def __init__(self) -> None:
        self.over = False
        self.asked: list[tuple[int, int]] = []

    def __call__(self, decision: Any) -> int:
        self.asked.append((decision.request.index, decision.held))
        return first(decision) if self.over else holding(decision)


@alone
async def test_the_policy_sees_how_many_others_are_held():
    policy = HoldsUntil()
    desk = Desk(2, lambda: policy, MAY_HOLD)
    _, tasks = await held(desk, incoming(1), incoming(2), incoming(3))
    assert [count for _, count in policy.asked] == [0, 0, 1, 2]
    policy.over = True
    desk.dispatcher.offer()
    await asyncio.gather(*tasks)
    assert [count for _, count in policy.asked][4:] == [2, 1, 0]


@alone
async def test_a_backend_that_is_added_gets_what_is_held():
    policy = HoldsUntil()
    desk = Desk(1, lambda: policy, MAY_HOLD)
    _, (task,) = await held(desk, incoming(1))
    policy.over = True
    extra = Backend(BackendConfig("http://b9:1"), MAY_HOLD)
    desk.dispatcher.use([extra, *desk.backends])
    assert (await soon(task)).backend is extra


@alone
async def test_what_is_held_for_a_backend_that_goes_away_is_sent_elsewhere():
    desk = Desk(2, lambda: holding, MAY_HOLD)
    running, (task,) = await held(desk, incoming(1))
    desk.dispatcher.use(desk.backends[1:])
    assert (await soon(task)).backend is desk.backends[1]
    desk.end(running)
    assert desk.loads == [0, 1]


@pytest.mark.parametrize("why", ["unhealthy", "breaker open", "draining"])
@alone
async def test_when_all_are_gone_what_is_held_is_turned_away(why: str):
    desk = Desk(2, lambda: holding, MAY_HOLD)
    _, tasks = await held(desk, incoming(1), incoming(2))
    for backend in desk.backends:
        make_down(backend, why)
    desk.dispatcher.offer()
    for task in tasks:
        with pytest.raises(NoBackend):
            await soon(task)
    assert waiting(desk) == (0, 0)


@alone
async def test_without_backends_what_is_held_is_turned_away():
    desk = Desk(1, lambda: holding, MAY_HOLD)
    _, (task,) = await held(desk, incoming(1))
    desk.dispatcher.use([])
    with pytest.raises(NoBackend):
        await soon(task)


@alone
async def test_a_held_request_that_is_cancelled_leaves_nothing_behind():
    desk = Desk(2, lambda: holding, MAY_HOLD)
    running, tasks = await held(desk, *(incoming(n) for n in range(1, 6)))
    for task in tasks[::2]:
        task.cancel()
    await settled()
    assert waiting(desk) == (2, 2)
    desk.end(running)
    for task in tasks[1::2]:
        desk.end(await soon(task))
    assert waiting(desk) == (0, 0)
    assert desk.loads == [0, 0]


@alone
async def test_one_cancelled_in_the_moment_in_which_it_is_sent_is_taken_back():
    desk = Desk(2, lambda: holding, MAY_HOLD)
    running, (one, two) = await held(desk, incoming(1), incoming(2))
    desk.end(running)  # sends one of them, whose task has not run yet
    sent = next(t for t in (one, two) if t is not None)
    for task in (one, two):
        task.cancel()
    await asyncio.gather(one, two, return_exceptions=True)
    assert sent.cancelled()
    assert desk.loads == [0, 0]
    assert waiting(desk) == (0, 0)
    assert not desk.backends[0].breaker._in_flight


@alone
async def test_one_taken_back_makes_room_for_the_next():
    desk = Desk(2, lambda: holding, MAY_HOLD)
    running, (one, two) = await held(desk, incoming(1), incoming(2))
    desk.end(running)
    one.cancel()
    assert (await soon(two)).sent.request.index == 2
    assert one.cancelled()


@pytest.mark.parametrize("name", ["lookahead_hold", "lmetric", "least_requests", "random"])
@alone
async def test_policies_of_the_package_answer_every_request(name: str):
    desk = Desk(2, lambda: baseline(name, 0), MAY_HOLD)
    running: list[Assignment] = []
    tasks = [desk.ask(n, request=incoming(n, 16 + 200 * n)) for n in range(30)]
    for _ in range(1000):
        await settled()
        running = [t.result() for t in tasks if t.done() and not t.result().sent.settled]
        if not running:
            break
        desk.now += 0.1
        desk.dispatcher.count(running[0], 1)
        desk.end(running[0])
    assert all(task.done() for task in tasks)
    assert (desk.loads, waiting(desk)) == ([0, 0], (0, 0))


# The breaker.


@alone
async def test_a_breaker_opens_after_so_many_failures_and_closes_after_trials():
    settings = quick(breaker={"failures": 3, "successes": 2, "open_s": 10.0})
    desk = Desk(1, settings=settings)
    for _ in range(3):
        desk.end(await desk.route(), False)
    with pytest.raises(NoBackend):
        await desk.route()
    desk.now = 9.9
    with pytest.raises(NoBackend):
        await desk.route()
    desk.now = 10.0
    trials = [await desk.route(), await desk.route()]
    with pytest.raises(NoBackend):  # no more than two at once
        await desk.route()
    for trial in trials:
        desk.end(trial, True)
    assert desk.backends[0].breaker.state(desk.now) == "closed"
    await desk.route()


@alone
async def test_a_trial_that_fails_opens_it_again():
    settings = quick(breaker={"failures": 1, "successes": 2, "open_s": 10.0})
    desk = Desk(1, settings=settings)
    desk.end(await desk.route(), False)
    desk.now = 10.0
    desk.end(await desk.route(), False)
    desk.now = 19.0
    with pytest.raises(NoBackend):
        await desk.route()
    desk.now = 20.0
    await desk.route()
