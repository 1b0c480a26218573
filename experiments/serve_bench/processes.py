"""Processes that end with the block that started them, and the memory and CPU time they take."""

import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

GRACE_S = 5.0
"""Between asking a process to end and ending it."""


@contextmanager
def process(
    command: Sequence[str], said: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads from a pipe and ends, with its own children, when the block does.

    Args:
        command: its arguments.
        said: where all it prints goes; by default stdout is a pipe and stderr is ours.
    """
    running = None
    try:
        with signals_wait():
            running = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=said or subprocess.PIPE,
                stderr=said,
                start_new_session=True,  # a group of its own, which is ended as a whole
            )
        yield running
    finally:
        if running is not None:
            stop(running)


@contextmanager
def signals_wait() -> Iterator[None]:
    """SIGINT and SIGTERM do what they do at the end of the block: none comes between."""
    came: list[tuple[int, FrameType | None]] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {n: signal.signal(n, lambda *signalled: came.append(signalled)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, _ in came:
        signal.raise_signal(number)


def output(command: Sequence[str]) -> bytes:
    """What a command prints on stdout.

    Raises:
        CalledProcessError: it failed.
    """
    with process(command) as running:
        printed, _ = running.communicate()
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, command)
        return printed


def stop(running: subprocess.Popen[bytes]) -> None:
    """Ask the group of the process to end, and end it."""
    try:
        _signal_group(running.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            running.wait(GRACE_S)
    finally:
        _signal_group(running.pid, signal.SIGKILL)
        running.wait()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                pipe.close()


def tree_memory_mb(pid: int) -> float:
    """Resident memory of a process and all its descendants, in MiB; shared pages count in each."""
    return sum(_tree(pid).values()) / 1024


def tree_cpu_s(pid: int) -> float | None:
    """CPU time, user and system, of a process and all its descendants so far; None off Linux."""
    if not Path("/proc/self/stat").exists():
        return None
    return sum(map(_cpu_ticks, _tree(pid))) / os.sysconf("SC_CLK_TCK")


def _tree(pid: int) -> dict[int, int]:
    """A process and all its descendants, and how much of each is resident, in KiB."""
    resident, children = {}, defaultdict(list)
    listed = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid=,rss="], text=True)
    for line in listed.splitlines():
        child, parent, kib = map(int, line.split())
        resident[child] = kib
        children[parent].append(child)
    found, todo = {}, [pid]
    while todo:
        each = todo.pop()
        found[each] = resident.get(each, 0)
        todo += children[each]
    return found


def _cpu_ticks(pid: int) -> int:
    """CPU time of a process with all its threads; 0 for one that has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # What comes before the last parenthesis is the name, which may have spaces.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
