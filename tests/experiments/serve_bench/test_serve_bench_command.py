"""`makespan bench serve`, with a stand-in for a router of others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from makespan.experiments.serve_bench import command, systems

FORWARDER = """
import argparse, asyncio, itertools, sys

async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()

async def main(arguments):
    workers = itertools.cycle(arguments.worker_urls)

    async def forward(reader, writer):
        host, port = next(workers).removeprefix("http://").split(":")
        there, back = (await asyncio.open_connection(host, int(port)))[::-1]
        await asyncio.gather(copy(reader, there), copy(back, writer), return_exceptions=True)

    async with await asyncio.start_server(forward, arguments.host, arguments.port) as server:
        await server.serve_forever()

parser = argparse.ArgumentParser()
for option in ("host", "policy", "log-level"):
    parser.add_argument("--" + option, required=True)
for option in ("port", "prometheus-port"):
    parser.add_argument("--" + option, type=int, required=True)
parser.add_argument("--worker-urls", nargs="+")
asyncio.run(main(parser.parse_args()))
"""

REFUSER = """
import http.server, itertools, sys

turns = itertools.count()

class Refuser(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503 if next(turns) else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Refuser).serve_forever()
"""
"""Answers the first request, hence counts as started, and refuses all others."""

BROKEN = """
import sys
print("reading the configuration")
sys.exit(" ".join(["no library:", sys.argv[1]]))
"""

SILENT = """
import os, pathlib, time
pathlib.Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
time.sleep(60)
"""

RUN = """
import signal, sys
from makespan.experiments.serve_bench import command, systems
systems.MAKESPAN_POLICIES = ()
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(command.main(sys.argv[1:]))
"""


def install(folder: Path, **programs: str) -> Path:
    """An environment with these programs; underscores stand for hyphens."""
    (folder / "bin").mkdir()
    for name, code in programs.items():
        program = folder / "bin" / name.replace("_", "-")
        program.write_text(f"#!{sys.executable}\n{code}")
        program.chmod(0o755)
    return folder


def children(pid):
    listed = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid="], text=True)
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What the command measures of the real router and of the stand-ins."""
    peers = install(tmp_path_factory.mktemp("peers"), vllm_router=FORWARDER, sglang_router=BROKEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systems, "MAKESPAN_POLICIES", ("round_robin",))
        patch.setattr(systems, "PEER_POLICIES", ("round_robin", "cache_aware"))
        return command.measured(command.ServeBenchConfig(peers=peers, quick=True))


def test_everything_that_starts_is_measured(outcome):
    routers = ["makespan round_robin", "vllm-router round_robin", "vllm-router cache_aware"]
    assert list(outcome["systems"]) == ["direct", *routers]
    for result in outcome["systems"].values():
        (measured,) = result["rounds"]
        assert measured["errors"] == {}
        assert measured["requests_per_s"] == max(measured["requests_per_s_at"].values())
        assert measured["chunks_per_s"] == max(measured["chunks_per_s_at"].values())
        assert 0 < measured["client_busy"] < 1.2
        assert all(measured[f"{what}_p99_ms"] > 0 for what in ("answer", "first_chunk", "chunk"))


def test_memory_is_that_of_routers_after_so_many_requests(outcome):
    memory = {name: found["rounds"][0]["memory_mb"] for name, found in outcome["systems"].items()}
    assert memory.pop("direct") == []
    for marks in memory.values():
        assert [asked for asked, _ in marks] == [0, 20, 40]
        assert all(mb > 5 for _, mb in marks)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cpu_time_is_that_of_routers_for_each_request_and_chunk(outcome):
    rounds = {name: found["rounds"][0] for name, found in outcome["systems"].items()}
    direct = rounds.pop("direct")
    assert direct["cpu_us_per_request"] is direct["cpu_us_per_chunk"] is None
    for figures in rounds.values():
        for what in ("request", "chunk"):
            assert figures[f"cpu_us_per_{what}_at"] == {2: figures[f"cpu_us_per_{what}"]}
            assert 0 <= figures[f"cpu_us_per_{what}"] < 100_000  # 0: less than a tick of 10 ms
    assert rounds["makespan round_robin"]["cpu_us_per_request"] > 1


def test_who_does_not_start_is_left_out_with_the_reason(outcome):
    assert outcome["left_out"] == {
        f"sglang-router {policy}": "no library: launch" for policy in ("round_robin", "cache_aware")
    }


def test_the_commands_are_told(outcome):
    told = outcome["systems"]["vllm-router cache_aware"]["command"]
    assert told[told.index("--policy") + 1] == "cache_aware"
    assert len([word for word in told if word.startswith("http://127.0.0.1:")]) == 4


def test_our_router_is_as_silent_as_the_others(outcome):
    told = outcome["systems"]["makespan round_robin"]["command"]
    assert told[told.index("--access-log") + 1] == "off"


def test_without_peers_they_are_named():
    found, left_out = systems.systems(None)
    assert [system.name.split()[0] for system in found] == ["direct"] + ["makespan"] * 3
    assert set(left_out) == {"vllm-router", "sglang-router"}


def test_peers_that_are_not_installed_are_named(tmp_path):
    _, left_out = systems.systems(install(tmp_path, vllm_router=FORWARDER))
    assert list(left_out) == ["sglang-router"]
    assert str(tmp_path) in left_out["sglang-router"]


def test_versions_are_those_of_the_environment(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (packages / "vllm_router-0.1.17.dist-info").mkdir(parents=True)
    assert systems.version_of("vllm-router", tmp_path) == "0.1.17"
    assert systems.version_of("sglang-router", tmp_path) == ""


def test_our_own_router_must_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(systems, "MAKESPAN_POLICIES", ("no_such_policy",))
    assert command.main(["--quick", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert "no_such_policy" in printed["left_out"]["makespan no_such_policy"]
    assert list(printed["systems"]) == ["direct"]


def test_requests_that_fail_are_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(systems, "MAKESPAN_POLICIES", ())
    monkeypatch.setattr(systems, "PEER_POLICIES", ("round_robin",))
    peers = install(tmp_path, vllm_router=REFUSER)
    assert command.main(["--quick", "--peers", str(peers)]) == 1
    printed = capsys.readouterr()
    row = [line for line in printed.out.splitlines() if line.startswith("vllm-router")][-1]
    failed = row.split()[-1]
    error = f"error: requests failed: {failed} at vllm-router round_robin (status 503)"
    assert [line for line in printed.err.splitlines() if "error" in line] == [error]


def test_failures_are_counted_by_system_over_all_rounds():
    rounds = [{"errors": {"status 503": 2_000}}, {"errors": {"no answer": 1, "status 503": 1}}]
    found = {"direct": {"rounds": [{"errors": {}}]}, "router": {"rounds": rounds}}
    assert command.failures(found) == "2,002 at router (status 503; no answer)"
    assert command.failures({"direct": found["direct"]}) == ""


def test_tables_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(systems, "MAKESPAN_POLICIES", ())
    assert command.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert "At saturation" in printed
    assert "left out: vllm-router" in printed


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_stops_servers_and_client(number, status):
    with subprocess.Popen([sys.executable, "-c", RUN], stderr=subprocess.PIPE) as bench:
        started = wait_for(lambda: found if len(found := children(bench.pid)) == 2 else None)
        bench.send_signal(number)
        _, said = bench.communicate(timeout=60)
    assert bench.returncode == status
    assert b"Traceback" not in said
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_signal_stops_a_router(tmp_path):
    peers = install(tmp_path, vllm_router=SILENT)
    told = peers / "bin" / "vllm-router.pid"
    arguments = ["--quick", "--peers", str(peers)]
    with subprocess.Popen([sys.executable, "-c", RUN, *arguments]) as bench:
        router = int(wait_for(lambda: told.exists() and told.read_text()))
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(router, 0)


def test_numbers_must_be_positive(capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(["--repeats", "0"])
    assert exit_.value.code == 2
    assert "--repeats must be at least 1" in capsys.readouterr().err
