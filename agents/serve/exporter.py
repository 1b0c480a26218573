"""The router's own metrics, in the text format of Prometheus.

Label values come from the configuration and from fixed lists, never from clients: a model name or
a path of theirs would make a series each.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from makespan.agents.serve.status import FAILED, OUTCOMES, BackendState, Outcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

ENDPOINTS = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/embeddings")
"""What may stand in the label `endpoint`, the routed ones; anything else is "other"."""

ERRORS = (
    *("connect", "timeout", "broken", "stream timeout", "stream broken"),
    *("429", "500", "502", "503"),
)
"""Kinds of errors that are there before the first one. Other statuses come when they happen."""

DECISION_BUCKETS = (50e-6, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3)
TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 3, 5, 10, 20, 60, 120, 600)
E2E_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600, 1_800)

BREAKER_STATE = {"closed": 0, "half-open": 1, "open": 2}

AGREES = {True: "true", False: "false", None: FAILED}

C = TypeVar("C", Counter, Histogram)


class _Children(dict[tuple, C], Generic[C]):
    """The series of a metric by their label values.

    `Metric.labels` makes strings and takes a lock each time; a look-up here is ten times as fast.
    """

    def __init__(self, metric: C) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, labels: tuple) -> C:
        child = self[labels] = self._metric.labels(*labels)
        return child

    def remove(self, backend: str) -> None:
        """Drop the series whose first label is this backend."""
        for labels in [labels for labels in self if labels[0] == backend]:
            del self[labels]
            self._metric.remove(*labels)


class _State(Collector):
    """Gauges of the backends, read when Prometheus asks."""

    def __init__(
        self,
        backends: Callable[[], Iterable[BackendState]],
        held: Callable[[], int],
        queued: Callable[[], int],
        lost: Callable[[], int],
    ) -> None:
        self._backends = backends
        self._held = held
        self._queued = queued
        self._lost = lost

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "makespan_router_log_lines_lost", "Lines not written to the log", value=self._lost()
        )
        yield GaugeMetricFamily(
            "makespan_router_held", "Requests that the policy holds", value=self._held()
        )
        yield GaugeMetricFamily(
            "makespan_router_queued",
            "Requests that wait to be let in, of which no policy knows yet",
            value=self._queued(),
        )
        up = _of_backends("up", "Whether the backend may be chosen")
        in_flight = _of_backends("in_flight", "Requests sent and not ended")
        breaker = _of_backends(
            "breaker_state", "Circuit breaker: 0 closed, 1 half-open (probing), 2 open"
        )
        age = _of_backends(
            "scrape_age_seconds",
            "Age of the last scrape; absent before the first, and when the gauges are not believed "
            "(old or stuck)",
        )
        for state in self._backends():
            backend = (state.url,)
            up.add_metric(backend, state.up)
            in_flight.add_metric(backend, state.in_flight)
            breaker.add_metric(backend, BREAKER_STATE[state.breaker])
            if state.gauge_age_s == state.gauge_age_s:  # not nan
                age.add_metric(backend, state.gauge_age_s)
        yield from (up, in_flight, breaker, age)


def _of_backends(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"makespan_router_{name}", documentation, labels=("backend",))


class _WithoutCreated(Collector):
    """The metrics without the time of creation of each series, which would double their number."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            created = f"{metric.name}_created"
            metric.samples = [sample for sample in metric.samples if sample.name != created]
            yield metric


class Exporter:
    """Counts what happens, and answers what Prometheus asks.

    Its registry is its own, so two routers can live in one process. A backend's counters exist
    from `added` until `removed`.

    Args:
        backends: the backends at the moment of the call.
        held: how many requests the policy holds at the moment of the call.
        queued: how many wait to be let in.
        lost: how many lines of the log could not be written so far.
    """

    def __init__(
        self,
        backends: Callable[[], Iterable[BackendState]],
        held: Callable[[], int],
        queued: Callable[[], int] = lambda: 0,
        lost: Callable[[], int] = lambda: 0,
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_State(backends, held, queued, lost))
        self._requests = self._counter(
            "requests",
            "Requests to routed endpoints that ended, by status sent to the client",
            *("endpoint", "code"),
        )
        self._outcomes = self._counter("outcomes", "How requests ended", "outcome")
        self._chosen = self._counter(
            "chosen", "Decisions for a backend, by the policy that made them", "backend", "policy"
        )
        self._retries = self._counter("retries", "Attempts after the first", "backend")
        self._errors = self._counter("errors", "Attempts that failed", "backend", "kind")
        self._agrees = self._counter(
            "shadow_agrees",
            "Requests that were sent, by whether a shadow policy agrees (error: it failed)",
            *("shadow", "agrees"),
        )
        self._ttft = self._of_endpoints(
            "ttft", "From arrival to the first token, of streamed answers with 200", TTFT_BUCKETS
        )
        self._e2e = self._of_endpoints(
            "e2e", "From arrival to the end, of whole answers with 200", E2E_BUCKETS
        )
        self._decision = self._histogram(
            "decision", "Time the policy took for one decision", DECISION_BUCKETS
        )
        for outcome in OUTCOMES:
            self._outcomes[outcome,]  # there from the start, at zero

    def _counter(self, name: str, documentation: str, *labels: str) -> _Children[Counter]:
        name = f"makespan_router_{name}"
        return _Children(Counter(name, documentation, labels, registry=self.registry))

    def _histogram(
        self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        name = f"makespan_router_{name}_seconds"
        return Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)

    def _of_endpoints(
        self, name: str, documentation: str, buckets: tuple[float, ...]
    ) -> _Children[Histogram]:
        """Histograms of the routed endpoints, there from the start."""
        children = _Children(self._histogram(name, documentation, buckets, "endpoint"))
        for endpoint in ENDPOINTS:
            children[endpoint,]
        return children

    def decision(self, seconds: float) -> None:
        """The policy has answered, which took it that long."""
        self._decision.observe(seconds)

    def shadow(self, name: str, agrees: bool | None) -> None:
        """What a shadow policy would have done with a request that was sent; None: it failed."""
        self._agrees[name, AGREES[agrees]].inc()

    def added(self, backend: str, policies: Iterable[str]) -> None:
        """A backend is new: its counters are there, at zero, before anything happens to it.

        A counter that appears with what happened since the last scrape hides that: to Prometheus
        it has not grown.

        Args:
            backend: its URL.
            policies: that may choose it.
        """
        for policy in policies:
            self._chosen[backend, policy]
        for kind in ERRORS:
            self._errors[backend, kind]
        self._retries[backend,]

    def chosen(self, backend: str, policy: str) -> None:
        self._chosen[backend, policy].inc()

    def retried(self, backend: str) -> None:
        """A request that failed elsewhere is sent to this backend."""
        self._retries[backend,].inc()

    def error(self, backend: str, kind: str) -> None:
        """An attempt has failed.

        Args:
            backend: its URL.
            kind: one of a few fixed words, never the text of an exception.
        """
        self._errors[backend, kind].inc()

    def ended(
        self,
        endpoint: str,
        code: int,
        outcome: Outcome,
        ttft_s: float | None,
        e2e_s: float | None,
    ) -> None:
        """A request has ended.

        Args:
            endpoint: path of the request.
            code: HTTP status that the client was sent, or would have been.
            outcome: how it ended.
            ttft_s: from arrival to the first token; None: not to be counted.
            e2e_s: from arrival to the end; None: not to be counted.
        """
        endpoint = endpoint if endpoint in ENDPOINTS else "other"
        self._requests[endpoint, code].inc()
        self._outcomes[outcome,].inc()
        if ttft_s is not None:
            self._ttft[endpoint,].observe(ttft_s)
        if e2e_s is not None:
            self._e2e[endpoint,].observe(e2e_s)

    def removed(self, backend: str) -> None:
        """The backend is gone, and its series with it."""
        for children in (self._chosen, self._retries, self._errors):
            children.remove(backend)

    def text(self) -> tuple[bytes, str]:
        """Body and content type of the answer to `/metrics`."""
        return generate_latest(_WithoutCreated(self.registry)), CONTENT_TYPE
