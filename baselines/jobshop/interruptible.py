"""CP-SAT that Ctrl-C stops as it stops any other Python code."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any


def solve_interruptibly(solver: Any, model: Any, callback: Any) -> Any:
    """`solver.solve(model, callback)`, its status code.

    Left alone, CP-SAT takes an interrupt for the end of its time, so that nobody can tell what was
    cut short, and restores no handler afterwards: the next interrupt kills Python. Here the solver
    has a thread of its own, and the caller's waits, which an interrupt may end.

    Raises:
        KeyboardInterrupt: as everywhere else; the search has been stopped.
    """
    solver.parameters.catch_sigint_signal = False
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(solver.solve, model, callback)
        try:
            return running.result()
        except KeyboardInterrupt:
            solver.stop_search()
            raise
