"""One call per event feeds both the metrics and the page."""

from collections.abc import Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families

from makespan.agents.serve.dispatcher import Choice
from makespan.agents.serve.exporter import ENDPOINTS, ERRORS
from makespan.agents.serve.status import FAILED, HOLD, BackendState, Outcome
from makespan.agents.serve.telemetry import Telemetry

A, B, GONE = "http://a:8000", "http://b:8000", "http://gone:8000"


def state(url: str) -> BackendState:
    return BackendState(url, True, "", "closed", 1, 10, 20, 1.0, 0.0, 0.5, 0.1)


class Router:
    """A telemetry, and the list of backends that it is told about."""

    def __init__(self, *urls: str, shadow: Sequence[str] = ()) -> None:
        self.urls = list(urls)
        self.asked = 0
        self.telemetry = Telemetry(
            "lmetric", shadow, self.backends, lambda: 6, lambda: 4, old_after_s=3.0, now=10.0
        )

    def backends(self) -> list[BackendState]:
        self.asked += 1
        return [state(url) for url in self.urls]

    def total(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        return sum(self.values(name, **labels))

    def values(self, name: str, **labels: str) -> list[float]:
        families = text_string_to_metric_families(self.telemetry.metrics()[0].decode())
        return [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"makespan_router_{name}" and labels.items() <= sample.labels.items()
        ]

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
    assert router.total("queued") == router.page()["queued"] == 4
    assert router.page()["old_after_s"] == 3.0
    assert router.total("in_flight") == router.page()["in_flight"] == 2


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (404, "finished"),
        (400, "rejected"),
        (401, "rejected"),
        (429, "failed"),
        (503, "failed"),
        (200, "failed"),  # in mid-stream
        (200, "cancelled"),
    ],
)
def test_only_whole_answers_with_200_have_latencies(code: int, outcome: Outcome):
    router = Router(A)
    router.telemetry.ended("/v1/completions", 200, "finished", A, 0.05, 1.5)
    for _ in range(9):
        router.telemetry.ended("/v1/completions", code, outcome, A, 0.001, 0.002)
    for name, page_ms, seconds in (("ttft", "ttft_ms", 0.05), ("e2e", "e2e_ms", 1.5)):
        assert router.total(f"{name}_seconds_count") == 1
        assert router.total(f"{name}_seconds_sum") == seconds
        assert router.row(A)[page_ms]["p50"] == 1000 * seconds
    assert router.total("requests_total") == 10


def test_latencies_of_endpoints_are_told_apart():
    router = Router(A)
    for seconds, endpoint in enumerate(ENDPOINTS, start=1):
        router.telemetry.ended(endpoint, 200, "finished", A, 0.1 * seconds, seconds)
    for seconds, endpoint in enumerate(ENDPOINTS, start=1):
        assert router.values("e2e_seconds_sum", endpoint=endpoint) == [seconds]
        assert router.values("ttft_seconds_sum", endpoint=endpoint) == [0.1 * seconds]


def test_counters_of_a_backend_begin_at_zero():
    router = Router(A)
    for _ in range(2):
        assert router.values("errors_total", backend=A) == [0] * len(ERRORS)
        assert router.values("retries_total", backend=A) == [0]
        assert router.values("chosen_total", backend=A, policy="lmetric") == [0]
        assert router.values("chosen_total", backend=A, policy="least_requests") == [0]
        for _ in range(10):
            router.telemetry.error(A, "connect")
        assert router.values("errors_total", backend=A, kind="connect") == [10]
        router.urls.remove(A)
        router.telemetry.removed(A)
        assert A not in router.telemetry.metrics()[0].decode()
        router.urls.append(A)


def test_holding_is_a_decision_but_chooses_no_backend():
    router = Router(A)
    router.telemetry.decision(10.1, "r", 100, HOLD, "lmetric", {}, 2e-4)
    assert router.asked == 0
    assert router.total("decision_seconds_count") == 1
    assert router.total("chosen_total") == 0
    assert router.page()["decisions"][0]["choice"] == HOLD


def ended_by(router: Router, chosen: str, **shadows: str) -> None:
    """A request has ended about which this was decided last."""
    choice = Choice(chosen, "lmetric", shadows, 2e-4)
    router.telemetry.ended("/v1/completions", 200, "finished", A, None, 1.0, choice)


def test_a_shadow_agrees_if_it_would_have_done_the_same():
    router = Router(A, B, shadow=["same", "other"])
    ended_by(router, A, same=A, other=B)
    ended_by(router, A, same=A, other=HOLD)
    assert router.total("shadow_agrees_total", shadow="same", agrees="true") == 2
    assert router.total("shadow_agrees_total", shadow="other", agrees="false") == 2


def test_a_shadow_that_failed_does_not_disagree():
    router = Router(A, shadow=["broken"])
    ended_by(router, A, broken=FAILED)
    assert router.values("shadow_agrees_total") == [1]
    assert router.values("shadow_agrees_total", agrees="error") == [1]


def test_a_request_counts_once_for_a_shadow_and_only_if_it_was_sent():
    router = Router(A, B, shadow=["agent"])
    for choice in (HOLD, HOLD, B, A):  # held, tried and tried again
        router.telemetry.decision(10.1, "r", 100, choice, "lmetric", {"agent": A}, 2e-4)
    assert router.values("shadow_agrees_total") == []
    ended_by(router, A, agent=A)
    assert router.values("shadow_agrees_total") == [1]
    ended_by(router, HOLD, agent=HOLD)  # its client left
    router.telemetry.ended("/v1/completions", 401, "rejected", None, None, 0.0)
    assert router.values("shadow_agrees_total") == [1]
    assert [shown["shadow"] for shown in router.page()["decisions"]] == [{"agent": A}] * 4


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
    assert router.asked == 1


def test_requests_that_wait_to_be_let_in_are_seen():
    pytest.importorskip("starlette")
    from fault_backends import Gate, alone, eventually, servers
    from running_router import quick, routing

    @alone
    async def run():
        gate, settings = Gate(), quick(limits={"in_flight": 1}, gauges={"old_after_s": 7.0})
        async with servers(gate) as made, routing(*made, settings=settings) as live:
            asked = [live.ask(stream=True) for _ in range(3)]
            await eventually(lambda: live.router.status()["queued"] == 2)
            assert b"makespan_router_queued 2.0" in live.router.metrics()[0]
            assert live.router.status()["held"] == 0
            assert live.router.status()["old_after_s"] == 7.0
            gate.open.set()
            assert [(await request.done()).status for request in asked] == [200] * 3
            assert live.router.status()["queued"] == 0

    run()


def test_a_request_that_is_retried_counts_once_for_a_shadow():
    pytest.importorskip("starlette")
    from fault_backends import alone, good, reset, servers
    from running_router import first, routing

    @alone
    async def run():
        shadows = {"same": lambda: first}
        async with (
            servers(reset, good) as made,
            routing(*made, shadows=shadows) as live,
        ):
            for _ in range(3):
                assert (await live.get()).status == 200
            assert live.totals()["retries"] == 3
            text = live.router.metrics()[0]
            assert b'shadow_agrees_total{agrees="true",shadow="same"} 3.0' in text

    run()
