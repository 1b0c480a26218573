"""The engines of a fleet as Python calls them.

Compiled code takes the address of the state's directory instead of its arrays, which would cost
more to pass than most calls take; plain Python (`NUMBA_DISABLE_JIT=1`) takes the state itself.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from makespan.envs.core.compiled import JIT, kernel
from makespan.envs.llm import catch_up, engine, gauges, scheduler
from makespan.envs.llm.prefix_index import match_all
from makespan.envs.llm.state import State, attach, directory


@kernel
def _catch_up(address, until):
    catch_up.catch_up(attach(address), until)


@kernel
def _drain(address):
    return catch_up.drain(attach(address))


@kernel
def _next_finish(address, limit):
    return catch_up.next_finish(attach(address), limit)


@kernel
def _send(address, r, q, now):
    return engine.send(attach(address), r, q, now)


@kernel
def _reset_engine(address, r):
    engine.reset_engine(attach(address), r)


@kernel
def _read_gauges(address, now):
    gauges.read_gauges(attach(address), now)


@kernel
def _forget_gauges(address, r):
    gauges.forget_gauges(attach(address), r)


@kernel
def _count_streaming(address, now):
    engine.count_streaming(attach(address), now)


@kernel
def _match_all(address, q):
    match_all(attach(address), q)


@kernel
def _list_in_flight(address, r, now, rows):
    engine.list_in_flight(attach(address), r, now, rows)


@kernel
def _enqueue(address, r, q, preempted):
    scheduler.enqueue(attach(address), r, q, preempted)


@kernel
def _schedule(address, r):
    scheduler.schedule(attach(address), r)


@kernel
def _complete(address, r, now):
    scheduler.complete(attach(address), r, now)


class Engines:
    """Kernels bound to one state; each takes what the kernel of its name takes after the state.

    Attributes:
        state: the memory they work on.
        catch_up, drain, next_finish: of `makespan.envs.llm.catch_up`.
        send, reset_engine, count_streaming, list_in_flight: of `makespan.envs.llm.engine`.
        read_gauges, forget_gauges: of `makespan.envs.llm.gauges`.
        match_all: of `makespan.envs.llm.prefix_index`.
        enqueue, schedule, complete: of `makespan.envs.llm.scheduler`, to drive one engine step by
            step without a clock.
    """

    catch_up: Callable[[float], None]
    drain: Callable[[], float]
    next_finish: Callable[[float], float]
    send: Callable[[int, int, float], bool]
    reset_engine: Callable[[int], None]
    count_streaming: Callable[[float], None]
    list_in_flight: Callable[[int, float, np.ndarray], None]
    read_gauges: Callable[[float], None]
    forget_gauges: Callable[[int], None]
    match_all: Callable[[int], None]
    enqueue: Callable[[int, int, bool], None]
    schedule: Callable[[int], None]
    complete: Callable[[int, float], None]

    def __init__(self, state: State) -> None:
        self.state = state
        self._directory = directory(state)
        for name, (entry, plain) in ENTRIES.items():
            bound = partial(entry, self._directory.ctypes.data) if JIT else partial(plain, state)
            setattr(self, name, bound)
        for r in range(state.replicas.size):
            self.reset_engine(r)


ENTRIES = {
    "catch_up": (_catch_up, catch_up.catch_up),
    "drain": (_drain, catch_up.drain),
    "next_finish": (_next_finish, catch_up.next_finish),
    "send": (_send, engine.send),
    "reset_engine": (_reset_engine, engine.reset_engine),
    "count_streaming": (_count_streaming, engine.count_streaming),
    "list_in_flight": (_list_in_flight, engine.list_in_flight),
    "read_gauges": (_read_gauges, gauges.read_gauges),
    "forget_gauges": (_forget_gauges, gauges.forget_gauges),
    "match_all": (_match_all, match_all),
    "enqueue": (_enqueue, scheduler.enqueue),
    "schedule": (_schedule, scheduler.schedule),
    "complete": (_complete, scheduler.complete),
}
"""Name -> the entry point by address, and the kernel itself for plain Python."""
