"""One call per event feeds both the metrics and the page."""

from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from makespan.agents.serve.status import HOLD, BackendState
from makespan.agents.serve.telemetry import Telemetry

A, B, GONE = "http://a:8000", "http://b:8000", "http://gone:8000"


def state(url: str) -> BackendState:
    return BackendState(url, True, "", "closed", 1, 10, 20, 1.0, 0.0, 0.5, 0.1)


class Router:
    """A telemetry, and the list of backends that it is told about."""

    def __init__(self, *urls: str, shadow: Sequence[str] = ()) -> None:
        self.urls = list(urls)
        self.asked = 0
        self.telemetry = Telemetry("lmetric", shadow, self.backends, lambda: 6, now=10.0)

    def backends(self) -> list[BackendState]:
        self.asked += 1
        return [state(url) for url in self.urls]

    def total(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.telemetry.metrics()[0].decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"makespan_router_{name}" and labels.items() <= sample.labels.items()
        )

    def page(self) -> dict:
        return self.telemetry.snapshot(11.0, draining=False)

    def row(self, url: str) -> dict:
        return next(row for row in self.page()["backends"] if row["url"] == url)


def test_metrics_and_page_agree():
    router = Router(A, B)
    telemetry = router.telemetry
    telemetry.decision(10.1, "r-1", 100, A, "lmetric", {}, 2e-4)
    telemetry.error(A, "connect")
    telemetry.decision(10.2, "r-1", 100, B, "fallback", {}, 3e-4)
    telemetry.retried(B)
    telemetry.ended("/v1/completions", 200, "finished", B, 0.05, 1.5)
    telemetry.ended("/v1/completions", 503, "rejected", None, None, 0.0)
    assert router.total("chosen_total", backend=A, policy="lmetric") == router.row(A)["chosen"] == 1
    assert router.total("chosen_total", backend=B, policy="fallback") == 1
    assert router.total("errors_total", backend=A) == router.row(A)["errors"] == 1
    assert router.total("retries_total") == router.page()["totals"]["retries"] == 1
    assert router.total("requests_total") == router.page()["totals"]["requests"] == 2
    assert router.total("outcomes_total", outcome="rejected") == 1
    assert router.page()["totals"]["rejected"] == 1
    assert router.row(B)["served"] == 1
    assert router.row(B)["ttft_ms"]["p50"] == 50.0
    assert router.total("ttft_seconds_sum") == 0.05
    assert router.total("decision_seconds_count") == len(router.page()["decisions"]) == 2
    assert router.total("held") == router.page()["held"] == 6
    assert router.total("in_flight") == router.page()["in_flight"] == 2


def test_holding_is_a_decision_but_chooses_no_backend():
    router = Router(A)
    router.telemetry.decision(10.1, "r", 100, HOLD, "lmetric", {}, 2e-4)
    assert router.asked == 0
    assert router.total("decision_seconds_count") == 1
    assert router.total("chosen_total") == 0
    assert router.page()["decisions"][0]["choice"] == HOLD


def test_a_shadow_agrees_if_it_would_have_done_the_same():
    router = Router(A, B, shadow=["same", "other"])
    for choice, other in ((A, B), (HOLD, A)):
        shadow = {"same": choice, "other": other}
        router.telemetry.decision(10.1, "r", 100, choice, "lmetric", shadow, 2e-4)
    assert router.total("shadow_agrees_total", shadow="same", agrees="true") == 2
    assert router.total("shadow_agrees_total", shadow="other", agrees="false") == 2
    assert router.page()["decisions"][0]["shadow"] == {"same": HOLD, "other": A}


def test_a_late_event_does_not_bring_a_removed_backend_back():
    router = Router(A, GONE)
    router.telemetry.error(GONE, "timeout")
    assert router.total("errors_total", backend=GONE) == 1
    router.urls.remove(GONE)
    router.telemetry.removed(GONE)
    router.telemetry.error(GONE, "timeout")
    router.telemetry.retried(GONE)
    router.telemetry.ended("/v1/completions", 502, "failed", GONE, None, 9.0)
    assert GONE not in router.telemetry.metrics()[0].decode()
    assert router.page()["totals"]["failed"] == 1
    assert router.page()["totals"]["retries"] == 1
    router.urls.append(GONE)
    assert router.row(GONE)["errors"] == 0


def test_the_backends_are_looked_up_once_each_not_at_every_event():
    router = Router(A, B)
    for _ in range(100):
        for backend in (A, B):
            router.telemetry.decision(10.1, "r", 100, backend, "lmetric", {}, 2e-4)
            router.telemetry.ended("/v1/completions", 200, "finished", backend, 0.1, 0.2)
    assert router.asked == 2
