"""Processes end with their block, and their memory and CPU time are those of the whole tree."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from makespan.experiments.serve_bench import processes
from makespan.experiments.serve_bench.processes import output, process, tree_cpu_s, tree_memory_mb

# Parent and child write to one pipe, each line at once: `print` alone may write its end separately.
CHILD = "import os, sys; text = b'x' * (60 << 20); os.write(1, b'ready\\n'); sys.stdin.read()"
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE)
os.write(1, b"%d\\n" % child.pid)
child.wait()
"""
BUSY_CHILD = """
import os, time
while time.process_time() < 0.3: pass
os.write(1, b"ready\\n")
input()
"""
BUSY = f"""
import os, subprocess, sys, threading, time
child = subprocess.Popen([{sys.executable!r}, "-c", {BUSY_CHILD!r}], stdin=subprocess.PIPE)
def work():
    while time.thread_time() < 0.3: pass
thread = threading.Thread(target=work)
thread.start()
thread.join()
os.write(1, b"%d\\n" % child.pid)
child.wait()
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def is_there(pid):
    """Whether a process runs; one that ended and that nobody asked about does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def ends(pid):
    """Whether a process that was killed is gone soon: giving memory back takes a while."""
    deadline = time.monotonic() + 10
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_there(pid)


def test_memory_is_that_of_all_descendants_which_end_too():
    with process([sys.executable, "-c", PARENT]) as parent:
        assert parent.stdout is not None
        lines = sorted(parent.stdout.readline().decode().strip() for _ in range(2))
        child = int(lines[0])
        assert lines[1] == "ready"
        both, alone = tree_memory_mb(parent.pid), tree_memory_mb(child)
        assert both > alone > 60
        assert is_there(child)
    assert ends(child)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cpu_time_is_that_of_all_threads_and_descendants(tmp_path):
    odd_name = tmp_path / "a) b 1"
    odd_name.symlink_to(sys.executable)
    with process([str(odd_name), "-c", BUSY]) as parent:
        assert parent.stdout is not None
        child = int(min(parent.stdout.readline() for _ in range(2)))
        both, alone = tree_cpu_s(parent.pid), tree_cpu_s(child)
    assert both is not None
    assert alone is not None
    assert alone > 0.25
    assert both - alone > 0.25
    assert tree_cpu_s(parent.pid) == 0  # it has ended


def test_cpu_time_is_not_known_without_proc(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert tree_cpu_s(os.getpid()) is None


def test_who_does_not_listen_is_ended(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_S", 0.05)
    with process([sys.executable, "-c", DEAF]) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
    assert deaf.returncode == -9


def test_an_exception_ends_the_process():
    running = []

    def fail():
        with process([sys.executable, "-c", CHILD]) as child:
            running.append(child)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert running[0].returncode == -15
    with pytest.raises(ProcessLookupError):
        os.kill(running[0].pid, 0)


def test_a_signal_that_comes_while_a_process_starts_ends_it(monkeypatch):
    running = []

    def popen(*arguments, **options):
        running.append(start(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return running[0]

    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            output([sys.executable, "-c", CHILD])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert running[0].returncode == -15


def test_output_is_what_a_command_prints():
    assert output([sys.executable, "-c", "print('yes')"]) == b"yes\n"
    with pytest.raises(subprocess.CalledProcessError):
        output([sys.executable, "-c", "raise SystemExit(3)"])
