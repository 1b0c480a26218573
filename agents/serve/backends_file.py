"""A file that lists the backends, read again whenever it changes.

[[backend]]
url = "http://10.0.0.1:8000"
hardware = "A100"          # or the file that `makespan calibrate` wrote
model = "Llama-3-8B"

[[backend]]
url = "http://10.0.0.2:8000"
"""

import asyncio
import logging
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from makespan.agents.serve.config import BackendConfig
from makespan.envs.llm.config import ReplicaConfig
from makespan.envs.llm.replica import resolve

FIELDS = ("url", "hardware", "model")

PERIOD_S = 1.0
"""Between two looks at the file."""

log = logging.getLogger(__name__)


def backend_of(values: Any) -> BackendConfig:
    """A backend from a table with `url` and, if it likes, `hardware` and `model`.

    Raises:
        ValueError: the table has something else; the message names it.
    """
    if not isinstance(values, dict) or "url" not in values:
        raise ValueError('a backend needs a "url"')
    for name, value in values.items():
        if name not in FIELDS:
            raise ValueError(f"a backend has url, hardware and model, not {name!r}")
        if not isinstance(value, str):
            raise ValueError(f"{name} of a backend must be text, not {value!r}")
    settings = {name: value for name, value in values.items() if name != "url"}
    return BackendConfig(values["url"], ReplicaConfig(**settings))


def read_backends(path: Path) -> list[BackendConfig]:
    """The backends in a file.

    Raises:
        ValueError: it cannot be read or lists something else; the message names file and entry.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"backends file {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"backends file {path}: {error}") from None
    entries = values.pop("backend", [])
    if values or not isinstance(entries, list):
        raise ValueError(f"backends file {path}: it may only have tables [[backend]]")
    if not entries:
        raise ValueError(f"backends file {path}: it lists no [[backend]]")
    found: dict[str, BackendConfig] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            backend = backend_of(entry)
            resolve(backend.replica)  # which hardware there is
            if backend.url in found:
                raise ValueError(f"{backend.url} is listed above, too")
        except ValueError as error:
            raise ValueError(f"backends file {path}, backend {number}: {error}") from None
        found[backend.url] = backend
    return list(found.values())


class BackendsFile:
    """The file, and what it said last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()

    def read(self) -> list[BackendConfig]:
        """See `read_backends`."""
        self._seen = self._stamp()
        return read_backends(self._path)

    def changed(self) -> bool:
        """Whether it is another file, or another version of it, than was read last."""
        return self._stamp() != self._seen

    def _stamp(self) -> Sequence[int]:
        try:
            stat = self._path.stat()
        except OSError:
            return ()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


async def follow(file: BackendsFile, replace: Any, period_s: float = PERIOD_S) -> None:
    """Call `replace` with the backends whenever the file changes; a bad file changes nothing."""
    while True:
        await asyncio.sleep(period_s)
        if not file.changed():
            continue
        try:
            await replace(file.read())
        except ValueError as error:
            log.error("%s; going on with the backends that there are", error)
        except Exception:  # to go on following, whatever it was
            log.exception("following the backends file failed; going on")
