"""Numba behind one decorator, `kernel`.

Two things numba leaves open are settled here. Its on-disk cache is keyed by the file of the
function that is called, not by those of the functions it calls or of the constants it was compiled
with, so an edit there would go unnoticed: here the cache folder is keyed by the text of every file
that holds kernels and of every file that these import from. And passing an array to a compiled
function costs about 0.1 to 0.3 microseconds, several times what a call itself costs: `pointer` lets
a caller pass one address instead.

With `NUMBA_DISABLE_JIT=1` the same functions run as plain Python (the tests measure coverage so).
"""

import hashlib
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import platformdirs
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

JIT = not numba.config.DISABLE_JIT
"""Whether kernels are compiled."""

ROOMS = Path(__file__).resolve().parents[2]

IMPORT = re.compile(rb"^from makespan\.([\w.]+) import", re.MULTILINE)


@cache
def _cache_folder() -> str:
    """A folder for compiled code that no other version of the kernels uses."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in compiled_from(ROOMS):
        digest.update(source.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR") or platformdirs.user_cache_dir("makespan")
    return str(Path(base) / f"kernels-{digest.hexdigest()[:16]}")


def compiled_from(rooms: Path) -> list[Path]:
    """The files whose text decides what is compiled: those with kernels, and what they import."""
    found: set[Path] = set()
    for room in ("envs", "baselines", "agents"):
        for source in (rooms / room).rglob("*.py"):
            text = source.read_bytes()
            if b"kernel\ndef " in text:
                modules = [rooms / name.decode().replace(".", "/") for name in IMPORT.findall(text)]
                found |= {source, *(module.with_suffix(".py") for module in modules)}
                found |= {module / "__init__.py" for module in modules}
    return sorted(source for source in found if source.is_file())


def kernel(function: F) -> F:
    """Compile `function` with numba on its first call, and keep the result on disk."""
    return _compiled(function, inline=False)


def inlined_kernel(function: F) -> F:
    """The same, and kernels that call it contain a copy of it.

    For what is called very often with tuples of many arrays: every field of every array is an
    argument of a call, a hundred of them.
    """
    return _compiled(function, inline=True)


def _compiled(function: F, inline: bool) -> F:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _cache_folder()
    try:
        return numba.njit(
            cache=True, error_model="numpy", no_cfunc_wrapper=True, forceinline=inline
        )(function)
    finally:
        numba.config.CACHE_DIR = before


@intrinsic
def pointer(_context: Any, address: Any) -> Any:
    """The address, an integer, as the pointer that `numba.carray` takes."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return numba.types.voidptr(numba.types.int64), generate
