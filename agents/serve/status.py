"""What the status page shows, as the JSON that it polls: totals, backends, the last decisions.

Pure: no clock and no network. Times are seconds on the clock of whoever calls.
"""

import math
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from makespan.agents.serve.breaker import State as BreakerState

HOLD = "hold"
"""The choice of a policy that keeps the request in the router."""

FAILED = "error"
"""Stands for what a shadow policy that failed would have chosen."""

WINDOW = 1_000
"""Values that the percentiles are taken over: the last ones."""

DECISIONS = 20
"""Decisions that are kept for the page."""

Outcome = Literal["finished", "failed", "cancelled", "rejected"]
"""How a request ended: answered whole, not answered by any backend, given up by the client, or
turned away by the router itself."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class BackendState:
    """A backend at this moment, as the router knows it.

    Attributes:
        url: which backend; unique.
        up: whether it may be chosen.
        why: the reason why not, in words for people; empty if it may.
        breaker: state of its circuit breaker.
        in_flight: requests sent and not ended.
        prefill_tokens: uncached prompt tokens of those without a first token.
        decode_tokens: prompt and streamed tokens of those that are streaming.
        running: last scraped requests in the engine's batch; nan if unknown.
        waiting: last scraped requests in the engine's queue; nan if unknown.
        kv_usage: last scraped fraction of KV blocks in use, 0 to 1; nan if unknown.
        gauge_age_s: seconds since those three were true; nan if unknown.
    """

    url: str
    up: bool
    why: str
    breaker: BreakerState
    in_flight: int
    prefill_tokens: int
    decode_tokens: int
    running: float
    waiting: float
    kv_usage: float
    gauge_age_s: float


class Window:
    """The last `WINDOW` values; adding one costs a tenth of a microsecond."""

    __slots__ = ("_added", "_values")

    def __init__(self) -> None:
        self._values = array("d")
        self._added = 0

    def add(self, value: float) -> None:
        if self._added < WINDOW:
            self._values.append(value)
        else:
            self._values[self._added % WINDOW] = value
        self._added += 1

    def percentiles_ms(self) -> dict[str, float | None]:
        """Nearest-rank percentiles, in milliseconds, of values in seconds; None without any."""
        count = len(self._values)
        if not count:
            return {"p50": None, "p99": None}
        median, high = math.ceil(count * 0.5) - 1, math.ceil(count * 0.99) - 1
        # Of a copy: while a view of it is alive, an array refuses to grow.
        ordered = np.sort(np.array(self._values))  # faster than a partition
        return {"p50": milliseconds(ordered[median]), "p99": milliseconds(ordered[high])}


@dataclass(slots=True)
class _Served:
    """What one backend has done since the router began."""

    chosen: int = 0
    served: int = 0
    errors: int = 0
    ttft_s: Window = field(default_factory=Window)
    e2e_s: Window = field(default_factory=Window)


class Status:
    """Remembers what has happened, as far as the page shows it.

    Args:
        policy: name of the policy that chooses.
        shadow: names of the policies that are asked beside it.
        old_after_s: age from which gauges are not believed.
        now: when the router began.
    """

    def __init__(self, policy: str, shadow: Sequence[str], old_after_s: float, now: float) -> None:
        self._policy = policy
        self._shadow = list(shadow)
        self._old_after_s = old_after_s
        self._began = now
        self._ended = dict.fromkeys(OUTCOMES, 0)
        self._retries = 0
        self._decision_s = Window()
        self._decisions: deque[dict[str, Any]] = deque(maxlen=DECISIONS)
        self._served: dict[str, _Served] = {}

    def decision(
        self,
        now: float,
        request_id: str,
        prompt_tokens: int,
        choice: str,
        shadow: Mapping[str, str],
        seconds: float,
    ) -> None:
        """The policy has answered: the URL of a backend, or `HOLD`."""
        self._decision_s.add(seconds)
        self._decisions.appendleft(
            {
                "t": round(now - self._began, 3),
                "id": request_id,
                "prompt_tokens": int(prompt_tokens),
                "choice": choice,
                "shadow": dict(shadow),
                "ms": milliseconds(seconds),
            }
        )

    def chosen(self, backend: str) -> None:
        self._of(backend).chosen += 1

    def retried(self) -> None:
        self._retries += 1

    def error(self, backend: str) -> None:
        self._of(backend).errors += 1

    def ended(self, outcome: Outcome) -> None:
        """A request has ended, wherever."""
        self._ended[outcome] += 1

    def answered(
        self, backend: str, outcome: Outcome, ttft_s: float | None, e2e_s: float | None
    ) -> None:
        """The backend that a request was last sent to, and how long it took.

        Args:
            ttft_s: to the first token; None: not to be counted.
            e2e_s: to the end; None: not to be counted.
        """
        served = self._of(backend)
        served.served += outcome == "finished"
        if ttft_s is not None:
            served.ttft_s.add(ttft_s)
        if e2e_s is not None:
            served.e2e_s.add(e2e_s)

    def removed(self, backend: str) -> None:
        self._served.pop(backend, None)

    def _of(self, backend: str) -> _Served:
        served = self._served.get(backend)
        if served is None:
            served = self._served[backend] = _Served()
        return served

    def snapshot(
        self,
        now: float,
        backends: Iterable[BackendState],
        held: int,
        queued: int,
        draining: bool,
    ) -> dict[str, Any]:
        """What `/status` answers; every number in it is finite or None.

        Args:
            now: the time of the question.
            backends: the backends as they are now.
            held: requests that the policy holds.
            queued: requests that wait to be let in.
            draining: whether the router takes no new requests.
        """
        states = list(backends)
        return {
            "policy": self._policy,
            "shadow": list(self._shadow),
            "uptime_s": round(now - self._began, 3),
            "old_after_s": self._old_after_s,
            "held": int(held),
            "queued": int(queued),
            "in_flight": sum(int(state.in_flight) for state in states),
            "draining": draining,
            "totals": {
                "requests": sum(self._ended.values()),
                **self._ended,
                "retries": self._retries,
            },
            "decision_ms": self._decision_s.percentiles_ms(),
            "backends": [
                _backend(state, self._served.get(state.url) or _Served()) for state in states
            ],
            "decisions": list(self._decisions),
        }


def _backend(state: BackendState, served: _Served) -> dict[str, Any]:
    return {
        "url": state.url,
        "up": bool(state.up),
        "why": state.why,
        "breaker": state.breaker,
        "in_flight": int(state.in_flight),
        "prefill_tokens": int(state.prefill_tokens),
        "decode_tokens": int(state.decode_tokens),
        "running": _finite(state.running),
        "waiting": _finite(state.waiting),
        "kv_usage": _finite(state.kv_usage),
        "gauge_age_s": _finite(state.gauge_age_s),
        "chosen": served.chosen,
        "served": served.served,
        "errors": served.errors,
        "ttft_ms": served.ttft_s.percentiles_ms(),
        "e2e_ms": served.e2e_s.percentiles_ms(),
    }


def milliseconds(seconds: float) -> float:
    """Rounded to a microsecond."""
    return round(float(seconds) * 1e3, 3)


def _finite(value: float) -> float | None:
    """JSON knows neither nan nor inf."""
    return round(float(value), 4) if math.isfinite(value) else None
