"""A real vLLM on this machine's CPU, serving a tiny model with random weights.

The weights do not matter for timing, and nothing is downloaded. The engine computes on one core, so
that the API server and the client have another.
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from makespan.experiments.live.client import ServerError

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 20.0

VOCABULARY = 512

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}
"""Big enough that computing outweighs the HTTP around it: some 7 ms a step. In bfloat16, since
float32 products take 20 % longer for two tokens than for four, which no closed form follows. Few
heads of keys and values, since a CPU reads blocks that requests share from its cache, faster than
others."""

OPTIONS = {
    "--load-format": "dummy",
    "--dtype": "bfloat16",
    "--host": "127.0.0.1",
    "--max-model-len": "2048",
    "--max-num-seqs": "16",
    "--block-size": "32",
    "--num-gpu-blocks-override": "193",
    "--distributed-executor-backend": "uni",
}
"""A KV cache of 6,144 tokens, so small that 16 long sequences run out of it. One process computes
and schedules: with a worker apart, both wait for each other in busy loops, and two cores are not
enough for them, the API server and the client."""

FLAGS = ("--enforce-eager", "--no-async-scheduling")
"""Asynchronous scheduling is not modelled."""

NAME = "tiny-llama"
"""By which clients ask for the model."""

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
"""A chat is its words, one message after the other."""

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else the CPU platform undoes "uni"
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


class TinyServer:
    """A server at an address of its own; it can be killed, and started there again.

    Args:
        vllm: the environment that has vLLM.
        folder: for the model, and for what the server prints.
        port: to listen on.

    Attributes:
        url: where it is.
        model: folder of the model, `tokenizer.json` included.
    """

    def __init__(self, vllm: Path, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.model = folder / "tiny"
        self._vllm, self._port = vllm, port
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        write_model(self.model)

    def start(self) -> None:
        """Begin to start; it is ready after `wait`.

        Raises:
            ServerError: the environment has no Python.
        """
        with self._log.open("w") as log:
            self._process = _start(self._vllm, self.model, self._port, log)

    def wait(self) -> None:
        """Until it is ready.

        Raises:
            ServerError: it does not start; the message has the end of what it printed.
        """
        assert self._process is not None, "wait follows start"
        _wait(self._process, self.url, self._log)

    def kill(self) -> None:
        """As if the machine were switched off."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it, if it runs."""
        self._end(signal.SIGTERM)

    def _end(self, by: signal.Signals) -> None:
        if self._process is not None:
            _stop(self._process, by)
        self._process = None


@contextmanager
def servers(vllm: Path, count: int) -> Iterator[list[TinyServer]]:
    """Start so many servers at once; they are stopped whatever happens, SIGTERM included.

    Raises:
        ServerError: one does not start; the message has the end of what it printed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="makespan-vllm-") as name,
        _terminated_as_interrupted(),
        ExitStack() as running,
    ):
        ports = _free_ports(count)
        started = [TinyServer(vllm, Path(name, str(port)), port) for port in ports]
        for server in started:
            running.callback(server.stop)
            server.start()
        for server in started:
            server.wait()
        yield started


@contextmanager
def serving(vllm: Path) -> Iterator[str]:
    """Start a server and give its URL; it is stopped whatever happens, SIGTERM included.

    Args:
        vllm: the environment that has vLLM.

    Raises:
        ServerError: it does not start; the message has the end of what it printed.
    """
    with servers(vllm, 1) as (server,):
        yield server.url


def write_model(folder: Path) -> None:
    """Configuration and tokenizer (of whole words): what vLLM needs of a model without weights."""
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, VOCABULARY))]
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate(words)},
            "unk_token": "<unk>",
        },
    }
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    settings = special | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {"chat_template": CHAT_TEMPLATE}
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (
        ("config.json", TINY_LLAMA),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
    ):
        (folder / file).write_text(json.dumps(content))


def _start(vllm: Path, model: Path, port: int, log: Any) -> subprocess.Popen[bytes]:
    options = [text for pair in OPTIONS.items() for text in pair]
    command = [vllm / "bin" / "python", vllm / "bin" / "vllm", "serve", model, *options, *FLAGS]
    try:
        return subprocess.Popen(
            [*command, "--served-model-name", NAME, "--port", str(port)],
            env=os.environ | ENVIRONMENT,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own, so that its workers end with it
        )
    except OSError as error:
        raise ServerError(f"vLLM in {vllm} does not start: {error}") from None


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Until the server is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with opener.open(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    ended = f"within {START_TIMEOUT_S:.0f} s" if process.returncode is None else "and ended"
    printed = log.read_text(errors="replace")[-2000:]
    raise ServerError(f"vLLM did not start {ended}; it printed:\n{printed}")


def _stop(process: subprocess.Popen[bytes], by: signal.Signals) -> None:
    """End the server and its workers; by force if they take long, or if this is interrupted."""
    try:
        os.killpg(process.pid, by)
        process.wait(STOP_TIMEOUT_S)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Different ones, since all are bound at once."""
    with ExitStack() as bound:
        probes = [bound.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, which unwinds; by itself it would leave the server."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
