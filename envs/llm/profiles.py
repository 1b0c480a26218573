"""Measured kernel tables: three CSV files that make a `TableModel`.

The format is that of LLMServingSim's profiler (casys-kaist/LLMServingSim, `profiler/perf/`):

    dense         layer, tokens, time_us                                        linear layers
    per_sequence  layer, sequences, time_us                                     head and sampler
    attention     prefill_chunk, kv_prefill, n_decode, kv_decode, time_us       one layer

A profile is named by its folder (`dense.csv` and so on in it) or by the common start of the file
names (`somewhere/RTX4090` for `somewhere/RTX4090_dense.csv`); every file may be gzipped.
"""

import csv
import gzip
import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from makespan.envs.llm.hardware import HardwareSpec, ModelConfig, all_reduce_ms
from makespan.envs.llm.roofline import OVERHEAD_MS
from makespan.envs.llm.step_time import Grid, TableModel

ONCE_PER_STEP = frozenset({"embedding", "final_layernorm"})
"""Dense layers outside the stack of transformer layers (`profiler/models/llama.yaml`)."""

TWICE_PER_LAYER = frozenset({"layernorm"})
"""Dense layers that each transformer layer runs twice."""

ATTENTION_AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")

Table = dict[tuple[float, ...], float]


def _find(profile: str, kind: str) -> Path:
    """The file of one kind that belongs to `profile`."""
    stems = (f"{profile}/{kind}", f"{profile}_{kind}")
    paths = [Path(stem + suffix) for stem in stems for suffix in (".csv", ".csv.gz")]
    for path in paths:
        if path.is_file():
            return path
    tried = ", ".join(map(str, paths))
    raise ValueError(f"profile {profile!r} has no {kind} table; tried {tried}")


def _open(path: Path) -> Iterator[list[str]]:
    """The fields of each line of a CSV file, plain or gzipped."""
    opened = gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else open
    try:
        with opened(path, "rt", newline="") as lines:
            yield from csv.reader(lines)
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable CSV file: {error}") from error


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(
            f"{path}, line {line}, column {column}: {text!r} is not a number of at least 0"
        )
    return number


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Line number and the values of `columns` of each line of a CSV file with a header."""
    lines = _open(path)
    header = next(lines, None)
    if header is None:
        raise ValueError(f"{path}: the file is empty")
    for column in columns:
        if column not in header:
            raise ValueError(f"{path}, line 1: there is no column {column}")
    places = [header.index(column) for column in columns]
    for number, fields in enumerate(lines, start=2):
        if len(fields) != len(header):
            raise ValueError(f"{path}, line {number}: {len(fields)} fields, {len(header)} columns")
        yield number, [fields[place] for place in places]


def _read_layers(path: Path, axis: str) -> dict[str, Table]:
    """Milliseconds by layer and by the value of `axis`."""
    columns = ("layer", axis, "time_us")
    layers: dict[str, Table] = {}
    for line, (layer, *texts) in _rows(path, columns):
        x, time = (_number(path, line, *pair) for pair in zip(columns[1:], texts, strict=True))
        table = layers.setdefault(layer, {})
        if (x,) in table:
            raise ValueError(f"{path}, line {line}, column {axis}: {layer} {x:g} is there twice")
        table[(x,)] = time * 1e-3
    return layers


def _sum_layers(path: Path, layers: dict[str, Table], times: dict[str, int]) -> Grid:
    """One curve: each layer as often as `times` says, all on the same knots."""
    if not layers:
        raise ValueError(f"{path}: the table has no rows")
    knots = sorted({knot for table in layers.values() for knot in table})
    for layer, table in layers.items():
        missing = [knot[0] for knot in knots if knot not in table]
        if missing:
            raise ValueError(f"{path}: layer {layer} was not measured at {missing[0]:g}")
    total = sum(
        times[layer] * np.array([table[knot] for knot in knots]) for layer, table in layers.items()
    )
    axis = np.array([knot[0] for knot in knots])
    return _with_far_knot(path, axis, np.asarray(total))


def _with_far_knot(path: Path, axis: np.ndarray, values: np.ndarray) -> Grid:
    """Continue a curve beyond its end with the slope of its upper half.

    The knots lie so close that the last segment alone is noise and steps of the kernels' tiling.
    """
    if len(axis) < 2:
        raise ValueError(f"{path}: at least two sizes must be measured")
    half = min(int(np.searchsorted(axis, axis[-1] / 2)), len(axis) - 2)
    slope = max((values[-1] - values[half]) / (axis[-1] - axis[half]), 0.0)
    return Grid((np.append(axis, 2 * axis[-1]),), np.append(values, values[-1] + slope * axis[-1]))


def _read_attention(path: Path) -> Table:
    """Milliseconds of one layer by (prefill chunk, prior context, decodes, decode context)."""
    columns = (*ATTENTION_AXES, "time_us")
    table: Table = {}
    for line, texts in _rows(path, columns):
        numbers = [_number(path, line, *pair) for pair in zip(columns, texts, strict=True)]
        key = tuple(numbers[:4])
        if key in table:
            raise ValueError(f"{path}, line {line}: this combination is there twice")
        table[key] = numbers[4] * 1e-3
    return table


def _fill_line(axis: np.ndarray, values: np.ndarray, beyond: bool) -> np.ndarray:
    """Linear interpolation into the gaps of one line; with `beyond`, extrapolation at its ends."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 2:
        return values
    filled = np.interp(axis, axis[known], values[known], left=np.nan, right=np.nan)
    if beyond:
        for (a, b), side in (
            (known[:2], axis < axis[known[0]]),
            (known[-2:], axis > axis[known[-1]]),
        ):
            slope = (values[b] - values[a]) / (axis[b] - axis[a])
            filled[side] = values[a] + slope * (axis[side] - axis[a])
    return filled


def _fill(axes: tuple[np.ndarray, ...], values: np.ndarray) -> np.ndarray:
    """Fill the combinations that were not measured, between measured ones first.

    A profile may join sweeps with different steps, and leaves out what the KV cache cannot hold.
    """
    for beyond, dimension in itertools.product((False, True), range(values.ndim)):
        if not np.isnan(values).any():
            break
        lines = np.moveaxis(values, dimension, -1).reshape(-1, len(axes[dimension]))
        filled = np.stack([_fill_line(axes[dimension], line, beyond) for line in lines])
        shape = np.moveaxis(values, dimension, -1).shape
        values = np.moveaxis(filled.reshape(shape), -1, dimension)
    if np.isnan(values).any():
        raise ValueError("too few points were measured to fill the gaps between them")
    return values


def _grid(path: Path, what: str, table: Table) -> Grid:
    """The rectangular grid that spans the keys of `table`."""
    if not table:
        raise ValueError(f"{path}: nothing was measured for {what} attention")
    keys = np.array(list(table))
    axes = tuple(np.unique(column) for column in keys.T)
    values = np.full([len(axis) for axis in axes], np.nan)
    places = tuple(np.searchsorted(axis, column) for axis, column in zip(axes, keys.T, strict=True))
    values[places] = list(table.values())
    try:
        return Grid(axes, _fill(axes, values))
    except ValueError as error:
        raise ValueError(f"{path}: {what} attention: {error}") from error


def _attention_grids(path: Path, layers: int) -> tuple[Grid, Grid, Grid]:
    """Decode, prefill and mixed attention of the whole model."""
    decode: Table = {}
    prefill: Table = {}
    mixed: Table = {}
    for (chunk, prior, decodes, context), time in _read_attention(path).items():
        if chunk == 0 and decodes > 0:
            decode[decodes, context] = time * layers
        elif decodes == 0 and chunk > 0:
            prefill[chunk, prior] = time * layers
        elif chunk > 0:
            mixed[chunk, prior, decodes, context] = time * layers
    return (
        _grid(path, "decode", decode),
        _grid(path, "prefill", prefill),
        _grid(path, "mixed", mixed),
    )


def _with_all_reduce(dense: Grid, per_step: float, per_token: float) -> Grid:
    return Grid(dense.axes, dense.values + per_step + per_token * dense.axes[0])


def read_profile(
    profile: str, hardware: HardwareSpec, model: ModelConfig, tensor_parallel: int = 1
) -> TableModel:
    """Read the three tables of one GPU's share of `model`.

    Profiles hold no all-reduces; under tensor parallelism those of `hardware` are added.

    Args:
        profile: folder, or common start of the file names.

    Raises:
        ValueError: a file is missing or bad; the message names file, line and column.
    """
    layers = model.num_hidden_layers
    path = _find(profile, "dense")
    dense = _read_layers(path, "tokens")
    times = {
        name: 1 if name in ONCE_PER_STEP else layers * (2 if name in TWICE_PER_LAYER else 1)
        for name in dense
    }
    curve = _sum_layers(path, dense, times)
    path = _find(profile, "per_sequence")
    head = _read_layers(path, "sequences")
    decode, prefill, mixed = _attention_grids(_find(profile, "attention"), layers)
    return TableModel(
        dense=_with_all_reduce(curve, *all_reduce_ms(hardware, model, tensor_parallel)),
        head=_sum_layers(path, head, dict.fromkeys(head, 1)),
        decode=decode,
        prefill=prefill,
        mixed=mixed,
        overhead_ms=OVERHEAD_MS,
        source=f"kernel tables {profile}",
        error="measured points exactly, linear between; the tables of RTX 4090 and RTX PRO 6000 "
        "meet the mean end-to-end latency of one real run each to +4.4 % and -0.5 %",
    )
