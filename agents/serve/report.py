"""What a log of the live router says about its backends and its policies.

A shadow policy is asked about every request and its choice is not carried out, so a log holds no
latency of it. What can be told is how often it agrees with the policy that chose, and how the
requests fared on which the two agree and on which they do not.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from makespan.agents.serve.record import Served
from makespan.agents.serve.status import FAILED, HOLD, OUTCOMES, Outcome
from makespan.traces.readers.served import arrivals, unix_seconds

LEVEL = 0.95
"""Confidence level of the intervals."""

BLOCKS = 20
"""Runs of neighbouring requests that a group is cut into to be resampled."""

RESAMPLES = 1000

NOTES = {
    "latency": "Latencies, from arrival, are of requests that were answered (status 200); TTFT of "
    "those that were streamed. Output tokens/s: over the seconds in which the router had a "
    "request.",
    "shadow": "A shadow's choices were not carried out, so nothing here is a latency of a shadow: "
    "that takes a run with it as the policy, or a replay (makespan run --trace LOG). The log keeps "
    "what both chose when a request was last decided about; that the policy had held it before "
    "shows in the time held.",
    "groups": "Where a shadow disagrees, requests may be longer or the fleet busier: that these "
    "are slower or faster does not say that its choice would have been better or worse. The "
    "intervals (95 %, bootstrap over blocks of neighbours) tell how far the requests of this log "
    "carry a mean, not what another day would give.",
    "policies": "The log holds several policies: they met different requests, at different times.",
    "none": "No shadow policy was asked (makespan serve --shadow NAME).",
}
"""What can and what cannot be concluded, where it applies."""


@dataclass(frozen=True)
class Distribution:
    """Times in seconds; None where there are none."""

    requests: int
    mean_s: float | None
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True)
class Mean:
    """A mean in seconds with its 95 % interval; None where there are too few."""

    requests: int
    mean_s: float | None
    low_s: float | None
    high_s: float | None


@dataclass(frozen=True)
class Backend:
    """A backend; `requests` counts those that were last sent to it, however they ended."""

    url: str
    requests: int
    answered: int
    ttft: Distribution
    e2e: Distribution
    output_tokens_per_s: float | None


@dataclass(frozen=True)
class Choices:
    """What somebody chose for some requests.

    Attributes:
        requests: how many there are.
        chosen: how often each backend, "hold" or "error" was the choice, most frequent first.
        held: how often "hold" was.
        largest_share: of the backend chosen most, among choices of a backend; None if none was.
    """

    requests: int
    chosen: dict[str, int]
    held: int
    largest_share: float | None


@dataclass(frozen=True)
class Group:
    """Requests on which a shadow agrees with the policy, or does not.

    Attributes:
        requests: how many, however they ended.
        ttft, e2e: of those that were answered, under the choice of the policy.
    """

    requests: int
    ttft: Mean
    e2e: Mean


@dataclass(frozen=True)
class Shadow:
    """A shadow policy beside the policy that chose.

    Attributes:
        name: of the shadow.
        choices: its own, of the requests about which both were asked.
        agreement: share of these on which it chose the same, failures left out; None if none.
        agree, disagree: how these requests fared.
    """

    name: str
    choices: Choices
    agreement: float | None
    agree: Group
    disagree: Group


@dataclass(frozen=True)
class Policy:
    """A policy that chose, and its shadows.

    Attributes:
        name: of the policy.
        choices: its last choice for each request about which it was asked.
        held: time in the router of requests that it held before they were sent or lost.
        decision: time it took for a choice.
        shadows: that were asked beside it.
    """

    name: str
    choices: Choices
    held: Distribution
    decision: Distribution
    shadows: list[Shadow]


@dataclass(frozen=True)
class Report:
    """What a log says; `dataclasses.asdict` makes JSON of it.

    Attributes:
        requests: in the log.
        outcomes: how many ended in each way.
        complaints: how many of the finished have another status than 200.
        busy_s: seconds in which the router had at least one request.
        backends: in order of URL.
        policies: in order of their first request.
        notes: what can and cannot be concluded, a paragraph each.
    """

    requests: int
    outcomes: dict[Outcome, int]
    complaints: int
    busy_s: float
    backends: list[Backend]
    policies: list[Policy]
    notes: list[str]


class _Row(NamedTuple):
    """What is kept of a request: logs are long, and their hashes are most of them."""

    wall_s: float
    arrival_s: float
    outcome: Outcome
    answered: bool
    stream: bool
    backend: str | None
    policy: str
    choice: str | None
    shadow: dict[str, str]
    output_tokens: int
    decision_s: float
    held_s: float
    ttft_s: float | None
    e2e_s: float


def compare(log: Iterable[Served]) -> Report:
    """Read a log once and work out its figures.

    Args:
        log: as from `makespan.agents.serve.record.read_log`; may be empty.
    """
    rows = [_row(served) for served in log]
    arrival_s = arrivals(_column(rows, lambda r: r.wall_s), _column(rows, lambda r: r.arrival_s))
    busy_s = _covered(arrival_s, _column(rows, lambda r: r.e2e_s))
    # Neighbours in time are to be neighbours in the blocks that are resampled.
    rows = [rows[k] for k in np.argsort(arrival_s, kind="stable")]
    policies = [_policy(name, mine) for name, mine in _by(rows, lambda r: r.policy).items()]
    counts = Counter(row.outcome for row in rows)
    return Report(
        requests=len(rows),
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        complaints=counts["finished"] - sum(row.answered for row in rows),
        busy_s=busy_s,
        backends=_backends(rows, busy_s),
        policies=policies,
        notes=_notes(policies),
    )


def _row(served: Served) -> _Row:
    return _Row(
        unix_seconds(served.wall),
        served.arrival_s,
        served.outcome,
        served.answered,
        served.stream,
        served.backend and sys.intern(served.backend),
        sys.intern(served.policy),
        served.choice and sys.intern(served.choice),
        {sys.intern(name): sys.intern(choice) for name, choice in served.shadow.items()},
        served.output_tokens,
        served.decision_s,
        served.held_s,
        served.ttft_s,
        served.e2e_s,
    )


def _column(rows: Sequence[_Row], value: Callable[[_Row], float]) -> np.ndarray:
    return np.array([value(row) for row in rows], np.float64)


def _by(rows: Sequence[_Row], key: Callable[[_Row], str]) -> dict[str, list[_Row]]:
    """Rows by key, in order of its first row."""
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _covered(start_s: np.ndarray, length_s: np.ndarray) -> float:
    """Seconds that are in at least one of the intervals."""
    order = np.argsort(start_s)
    start_s, end_s = start_s[order], np.maximum.accumulate((start_s + length_s)[order])
    before_s = np.concatenate([start_s[:1], end_s[:-1]])
    return float((end_s - np.maximum(start_s, before_s)).sum())


def _backends(rows: Sequence[_Row], busy_s: float) -> list[Backend]:
    sent = [row for row in rows if row.backend is not None]
    groups = _by(sent, lambda row: row.backend or "")
    return [_backend(url, groups[url], busy_s) for url in sorted(groups)]


def _backend(url: str, rows: Sequence[_Row], busy_s: float) -> Backend:
    answered = [row for row in rows if row.answered]
    tokens = sum(row.output_tokens for row in answered)
    return Backend(
        url=url,
        requests=len(rows),
        answered=len(answered),
        ttft=_distribution(_ttft_s(answered)),
        e2e=_distribution(_e2e_s(answered)),
        output_tokens_per_s=tokens / busy_s if busy_s > 0 else None,
    )


def _policy(name: str, rows: Sequence[_Row]) -> Policy:
    asked = [row for row in rows if row.choice is not None]
    shadows = dict.fromkeys(shadow for row in asked for shadow in row.shadow)
    return Policy(
        name=name,
        choices=_choices([row.choice or "" for row in asked]),
        held=_distribution(_column([row for row in rows if row.held_s > 0], lambda r: r.held_s)),
        decision=_distribution(_column(asked, lambda row: row.decision_s)),
        shadows=[_shadow(shadow, asked) for shadow in shadows],
    )


def _shadow(name: str, rows: Sequence[_Row]) -> Shadow:
    both = [row for row in rows if name in row.shadow]
    chose = [row for row in both if row.shadow[name] != FAILED]
    agree = [row for row in chose if row.shadow[name] == row.choice]
    return Shadow(
        name=name,
        choices=_choices([row.shadow[name] for row in both]),
        agreement=len(agree) / len(chose) if chose else None,
        agree=_group(agree),
        disagree=_group([row for row in chose if row.shadow[name] != row.choice]),
    )


def _choices(choices: Sequence[str]) -> Choices:
    chosen = dict(Counter(choices).most_common())
    backends = [count for name, count in chosen.items() if name not in (HOLD, FAILED)]
    largest_share = backends[0] / sum(backends) if backends else None
    return Choices(len(choices), chosen, chosen.get(HOLD, 0), largest_share)


def _group(rows: Sequence[_Row]) -> Group:
    answered = [row for row in rows if row.answered]
    return Group(len(rows), _mean(_ttft_s(answered)), _mean(_e2e_s(answered)))


def _ttft_s(rows: Sequence[_Row]) -> np.ndarray:
    """Of requests that were streamed; the first byte of others is their last."""
    return np.array([row.ttft_s for row in rows if row.stream and row.ttft_s is not None])


def _e2e_s(rows: Sequence[_Row]) -> np.ndarray:
    return _column(rows, lambda row: row.e2e_s)


def _distribution(seconds: np.ndarray) -> Distribution:
    if not len(seconds):
        return Distribution(0, None, None, None)
    p50, p99 = np.percentile(seconds, [50, 99])
    return Distribution(len(seconds), float(seconds.mean()), float(p50), float(p99))


def _mean(seconds: np.ndarray) -> Mean:
    mean = float(seconds.mean()) if len(seconds) else None
    return Mean(len(seconds), mean, *_interval(seconds))


def _interval(seconds: np.ndarray) -> tuple[float | None, float | None]:
    """Bootstrap interval of the mean, resampling blocks of neighbours; None below `BLOCKS` values.

    Neighbouring requests share a queue, so their latencies are not independent; blocks keep that
    together (Kuensch, The jackknife and the bootstrap for general stationary observations, 1989).
    """
    if len(seconds) < BLOCKS:
        return None, None
    blocks = np.array_split(seconds, BLOCKS)
    sums, sizes = (np.array([how(block) for block in blocks]) for how in (np.sum, len))
    picks = np.random.default_rng(0).integers(BLOCKS, size=(RESAMPLES, BLOCKS))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _notes(policies: Sequence[Policy]) -> list[str]:
    if not policies:
        return []
    shadowed = any(policy.shadows for policy in policies)
    names = ["latency", *(["shadow", "groups"] if shadowed else ["none"])]
    names += ["policies"] if len(policies) > 1 else []
    return [NOTES[name] for name in names]
