"""ServeGen client folders: a workload generated from per-client windows of real traffic.

A client is `chunk-i-trace.csv`, windows of arrival statistics (start in s, rate in requests/s,
coefficient of variation, family of gaps, its two parameters; no header), and
`chunk-i-dataset.json`, longer windows of length distributions. Folder, tar or tar.gz
(alibaba/ServeGen, data/; the paper is arXiv 2505.09999).

As in ServeGen's `servegen/construct.py`, each window's gaps are drawn from its family and stretched
to fill the window. Unlike there, they start at a random phase, so that a client with one request a
window is not lost, and prompt and answer lengths are drawn apart, where ServeGen uses one random
number for both.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from makespan.traces.errors import TraceError
from makespan.traces.readers.assemble import assemble
from makespan.traces.readers.source import members
from makespan.traces.workload import Workload

TRACE = "chunk-*-trace.csv"
DATASET = "chunk-*-dataset.json"
_COLUMNS = ("start", "rate", "cv", "family", "shape", "scale")


@dataclass(frozen=True)
class Window:
    """Arrival statistics of one client from `start_s` for `span_s` seconds."""

    start_s: float
    span_s: float
    rate: float
    family: str
    shape: float

    def arrivals(self, rng: np.random.Generator) -> np.ndarray:
        """float64: arrival times in the window, sorted; their mean number is rate times span."""
        count = math.floor(self.rate * self.span_s + rng.random())
        if not count:
            return np.zeros(0)
        # The scale of the family falls out of the stretching.
        gaps = rng.gamma(self.shape, size=count)
        if self.family == "Weibull":
            gaps = rng.weibull(self.shape, count)
        turn = (np.cumsum(gaps) / gaps.sum() + rng.random()) % 1.0
        return self.start_s + self.span_s * np.sort(turn)


@dataclass(frozen=True)
class Histogram:
    """Token counts and their cumulative probabilities, each of shape (distinct,)."""

    tokens: np.ndarray
    cumulative: np.ndarray

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """int64 (count,)."""
        at = np.searchsorted(self.cumulative, rng.random(count) * self.cumulative[-1], "right")
        return self.tokens[at]


@dataclass(frozen=True)
class Client:
    """One client: windows, and (start in s, prompt lengths, answer lengths) of its datasets."""

    windows: list[Window]
    datasets: list[tuple[float, Histogram, Histogram]]

    def requests(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Per window, an array (3, n) of arrival times, prompt and answer lengths."""
        for window in self.windows:
            arrival_s = window.arrivals(rng)
            if len(arrival_s):
                # As in ServeGen: the latest dataset that begins no later than the window.
                _, prompt, answer = [d for d in self.datasets if d[0] <= window.start_s][-1]
                lengths = [part.sample(rng, len(arrival_s)) for part in (prompt, answer)]
                yield np.stack([arrival_s, *lengths])


def read(path: Path, rate: float, seed: int) -> Workload:
    """Generate the whole span of the clients' windows, at their own rates.

    Each client has its own child of `seed`. The folder's name becomes the model. Sessions are not
    in the data.
    """
    traces, datasets = members(path, TRACE), members(path, DATASET)
    if not traces:
        raise TraceError(path, f"is not a ServeGen folder: it holds no {TRACE}")
    folders = sorted({str(PurePosixPath(name).parent) for name in traces})
    if len(folders) > 1:
        reason = f"holds {len(folders)} folders of clients ({folders[0]}, ...); read one of them"
        raise TraceError(path, reason)
    streams = np.random.SeedSequence(seed).spawn(len(traces))
    parts = []
    for (name, text), stream in zip(sorted(traces.items()), streams, strict=True):
        client = _client(path, name, text, datasets)
        parts += client.requests(np.random.default_rng(stream))
    if not parts:
        raise TraceError(path, "every client's rate is 0")
    arrival_s, prompt, output = np.concatenate(parts, axis=1)
    order = np.argsort(arrival_s, kind="stable")
    columns = arrival_s[order], prompt[order].astype(np.int64), output[order].astype(np.int64)
    folder = PurePosixPath(folders[0]).name or path.name
    return assemble(path, *columns, models=(folder,)).renamed(folder)


def _client(path: Path, name: str, text: bytes, datasets: dict[str, bytes]) -> Client:
    partner = name.removesuffix("-trace.csv") + "-dataset.json"
    if partner not in datasets:
        raise TraceError(path / name, f"has no {PurePosixPath(partner).name} beside it")
    windows = _windows(path / name, text)
    found = _datasets(path / partner, datasets[partner])
    first = min((start for start, _, _ in found), default=math.inf)
    early = [w.start_s for w in windows if w.rate > 0 and w.start_s < first]
    if early:
        raise TraceError(path / partner, f"has no lengths for the window at {early[0]:.0f} s")
    return Client(windows, found)


def _windows(path: Path, text: bytes) -> list[Window]:
    windows = [_window(path, line, row) for line, row in _csv_rows(path, text)]
    if len(windows) < 2:
        raise TraceError(path, "needs at least two windows, to know how long one is", line=1)
    spans = np.diff([window.start_s for window in windows])
    if spans.min() <= 0:
        line = int((spans <= 0).argmax()) + 2
        raise TraceError(path, "windows must be in order of time", line=line, column="start")
    # The last window is as long as the one before it.
    spans = [*spans.tolist(), float(spans[-1])]
    return [replace(window, span_s=span) for window, span in zip(windows, spans, strict=True)]


def _csv_rows(path: Path, content: bytes) -> Iterator[tuple[int, list[str]]]:
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TraceError(path, f"not UTF-8 text ({error.reason})", line=1) from error
    for line, row in enumerate((text.split(",") for text in lines), start=1):
        if len(row) != len(_COLUMNS):
            raise TraceError(path, f"expected {len(_COLUMNS)} fields, found {len(row)}", line=line)
        yield line, row


def _window(path: Path, line: int, row: list[str]) -> Window:
    """A window whose span is not known yet."""
    cells = dict(zip(_COLUMNS, row, strict=True))
    family = cells.pop("family")
    number = {column: _number(path, line, column, cell) for column, cell in cells.items()}
    if number["rate"] > 0 and family not in ("Gamma", "Weibull"):
        reason = f"expected Gamma or Weibull, found {family!r}"
        raise TraceError(path, reason, line=line, column="family")
    if number["rate"] > 0 and number["shape"] == 0:
        raise TraceError(path, "expected a number > 0, found '0'", line=line, column="shape")
    return Window(number["start"], math.nan, number["rate"], family, number["shape"])


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        reason = f"expected a number >= 0, found {cell!r}"
        raise TraceError(path, reason, line=line, column=column)
    return value


def _datasets(path: Path, text: bytes) -> list[tuple[float, Histogram, Histogram]]:
    try:
        windows = json.loads(text)
        fields = {float(start): window for start, window in windows.items()}
    except (ValueError, AttributeError) as error:
        raise TraceError(path, f"not a JSON object of windows ({error})", line=1) from error
    found = []
    for start, window in sorted(fields.items()):
        prompt = _histogram(path, start, window, "input_tokens")
        answer = _histogram(path, start, window, "output_tokens")
        if prompt and answer:
            found.append((start, prompt, answer))
    return found


def _histogram(path: Path, start: float, window: dict[str, str], column: str) -> Histogram | None:
    """Parse text of the form `{45: 0.01, 46: 0.02}`; None where it is empty."""
    if column not in window:
        raise TraceError(
            path, f"is missing from the window at {start:.0f} s", line=1, column=column
        )
    pairs = window[column].strip("{} ").replace(":", ",")
    if not pairs:
        return None
    try:
        tokens, share = np.array(pairs.split(","), dtype=np.float64).reshape(-1, 2).T
    except ValueError:
        reason = f"expected {{tokens: probability, ...}} in the window at {start:.0f} s"
        raise TraceError(path, reason, line=1, column=column) from None
    if not (np.isfinite(share).all() and share.min() >= 0 and share.sum() > 0 <= tokens.min()):
        reason = f"negative counts or probabilities in the window at {start:.0f} s"
        raise TraceError(path, reason, line=1, column=column)
    return Histogram(tokens.astype(np.int64), np.cumsum(share))
