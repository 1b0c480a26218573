"""Ctrl-C while CP-SAT searches, and after it has."""

import os
import signal
import threading
import time

import pytest

from makespan.baselines.jobshop.exact import solve
from makespan.traces.jobshop import benchmark

pytest.importorskip("ortools")


@pytest.fixture(autouse=True)
def heard():
    """Interrupts are heard, also where what started the tests ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_search_at_once_and_is_not_swallowed():
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    began_s = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        solve(benchmark("ta21"), limit_s=300)
    timer.join()
    assert time.monotonic() - began_s < 100


def test_python_still_hears_interrupts_afterwards():
    solve(benchmark("ft06"), limit_s=10)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  until the signal is delivered
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
