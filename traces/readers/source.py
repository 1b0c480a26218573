"""Bytes on disk to numbered lines of text, with every failure turned into a `TraceError`."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from makespan.traces.errors import TraceError

GZIP_MAGIC = b"\x1f\x8b"
_TAR_MAGIC_OFFSET = 257
_TAR_MAGIC = b"ustar"


def is_gzip(path: Path) -> bool:
    """Whether the file starts as gzip data does (RFC 1952, section 2.3.1), whatever its name."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _open_bytes(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if is_gzip(path) else path.open("rb")


def head(path: Path, size: int = 1024) -> bytes:
    """The first `size` bytes of the file, after gunzip where needed.

    Raises:
        TraceError: the file cannot be opened or its gzip data is damaged.
    """
    try:
        with _open_bytes(path) as file:
            return file.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(path, _damage(error), line=1) from error
    except OSError as error:
        raise TraceError(path, f"cannot be read: {error.strerror or error}") from error


def _damage(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the gzip data is truncated here"
    return f"the gzip data is damaged here ({error})"


def is_tar(start: bytes) -> bool:
    """Whether `start`, the first bytes of a file, is that of a POSIX tar archive."""
    return start[_TAR_MAGIC_OFFSET : _TAR_MAGIC_OFFSET + len(_TAR_MAGIC)] == _TAR_MAGIC


def lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file with their line ends, after gunzip where needed.

    Raises:
        TraceError: not UTF-8, or the gzip data is damaged; names the line reached.
    """
    try:
        with TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", newline="") as file:
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(path, _damage(error), line=_readable_lines(path) + 1) from error
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text ({error.reason})"
        raise TraceError(path, reason, line=_readable_lines(path) + 1) from error


def _readable_lines(path: Path) -> int:
    """How many lines come before the one that cannot be read."""
    number = 0
    unreadable = suppress(EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError)
    with _open_bytes(path) as file, unreadable:
        for line in file:
            line.decode("utf-8")
            number += 1
    return number


def members(path: Path, pattern: str) -> dict[str, bytes]:
    """The files of a folder or tar archive (plain or gzip) whose base name matches `pattern`.

    Raises:
        TraceError: the archive is damaged.
    """
    if path.is_dir():
        found = sorted(file for file in path.rglob(pattern) if file.is_file())
        return {str(file.relative_to(path)): file.read_bytes() for file in found}
    try:
        with tarfile.open(path) as archive:
            wanted = [m for m in archive if m.isfile() and fnmatch(Path(m.name).name, pattern)]
            return {m.name: _extract(archive, m) for m in wanted}
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise TraceError(path, f"the archive is damaged ({error})") from error


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()
