"""`makespan serve`: command lines that are refused, and the process from its start to its end."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import aiohttp
import pytest
from fault_backends import (
    COMPLETIONS,
    Call,
    Gate,
    Server,
    alone,
    answer_of,
    body_of,
    events_of,
    good,
    saying,
    servers,
    silent,
    whole,
)

from makespan.agents.serve.config import Keys
from makespan.agents.serve.record import read_log
from makespan.envs.llm.config import ReplicaConfig
from makespan.experiments import serve as module
from makespan.experiments.serve import (
    KEYS,
    ServeConfig,
    backends_of,
    main,
    makers,
    warn_of_strangers,
)

PATIENCE_S = 30.0
"""How long is waited for what must come; the machine may be busy."""

POLL_S = 0.01


@pytest.fixture(autouse=True)
def no_router_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """None starts in the process of the tests, where nobody would end it."""

    def refuse(*_: object) -> None:
        raise AssertionError("a router was started")

    monkeypatch.setattr("makespan.agents.serve.server.server", refuse)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have some."""
    for variable in KEYS.values():
        monkeypatch.delenv(variable, raising=False)


# What is refused.

A, B = "--backend=http://127.0.0.1:9", "--backend=http://127.0.0.1:10"

REFUSED = {
    "an unknown policy": ([A, "--policy=lmetrik"], "'lmetrik'. Did you mean 'lmetric'"),
    "an unknown shadow": ([A, "--shadow=randm"], "'randm'. Did you mean 'random'"),
    "a policy that is a file": ([A, "--policy=mine.py"], "mine.py: a router executes no policy"),
    "a policy in a file": ([A, "--policy=mine.py:best"], "mine.py:best: a router executes no"),
    "a shadow that is a file": ([A, "--shadow=./mine.py"], "./mine.py: a router executes no"),
    "a folder without an agent": ([A, "--policy=."], ".: no agent here"),
    "a policy for more": ([A, B, "--policy=guided_dqn"], "guided_dqn routes for 4 backends, not"),
    "a shadow for more": (
        [A, "--shadow=guided_dqn"],
        "guided_dqn routes for 4 backends, not for 1",
    ),
    "no URL": (["--backend=127.0.0.1:9"], "'127.0.0.1:9' is no URL"),
    "a URL twice": ([A, f"{A}/"], "http://127.0.0.1:9 is named twice"),
    "unknown hardware": (
        [A, "--hardware=A10000"],
        "unknown hardware 'A10000'. Did you mean 'A100'",
    ),
    "an unknown model": ([A, "--model=Lama"], "Lama"),
    "no tokenizer": ([A, "--tokenizer=none.json"], "none.json is no tokenizer.json: No such file"),
    "another tokenizer": ([A, "--tokenizer=junk"], "junk is no tokenizer.json"),
    "no backends file": (["--backends-file=none.toml"], "backends file none.toml: No such file"),
    "a bad backends file": (["--backends-file=junk"], "backends file junk: "),
    "no place for the log": ([A, "--log=none/log"], "the log none/log cannot be written: No such"),
    "no log of a report": (["report", "none.jsonl"], "none.jsonl: cannot be read"),
}
"""What is found out by the command -> the line, and what must be said of it."""

BY_TYRO = {
    "no backend": ([], "either by --backend or by --backends-file"),
    "two kinds of backends": ([A, "--backends-file=junk"], "either by --backend or by"),
    "a port that there is not": ([A, "--port=65536"], "port must be from 0 to 65535, not 65536"),
    "a negative port": ([A, "--port=-1"], "port must be from 0 to 65535, not -1"),
    "the policy as its shadow": (
        [A, "--policy=random", "--shadow=random"],
        "'random' is named twice",
    ),
    "the default as its shadow": ([A, "--shadow=lmetric"], "policy 'lmetric' is named twice"),
    "a shadow twice": ([A, "--shadow=agent", "--shadow=agent"], "policy 'agent' is named twice"),
    "no attempts": ([A, "--retry.attempts=0"], "attempts must be positive, not 0"),
    "a drain without end": ([A, "--timeouts.drain-s=inf"], "drain_s must be finite, not inf"),
    "no patience": ([A, "--timeouts.idle-s=-1"], "idle_s must be positive, not -1"),
    "no words": ([A, "--port=eighty"], "--port"),
    "no such option": ([A, "--prot=80"], "--prot"),
}
"""What is found out while the configuration is made."""


def status_of(arguments: list[str]) -> object:
    """The exit status, however the command ends."""
    try:
        return main(arguments)
    except SystemExit as exit_:
        return exit_.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for a file that is nothing, to be in."""
    (tmp_path / "junk").write_text("junk")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("bad", REFUSED)
def test_a_command_line_that_cannot_be_is_refused_in_one_line(
    bad: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    arguments, named = REFUSED[bad]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert named in said.err
    assert said.err.count("\n") == 1
    assert os.listdir(folder) == ["junk"]  # nothing was begun


@pytest.mark.parametrize("bad", BY_TYRO)
def test_a_configuration_that_cannot_be_is_refused(
    bad: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    arguments, named = BY_TYRO[bad]
    assert status_of(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    # tyro draws a frame, and breaks lines in it.
    assert named in " ".join(re.sub("[─│╭╮╰╯]", " ", said.err).split())
    assert "Traceback" not in said.err
    assert os.listdir(folder) == ["junk"]


def test_a_tokenizer_without_its_package_is_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert main([A, "--tokenizer=junk"]) == 2
    assert 'pip install "makespan[serve]"' in capsys.readouterr().err


def test_packages_that_only_serving_takes_are_named_where_they_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(module, "EXTRA", (*module.EXTRA, "no_such_package"))
    assert main([A]) == 2
    error = 'error: serving takes more packages: pip install "makespan[serve]"\n'
    assert capsys.readouterr().err == error


def test_help_names_the_secrets(capsys: pytest.CaptureFixture[str]):
    assert status_of(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("--backend", "--policy", "--log", *KEYS.values()))


def test_the_command_line_is_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["makespan serve", A, "--policy=mine.py"])
    assert main() == 2
    assert "mine.py" in capsys.readouterr().err


# What a command line means.


def test_every_backend_of_the_command_line_is_on_its_hardware():
    config = ServeConfig(backend=("http://a:1/", "http://b:2"), hardware="H100", model="Llama-3-8B")
    found = [(backend.url, backend.replica) for backend in backends_of(config)]
    replica = ReplicaConfig("H100", "Llama-3-8B")
    assert found == [("http://a:1", replica), ("http://b:2", replica)]


def test_the_policy_comes_before_its_shadows_and_each_is_made_anew():
    config = ServeConfig(backend=("http://a",), policy="round_robin", shadow=("random", "agent"))
    made = makers(config, 1)
    assert list(made) == ["round_robin", "random", "agent"]
    for make in made.values():
        assert make() is not make()


@pytest.mark.parametrize("name", ["lmetric", "agent"])
def test_most_policies_route_for_any_number(name: str):
    for backends in (0, 1, 7):
        assert name in makers(ServeConfig(backend=("http://a",), policy=name), backends)


def test_a_policy_for_four_routes_for_four():
    assert "guided_dqn" in makers(ServeConfig(backend=("http://a",), policy="guided_dqn"), 4)


def test_there_is_a_variable_for_every_secret():
    assert set(KEYS) == {field.name for field in fields(Keys)}


@pytest.mark.parametrize(
    ("host", "key", "warned"),
    [
        ("0.0.0.0", "", True),
        ("10.0.0.1", "", True),
        ("::", "", True),
        ("0.0.0.0", "secret", False),
        ("127.0.0.1", "", False),
        ("localhost", "", False),
        ("::1", "", False),
    ],
)
def test_who_lets_everybody_in_is_told(
    host: str, key: str, warned: bool, capsys: pytest.CaptureFixture[str]
):
    warn_of_strangers(host, Keys(client=key))
    line = f"warning: {host} lets others in, and no MAKESPAN_API_KEY is set\n"
    assert capsys.readouterr().err == (line if warned else "")


# The process.


@dataclass
class Running:
    """A router that runs as a process of its own.

    Attributes:
        url: where it says that it is; empty before it does.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    url: str = ""

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    @property
    def accesses(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "accesses").read_text().splitlines()]

    def served(self, name: str = "served.jsonl") -> list[str]:
        """Outcomes in a log."""
        return [row.outcome for row in read_log(self.folder / name)]

    def is_over(self) -> bool:
        return self.process.poll() is not None

    def takes_connections(self) -> bool:
        host, port = self.url.removeprefix("http://").split(":")
        with socket.socket() as one:
            return one.connect_ex((host, int(port))) == 0

    async def ended(self) -> int:
        """Its exit status, after an end in good order."""
        await until(self.is_over, "the router ends")
        assert "ERROR" not in self.said
        assert "Traceback" not in self.said
        return self.process.returncode


async def until(holds: Callable[[], object], what: str) -> None:
    """Return as soon as it holds."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"waited in vain until {what}") from None


@asynccontextmanager
async def started(folder: Path, *arguments: str) -> AsyncIterator[Running]:
    """The command, whose process does not outlive the test."""
    command = [str(Path(sys.executable).with_name("makespan")), "serve", *arguments]
    with (folder / "said").open("w") as said, (folder / "accesses").open("w") as accesses:
        process = subprocess.Popen(command, stdout=accesses, stderr=said, cwd=folder)
    try:
        yield Running(process, folder)
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def routing(folder: Path, server: Server, *more: str) -> AsyncIterator[Running]:
    """The command in front of a server, once it takes requests."""
    options = (f"--backend={server.url}", "--port=0", "--log=served.jsonl", *more)
    async with started(folder, *options) as router:

        def tells_its_url() -> bool:
            found = re.search(r"makespan serves lmetric at (http://\S+)", router.said)
            router.url = found[1] if found else ""
            return bool(found) or router.is_over()

        await until(tells_its_url, "the router says where it is")
        assert router.url, f"the router does not start; it said:\n{router.said}"
        yield router


@asynccontextmanager
async def client(**headers: str) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
        yield http


async def ask(
    http: aiohttp.ClientSession, router: Running, stream: bool = False
) -> tuple[int, bytes]:
    async with http.post(router.url + COMPLETIONS, data=body_of(COMPLETIONS, stream)) as answer:
        return answer.status, await answer.read()


WHOLE = (200, answer_of(COMPLETIONS))
STREAMED = (200, b"".join(events_of(COMPLETIONS)))

both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def listing(*models: str) -> bytes:
    return whole(json.dumps({"data": [{"id": model} for model in models]}).encode())


@both_signals
@alone
async def test_requests_are_routed_until_it_is_told_to_stop(number: signal.Signals, tmp_path: Path):
    server = Server(models=saying(listing("m"), keep=True))
    async with servers(server), routing(tmp_path, server) as router, client() as http:
        async with http.post(router.url + COMPLETIONS, data=body_of(COMPLETIONS)) as answer:
            assert (answer.status, await answer.read()) == WHOLE
            assert answer.headers["x-makespan-backend"] == server.url
        assert await ask(http, router, stream=True) == STREAMED
        async with http.get(f"{router.url}/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["m"]
        # The connection of the client is idle, and not waited for.
        router.process.send_signal(number)
        assert await router.ended() == 0
        assert router.served() == ["finished", "finished"]
        lines = [(line["endpoint"], line["status"], line["backend"]) for line in router.accesses]
        assert lines == [(COMPLETIONS, 200, server.url)] * 2


@both_signals
@alone
async def test_what_is_in_flight_is_answered_before_the_process_ends(
    number: signal.Signals, tmp_path: Path
):
    gate = Gate()

    async def waits(call: Call) -> None:
        if call.streams:
            await gate(call)
        else:
            await gate.open.wait()
            await good(call)

    async with (
        servers(waits) as (server,),
        routing(tmp_path, server) as router,
        client() as http,
    ):
        asked = [asyncio.create_task(ask(http, router, stream)) for stream in (True, False)]
        await until(lambda: len(server.calls) == 2, "both requests are at the server")
        router.process.send_signal(number)
        await until(lambda: not router.takes_connections(), "no more connections are taken")
        assert not router.is_over()
        assert not any(task.done() for task in asked)
        gate.open.set()
        assert await asyncio.gather(*asked) == [STREAMED, WHOLE]
        assert await router.ended() == 0
        assert router.served() == ["finished", "finished"]


@alone
async def test_a_log_that_was_moved_away_is_begun_anew(tmp_path: Path):
    async with (
        servers(good) as (server,),
        routing(tmp_path, server) as router,
        client() as http,
    ):
        assert await ask(http, router) == WHOLE
        log, moved = tmp_path / "served.jsonl", tmp_path / "served.jsonl.1"
        log.rename(moved)
        assert await ask(http, router) == WHOLE
        await until(lambda: len(router.served(moved.name)) == 2, "the moved log goes on")
        assert not log.exists()
        router.process.send_signal(signal.SIGHUP)
        await until(log.exists, "there is a new log")
        assert await ask(http, router, stream=True) == STREAMED
        router.process.terminate()
        assert await router.ended() == 0
        assert router.served(moved.name) == ["finished", "finished"]
        assert router.served() == ["finished"]


@alone
async def test_secrets_are_taken_from_the_environment_and_said_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    secrets = {name: f"{name}-swordfish" for name in KEYS}
    for name, variable in KEYS.items():
        monkeypatch.setenv(variable, secrets[name])
    async with servers(good) as (server,), routing(tmp_path, server) as router:
        async with client() as http:
            status, body = await ask(http, router)
            assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
        async with client(authorization=f"Bearer {secrets['client']}") as http:
            assert await ask(http, router) == WHOLE
        async with (
            client(authorization=f"Bearer {secrets['admin']}") as http,
            http.get(f"{router.url}/admin/backends") as answer,
        ):
            assert await answer.json() == {"backends": [server.url]}
        assert server.calls[0].headers["authorization"] == f"Bearer {secrets['backend']}"
        router.process.terminate()
        assert await router.ended() == 0
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert len(written) == 3
    assert "swordfish" not in "".join(written)


@alone
async def test_a_port_that_is_taken_is_named_in_one_line(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with started(tmp_path, A, f"--port={port}") as router:
            await until(router.is_over, "the router gives up")
            assert router.process.returncode > 0
            (line,) = router.said.splitlines()
            assert "address already in use" in line
            assert str(port) in line
            assert router.accesses == []


@alone
async def test_what_is_cut_at_the_end_of_the_drain_is_told_in_the_form_of_other_errors(
    tmp_path: Path,
):
    async with (
        servers(silent) as (server,),
        routing(tmp_path, server, "--timeouts.drain-s=1") as router,
        client() as http,
    ):
        asked = asyncio.create_task(ask(http, router))
        await until(lambda: server.calls, "the request is at the server")
        router.process.terminate()
        status, body = await asked
        assert status == 503
        assert json.loads(body)["error"]["message"] == "the router stops; try again"
        await until(router.is_over, "the router ends")
        assert router.process.returncode == 0
        assert "Traceback" not in router.said
