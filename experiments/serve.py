"""`makespan serve`: a policy in front of real servers; `makespan serve report`: what it did."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from makespan.agents.llm.named import named, only_size
from makespan.agents.serve.backends_file import BackendsFile
from makespan.agents.serve.config import BackendConfig, Keys, RouterConfig
from makespan.envs.core.contract import Policy
from makespan.envs.llm.config import ReplicaConfig

if TYPE_CHECKING:
    from makespan.agents.serve.server import Server

KEYS = {
    "client": "MAKESPAN_API_KEY",
    "admin": "MAKESPAN_ADMIN_KEY",
    "backend": "MAKESPAN_BACKEND_KEY",
}
"""Secrets -> environment variables that hold them."""

EXTRA = ("httptools", "starlette", "uvicorn")
"""Packages that only this command takes."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeConfig:
    """Route an OpenAI-compatible API to several servers.

    Secrets come from the environment: MAKESPAN_API_KEY is asked of clients, MAKESPAN_ADMIN_KEY
    opens /admin/backends, MAKESPAN_BACKEND_KEY is sent to backends.

    Attributes:
        backend: URL of a server; once for each.
        backends_file: TOML file that lists the servers instead, and is read again when it changes.
        hardware: of the servers, as for `makespan run`: a name, or a file by `makespan calibrate`.
        model: that they serve, for step times; empty: what the hardware was measured with.
        policy: name of a router policy or an agent, or the folder of one.
        shadow: another policy whose choices are logged beside those taken; once for each.
        host: address to listen on. Others than the loopback let others in.
        port: to listen on; 0: any free one.
        log: JSON Lines file with every request that was served; it is a trace for `makespan run`.
        tokenizer: `tokenizer.json` of the model; without it tokens are estimated from characters.
        access_log: write a line of JSON for every request to stdout.
        router: everything else.
    """

    backend: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    backends_file: Path | None = None
    hardware: str = "A100"
    model: str = ""
    policy: str = "lmetric"
    shadow: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    log: Path | None = None
    tokenizer: Path | None = None
    access_log: Literal["json", "off"] = "json"
    router: Annotated[RouterConfig, tyro.conf.arg(name="")] = field(default_factory=RouterConfig)

    def __post_init__(self) -> None:
        if bool(self.backend) == (self.backends_file is not None):
            raise ValueError("give the servers either by --backend or by --backends-file")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must be from 0 to 65535, not {self.port}")
        names = (self.policy, *self.shadow)
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"policy {repeated[0]!r} is named twice")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, or 2 for bad input.

    Raises:
        SystemExit: by uvicorn, with 3, where it cannot listen on its address.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["report"]:
        from makespan.experiments.serve_report import main as report

        return report(arguments[1:])
    try:
        # tyro makes the configuration, whose checks may fail.
        config = tyro.cli(ServeConfig, args=arguments, prog="makespan serve")
        return serve(config)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def serve(config: ServeConfig) -> int:
    """Serve until the process is told to stop; the exit status.

    Raises:
        ValueError: the configuration names something that is not there.
    """
    if not all(map(find_spec, EXTRA)):
        raise ValueError('serving takes more packages: pip install "makespan[serve]"')
    # uvicorn and starlette: only now, since other commands do without.
    from makespan.agents.serve.record import Log
    from makespan.agents.serve.router import Router, log_access_to
    from makespan.agents.serve.server import server

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # Secrets that are mounted as files often end in a line end.
    keys = Keys(**{name: os.environ.get(var, "").strip() for name, var in KEYS.items()})
    file = BackendsFile(config.backends_file) if config.backends_file else None
    backends = file.read() if file else backends_of(config)
    router = Router(
        backends=backends,
        policies=makers(config, len(backends)),
        settings=config.router,
        keys=keys,
        log=Log(config.log) if config.log else None,
        tokenizer=config.tokenizer,
        backends_file=file,
    )
    if config.access_log == "json":
        log_access_to(sys.stdout)
    if hasattr(signal, "SIGHUP"):  # as logrotate sends it
        signal.signal(signal.SIGHUP, lambda *_: router.reopen_log())
    warn_of_strangers(config.host, keys)
    running = server(router, config.host, config.port, lambda url: begin(url, config))
    stop_by_signal(running)
    running.run()
    return 0 if running.started else 1


def stop_by_signal(running: "Server") -> None:
    """Let SIGTERM and Ctrl-C end the process with status 0, once what is in flight is answered.

    While it runs uvicorn has handlers of its own. It raises the signal again when all is done, and
    by default that would end the process as if it had been killed.
    """

    def stop(*_: object) -> None:
        running.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def backends_of(config: ServeConfig) -> list[BackendConfig]:
    """What the command line names."""
    replica = ReplicaConfig(config.hardware, config.model)
    return [BackendConfig(url, replica) for url in config.backend]


def makers(config: ServeConfig, backends: int) -> dict[str, Callable[[], Policy]]:
    """Name -> what makes a fresh policy, the one that is followed first.

    Raises:
        ValueError: there is none of that name, or it does not route for so many backends.
    """
    found: dict[str, Callable[[], Policy]] = {}
    for name in (config.policy, *config.shadow):
        if name.endswith(".py") or ".py:" in name:
            raise ValueError(f"{name}: a router executes no policy files; see docs/serve.md")
        make, size = named(name), only_size(name)
        if size not in (None, backends):
            raise ValueError(f"{name} routes for {size} backends, not for {backends}")
        found[name] = lambda make=make: make(0)
    return found


def warn_of_strangers(host: str, keys: Keys) -> None:
    """Say so if anybody who reaches the machine may use the router."""
    if host not in LOOPBACK and not keys.client:
        print(f"warning: {host} lets others in, and no {KEYS['client']} is set", file=sys.stderr)


def begin(url: str, config: ServeConfig) -> None:
    """Say where the router is, and take all that is there by now out of garbage collections.

    With the modules in them, one in a while stopped every stream for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    print(f"makespan serves {config.policy} at {url} (status page there)", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
