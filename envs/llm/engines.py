"""The engines of a fleet as Python calls them.

Compiled code takes the address of the state's directory instead of its arrays, which would cost
more to pass than most calls take; plain Python (`NUMBA_DISABLE_JIT=1`) takes the state itself.
"""

from functools import partial

from makespan.envs.core.compiled import JIT, kernel
from makespan.envs.llm import engine
from makespan.envs.llm.prefix_index import match_all
from makespan.envs.llm.state import State, attach, directory


@kernel
def _advance(address, r, now, horizon):
    return engine.advance(attach(address), r, now, horizon)


@kernel
def _send(address, r, q, now, horizon):
    return engine.send(attach(address), r, q, now, horizon)


@kernel
def _reset_engine(address, r):
    engine.reset_engine(attach(address), r)


@kernel
def _read_gauges(address, now):
    engine.read_gauges(attach(address), now)


@kernel
def _count_streaming(address, now):
    engine.count_streaming(attach(address), now)


@kernel
def _match_all(address, q):
    match_all(attach(address), q)


@kernel
def _list_in_flight(address, r, now, rows):
    engine.list_in_flight(attach(address), r, now, rows)


class Engines:
    """The kernels of `makespan.envs.llm.engine`, bound to one state.

    Attributes:
        state: the memory they work on.
        advance(r, now, horizon), send(r, q, now, horizon): return when the alarm of replica `r` is to ring next.
        reset_engine(r), read_gauges(now), count_streaming(now), match_all(q),
        list_in_flight(r, now, rows): see the kernels of the same names.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._directory = directory(state)
        if JIT:
            address = self._directory.ctypes.data
            self.advance = partial(_advance, address)
            self.send = partial(_send, address)
            self.reset_engine = partial(_reset_engine, address)
            self.read_gauges = partial(_read_gauges, address)
            self.count_streaming = partial(_count_streaming, address)
            self.match_all = partial(_match_all, address)
            self.list_in_flight = partial(_list_in_flight, address)
        else:
            self.advance = partial(engine.advance, state)
            self.send = partial(engine.send, state)
            self.reset_engine = partial(engine.reset_engine, state)
            self.read_gauges = partial(engine.read_gauges, state)
            self.count_streaming = partial(engine.count_streaming, state)
            self.match_all = partial(match_all, state)
            self.list_in_flight = partial(engine.list_in_flight, state)
        for r in range(state.replicas.size):
            self.reset_engine(r)
