"""Workload in, workload out: scale the rate, cut, mix, split by time."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from makespan.traces.prefixes import offsets_of, take_rows
from makespan.traces.workload import Workload


def select(workload: Workload, rows: np.ndarray) -> Workload:
    """The requests at indices `rows` (int, increasing), their clock set to 0 at the first."""
    hashes, offsets = take_rows(workload.hashes, workload.hash_offsets, rows)
    arrival_s = workload.arrival_s[rows]
    return replace(
        workload,
        arrival_s=arrival_s - arrival_s[:1],
        prompt_tokens=workload.prompt_tokens[rows],
        output_tokens=workload.output_tokens[rows],
        hashes=hashes,
        hash_offsets=offsets,
        session=workload.session[rows],
        priority=workload.priority[rows],
        slo_class=workload.slo_class[rows],
        model=workload.model[rows],
    )


def scale_rate(workload: Workload, factor: float) -> Workload:
    """Make arrivals `factor` times as frequent by shrinking every gap alike.

    Raises:
        ValueError: `factor` is not positive.
    """
    if not 0 < factor < np.inf:
        raise ValueError(f"factor must be positive, not {factor}")
    return replace(workload, arrival_s=workload.arrival_s / factor)


def to_rate(workload: Workload, rate: float) -> Workload:
    """Scale to a mean of `rate` requests per second.

    Raises:
        ValueError: `rate` is not positive, or all requests arrive at once.
    """
    if workload.rate == 0:
        raise ValueError("a workload whose requests all arrive at once has no rate to scale")
    return scale_rate(workload, rate / workload.rate)


def slice_time(workload: Workload, start_s: float = 0.0, stop_s: float = np.inf) -> Workload:
    """The requests that arrive in [start_s, stop_s), their clock set to 0 at the first.

    Raises:
        ValueError: none does.
    """
    first, last = np.searchsorted(workload.arrival_s, (start_s, stop_s))
    if first >= last:
        raise ValueError(f"no request arrives in [{start_s}, {stop_s}) s")
    return select(workload, np.arange(first, last))


def slice_count(workload: Workload, start: int = 0, stop: int | None = None) -> Workload:
    """Requests `start` to `stop` (indices, as of a list), their clock set to 0 at the first.

    Raises:
        ValueError: there is none.
    """
    rows = np.arange(len(workload))[start:stop]
    if not len(rows):
        raise ValueError(f"no request between {start} and {stop} of {len(workload)}")
    return select(workload, rows)


def split(workload: Workload, train: float = 0.8) -> tuple[Workload, Workload]:
    """Cut in two at the fraction `train` of the time span: (train, test).

    By time and not at random, so that a policy is tested on what comes after what it learnt from.
    A conversation that crosses the cut is in both parts.

    Raises:
        ValueError: `train` is not inside (0, 1), or a part would be empty.
    """
    if not 0 < train < 1:
        raise ValueError(f"train must be between 0 and 1, not {train}")
    if not len(workload):
        raise ValueError("an empty workload cannot be split")
    cut_s = float(workload.arrival_s[0] + train * workload.duration_s)
    return slice_time(workload, 0.0, cut_s), slice_time(workload, cut_s)


def mix(workloads: Sequence[Workload], name: str = "mix") -> Workload:
    """Merge by arrival time; sessions and prefix hashes of different workloads stay apart.

    Raises:
        ValueError: there is nothing to mix.
    """
    if not workloads:
        raise ValueError("nothing to mix")
    slo_classes = tuple(dict.fromkeys(n for w in workloads for n in w.slo_classes))
    models = tuple(dict.fromkeys(n for w in workloads for n in w.models))
    slo_class = [_recode(w.slo_class, w.slo_classes, slo_classes) for w in workloads]
    model = [_recode(w.model, w.models, models) for w in workloads]
    arrival_s = np.concatenate([w.arrival_s for w in workloads])
    order = np.argsort(arrival_s, kind="stable")
    lengths = np.concatenate([np.diff(w.hash_offsets) for w in workloads])
    hashes = np.concatenate(_apart([w.hashes for w in workloads]))
    hashes, offsets = take_rows(hashes, offsets_of(lengths), order)
    return Workload(
        arrival_s=arrival_s[order],
        prompt_tokens=np.concatenate([w.prompt_tokens for w in workloads])[order],
        output_tokens=np.concatenate([w.output_tokens for w in workloads])[order],
        hashes=hashes,
        hash_offsets=offsets,
        session=np.concatenate(_apart([w.session for w in workloads]))[order],
        priority=np.concatenate([w.priority for w in workloads])[order],
        slo_class=np.concatenate(slo_class)[order],
        model=np.concatenate(model)[order],
        slo_classes=slo_classes,
        models=models,
        name=name,
    )


def _apart(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Number the identities (>= 0; -1 is none) of each column afresh, so that none is shared."""
    renumbered, base = [], 0
    for column in columns:
        distinct, identity = np.unique(column[column >= 0], return_inverse=True)
        moved = np.full(len(column), -1, np.int64)
        moved[column >= 0] = base + identity
        renumbered.append(moved)
        base += len(distinct)
    return renumbered


def _recode(code: np.ndarray, names: Sequence[str], merged: Sequence[str]) -> np.ndarray:
    return np.array([merged.index(name) for name in names], np.int64)[code]
