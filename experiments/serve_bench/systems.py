"""The routers that are compared, and how each is started and known to be ready."""

import http.client
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from makespan.experiments.serve_bench.fake_backend import MODEL
from makespan.experiments.serve_bench.processes import process, tree_cpu_s, tree_memory_mb

MAKESPAN_POLICIES = ("round_robin", "lmetric", "agent")
PEER_POLICIES = ("round_robin", "cache_aware")

PEERS = {"vllm-router": (), "sglang-router": ("launch",)}
"""Distribution on PyPI, and name of its command -> the first arguments."""

START_TIMEOUT_S = 120.0
"""Until a router must answer; the first start of makespan compiles kernels."""

MAKESPAN = "import sys; from makespan.experiments.cli import main; sys.exit(main())"


class NotStarted(RuntimeError):
    """A router does not answer; the message says what it said."""


@dataclass(frozen=True)
class System:
    """Something that answers requests.

    Attributes:
        name: unique.
        command: arguments that start it, given its port, a port to spare and the backends; None
            for the backends themselves.
        version: of the package.
    """

    name: str
    command: Callable[[int, int, Sequence[str]], list[str]] | None = None
    version: str = ""


@dataclass(frozen=True)
class Running:
    """A system that answers.

    Attributes:
        urls: where.
        pid: of its first process; None for the backends themselves.
        command: how it was started.
    """

    urls: Sequence[str]
    pid: int | None = None
    command: Sequence[str] = field(default=())

    def memory_mb(self) -> float | None:
        """Resident memory of its processes, in MiB."""
        return None if self.pid is None else tree_memory_mb(self.pid)

    def cpu_s(self) -> float | None:
        """CPU time of its processes so far."""
        return None if self.pid is None else tree_cpu_s(self.pid)


def systems(peers: Path | None) -> tuple[list[System], dict[str, str]]:
    """What is compared, and why the others are left out, by name.

    Args:
        peers: environment in which they are installed.
    """
    found, left_out = [System("direct")], {}
    found += [System(f"makespan {policy}", _makespan(policy)) for policy in MAKESPAN_POLICIES]
    for peer in PEERS:
        if peers is None:
            left_out[peer] = "--peers names no environment that has it"
        elif not (script := peers / "bin" / peer).exists():
            left_out[peer] = f"not installed: there is no {script}"
        else:
            version = version_of(peer, peers)
            found += [
                System(f"{peer} {policy}", _peer(peer, script, policy), version)
                for policy in PEER_POLICIES
            ]
    return found, left_out


def version_of(distribution: str, environment: Path) -> str:
    """The version of what is installed there; empty if that is not to be seen."""
    name = distribution.replace("-", "_")
    found = environment.glob(f"lib/python*/site-packages/{name}-*.dist-info")
    return next((path.name.split("-")[1].removesuffix(".dist") for path in found), "")


@contextmanager
def started(system: System, backends: Sequence[str]) -> Iterator[Running]:
    """Start it in front of `backends`, and stop it in the end.

    Raises:
        NotStarted: it ended, or did not answer a chat in time.
    """
    if system.command is None:
        yield Running(backends)
        return
    port, spare = free_ports(2)
    command = system.command(port, spare, backends)
    with tempfile.TemporaryFile() as said, process(command, said) as router:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (why := refusal(port)) is not None:
            if router.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(_last_words(said) or why)
            time.sleep(0.05)
        yield Running((f"http://127.0.0.1:{port}",), router.pid, command)


@contextmanager
def fake_backends(count: int) -> Iterator[list[str]]:
    """Fake servers, all in one process; their URLs.

    Raises:
        OSError: they ended at once.
    """
    module = "makespan.experiments.serve_bench.fake_backend"
    with process([sys.executable, "-m", module, str(count)]) as server:
        line = server.stdout.readline() if server.stdout else b""
        if not line:
            raise ChildProcessError("the fake servers ended at once")
        yield [f"http://127.0.0.1:{port}" for port in json.loads(line)]


def refusal(port: int) -> str | None:
    """Why a chat is not answered at this port; None if it is."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), kind)
        answer = connection.getresponse()
        text = answer.read(300).decode(errors="replace")
        return None if answer.status == 200 else f"status {answer.status}: {text}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _makespan(policy: str) -> Callable[[int, int, Sequence[str]], list[str]]:
    def command(port: int, _: int, backends: Sequence[str]) -> list[str]:
        options = [word for url in backends for word in ("--backend", url)]
        # The others are as silent.
        options += ["--policy", policy, "--port", str(port), "--access-log", "off"]
        return [sys.executable, "-c", MAKESPAN, "serve", *options]

    return command


def _peer(peer: str, script: Path, policy: str) -> Callable[[int, int, Sequence[str]], list[str]]:
    def command(port: int, spare: int, backends: Sequence[str]) -> list[str]:
        options = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(spare)]
        # Of the levels that both know, the only one at which vllm-router is silent.
        options += ["--policy", policy, "--log-level", "error"]
        return [str(script), *PEERS[peer], *options, "--worker-urls", *backends]

    return command


def _last_words(said: Any) -> str:
    """The last line of what a process printed."""
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
