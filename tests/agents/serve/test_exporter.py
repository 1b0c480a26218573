"""The router's metrics, read back by Prometheus's own parser."""

from dataclasses import replace
from math import nan

import pytest
from prometheus_client.parser import text_string_to_metric_families

from makespan.agents.serve.exporter import DECISION_BUCKETS, ENDPOINTS, Exporter
from makespan.agents.serve.status import BackendState

A = BackendState("http://a:8000", True, "", "closed", 3, 900, 1_200, 2.0, 1.0, 0.25, 0.05)
B = replace(A, url="http://b:8000", up=False, why="breaker open", breaker="open", in_flight=0)


def exporter(*backends: BackendState, held: int = 0) -> Exporter:
    return Exporter(lambda: backends, lambda: held)


def samples(exporter: Exporter) -> dict[tuple[str, frozenset], float]:
    """Value of every sample, by its name without the prefix and its labels."""
    found = {}
    for family in text_string_to_metric_families(exporter.text()[0].decode()):
        for sample in family.samples:
            name = sample.name.removeprefix("makespan_router_")
            found[name, frozenset(sample.labels.items())] = sample.value
    return found


def value(exporter: Exporter, name: str, **labels: str) -> float | None:
    return samples(exporter).get((name, frozenset(labels.items())))


def test_each_event_is_counted_under_its_labels():
    router = exporter(A, B)
    router.chosen(A.url, "lmetric")
    router.chosen(A.url, "lmetric")
    router.chosen(B.url, "round_robin")
    router.retried(B.url)
    router.error(A.url, "connect")
    router.shadow("agent", True)
    router.shadow("agent", False)
    router.ended("/v1/completions", 200, "finished", 0.04, 1.2)
    assert value(router, "chosen_total", backend=A.url, policy="lmetric") == 2
    assert value(router, "chosen_total", backend=B.url, policy="round_robin") == 1
    assert value(router, "retries_total", backend=B.url) == 1
    assert value(router, "errors_total", backend=A.url, kind="connect") == 1
    assert value(router, "shadow_agrees_total", shadow="agent", agrees="true") == 1
    assert value(router, "shadow_agrees_total", shadow="agent", agrees="false") == 1
    assert value(router, "requests_total", endpoint="/v1/completions", code="200") == 1
    assert value(router, "outcomes_total", outcome="finished") == 1


def test_outcomes_are_there_before_the_first_request():
    router = exporter()
    for outcome in ("finished", "failed", "cancelled", "rejected"):
        assert value(router, "outcomes_total", outcome=outcome) == 0


def test_lines_that_the_log_lost_are_counted():
    lost = [0]
    router = Exporter(lambda: [], lambda: 0, lambda: lost[0])
    assert value(router, "log_lines_lost_total") == 0
    lost[0] = 4
    assert value(router, "log_lines_lost_total") == 4


def test_paths_of_clients_make_no_series():
    router = exporter()
    for number in range(50):
        router.ended(f"/v1/../{number}", 404, "rejected", None, 0.001)
    paths = [dict(labels) for name, labels in samples(router) if name == "requests_total"]
    assert paths == [{"endpoint": "other", "code": "404"}]
    assert value(router, "requests_total", endpoint="other", code="404") == 50


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_endpoints_of_the_router_are_told_apart(endpoint: str):
    router = exporter()
    router.ended(endpoint, 200, "finished", None, 0.1)
    assert value(router, "requests_total", endpoint=endpoint, code="200") == 1


def test_gauges_are_those_of_the_moment_of_the_scrape():
    backends, held = [A], [2]
    router = Exporter(lambda: backends, lambda: held[0])
    assert value(router, "held") == 2
    assert value(router, "in_flight", backend=A.url) == 3
    assert value(router, "scrape_age_seconds", backend=A.url) == 0.05
    backends[:] = [replace(A, in_flight=7, gauge_age_s=nan), B]
    held[0] = 5
    assert value(router, "held") == 5
    assert value(router, "in_flight", backend=A.url) == 7
    assert value(router, "scrape_age_seconds", backend=A.url) is None  # never scraped
    assert value(router, "up", backend=A.url) == 1
    assert value(router, "up", backend=B.url) == 0


def test_breaker_states_are_numbers_that_the_help_explains():
    states = [replace(A, url=state, breaker=state) for state in ("closed", "half-open", "open")]
    router = exporter(*states)
    found = [value(router, "breaker_state", backend=state.url) for state in states]
    assert found == [0, 1, 2]
    (line,) = (
        line
        for line in router.text()[0].decode().splitlines()
        if line.startswith("# HELP makespan_router_breaker_state ")
    )
    assert "0 closed, 1 half-open (probing), 2 open" in line


def test_series_of_a_removed_backend_are_gone_and_others_stay():
    router = exporter(A)
    for backend in (A.url, B.url):
        router.chosen(backend, "lmetric")
        router.chosen(backend, "agent")
        router.retried(backend)
        router.error(backend, "timeout")
    router.removed(B.url)
    left = [labels for _, labels in samples(router)]
    assert ("backend", A.url) in frozenset().union(*left)
    assert ("backend", B.url) not in frozenset().union(*left)


def test_a_backend_that_comes_back_starts_at_zero():
    router = exporter(A)
    router.retried(A.url)
    router.retried(A.url)
    router.removed(A.url)
    router.retried(A.url)
    assert value(router, "retries_total", backend=A.url) == 1


def test_decisions_fall_into_buckets_of_tens_of_microseconds():
    assert DECISION_BUCKETS[0] == 50e-6
    assert DECISION_BUCKETS[-1] == 0.1
    router = exporter()
    router.decision(40e-6)
    router.decision(300e-6)
    assert value(router, "decision_seconds_bucket", le="5e-05") == 1
    assert value(router, "decision_seconds_bucket", le="0.0002") == 1
    assert value(router, "decision_seconds_bucket", le="0.0005") == 2
    assert value(router, "decision_seconds_count") == 2


def test_only_what_finished_has_an_end_to_end_time():
    router = exporter()
    router.ended("/v1/completions", 200, "finished", 0.04, 2.5)
    router.ended("/v1/completions", 200, "cancelled", 0.06, 0.1)
    router.ended("/v1/completions", 503, "rejected", None, 0.0)
    assert value(router, "e2e_seconds_count") == 1
    assert value(router, "e2e_seconds_sum") == 2.5
    assert value(router, "ttft_seconds_count") == 2


def test_two_routers_in_one_process_do_not_share():
    one, other = exporter(A), exporter(A)
    one.retried(A.url)
    assert value(one, "retries_total", backend=A.url) == 1
    assert value(other, "retries_total", backend=A.url) is None


def test_the_text_says_what_it_is_and_has_no_times_of_creation():
    router = exporter(A)
    router.ended("/v1/completions", 200, "finished", 0.04, 1.2)
    body, content_type = router.text()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"python_gc_collections_total" in body
    assert b"_created" not in body
    router.text()
    assert router.text()[0].count(b"# TYPE makespan_router_requests_total counter") == 1


def test_a_hostile_url_stays_inside_its_label():
    url = 'http://x/"} 1\nmakespan_router_held 99\\'
    router = exporter(replace(A, url=url))
    router.chosen(url, "lmetric")
    assert value(router, "chosen_total", backend=url, policy="lmetric") == 1
    assert value(router, "held") == 0
