"""The router's metrics, read back by Prometheus's own parser, and the alerts about them."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from makespan.agents.serve.breaker import State
from makespan.agents.serve.exporter import (
    BREAKER_STATE,
    DECISION_BUCKETS,
    ENDPOINTS,
    ERRORS,
    Exporter,
)
from makespan.agents.serve.status import BackendState
from makespan.agents.serve.upstream import Kind

DEPLOY = Path(__file__).resolve().parents[3] / "docs" / "serve_deploy.md"

with_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")

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
    router.shadow("agent", None)
    router.ended("/v1/completions", 200, "finished", 0.04, 1.2)
    assert value(router, "chosen_total", backend=A.url, policy="lmetric") == 2
    assert value(router, "chosen_total", backend=B.url, policy="round_robin") == 1
    assert value(router, "retries_total", backend=B.url) == 1
    assert value(router, "errors_total", backend=A.url, kind="connect") == 1
    assert value(router, "shadow_agrees_total", shadow="agent", agrees="true") == 1
    assert value(router, "shadow_agrees_total", shadow="agent", agrees="false") == 1
    assert value(router, "shadow_agrees_total", shadow="agent", agrees="error") == 1
    assert value(router, "requests_total", endpoint="/v1/completions", code="200") == 1
    assert value(router, "outcomes_total", outcome="finished") == 1


def test_outcomes_are_there_before_the_first_request():
    router = exporter()
    for outcome in ("finished", "failed", "cancelled", "rejected"):
        assert value(router, "outcomes_total", outcome=outcome) == 0


def test_lines_that_the_log_lost_are_counted():
    lost = [0]
    router = Exporter(lambda: [], lambda: 0, lost=lambda: lost[0])
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


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_routed_endpoints_are_told_apart(endpoint: str):
    router = exporter()
    router.ended(endpoint, 200, "finished", 0.02, 0.1)
    assert value(router, "requests_total", endpoint=endpoint, code="200") == 1
    for each in ENDPOINTS:
        count = 1 if each == endpoint else 0  # and not absent
        assert value(router, "ttft_seconds_count", endpoint=each) == count
        assert value(router, "e2e_seconds_count", endpoint=each) == count


def test_gauges_are_those_of_the_moment_of_the_scrape():
    backends, held, queued = [A], [2], [0]
    router = Exporter(lambda: backends, lambda: held[0], lambda: queued[0])
    assert value(router, "held") == 2
    assert value(router, "queued") == 0
    assert value(router, "in_flight", backend=A.url) == 3
    assert value(router, "scrape_age_seconds", backend=A.url) == 0.05
    backends[:] = [replace(A, in_flight=7, gauge_age_s=nan), B]
    held[0], queued[0] = 5, 9
    assert value(router, "held") == 5
    assert value(router, "queued") == 9
    assert value(router, "in_flight", backend=A.url) == 7
    assert value(router, "scrape_age_seconds", backend=A.url) is None  # never scraped
    assert value(router, "up", backend=A.url) == 1
    assert value(router, "up", backend=B.url) == 0


def test_breaker_states_are_numbers_that_the_help_explains():
    states = [replace(A, url=state, breaker=state) for state in ("closed", "half-open", "open")]
    router = exporter(*states)
    found = [value(router, "breaker_state", backend=state.url) for state in states]
    assert found == [0, 1, 2]
    assert set(BREAKER_STATE) == set(get_args(State))
    assert "0 closed, 1 half-open (probing), 2 open" in documentation(router, "breaker_state")


def documentation(exporter: Exporter, name: str) -> str:
    """What the text says that the metric is."""
    found = re.findall(rf"# HELP makespan_router_{name} (.*)", exporter.text()[0].decode())
    assert len(found) == 1
    return found[0]


def test_the_help_says_what_is_counted():
    router = exporter()
    assert "that the policy holds" in documentation(router, "held")
    assert "wait to be let in" in documentation(router, "queued")
    assert "routed endpoints" in documentation(router, "requests_total")
    assert "first token" in documentation(router, "ttft_seconds")
    assert "with 200" in documentation(router, "ttft_seconds")
    assert "with 200" in documentation(router, "e2e_seconds")
    assert "not believed" in documentation(router, "scrape_age_seconds")


def test_series_of_a_removed_backend_are_gone_and_others_stay():
    router = exporter(A)
    for backend in (A.url, B.url):
        router.added(backend, ["lmetric"])
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


def test_a_new_backend_s_counters_are_there_at_zero():
    router = exporter(A)
    router.added(A.url, ["lmetric", "least_requests"])
    kinds = {*get_args(Kind), "stream timeout", "stream broken", "429", "500", "502", "503"}
    assert set(ERRORS) == kinds
    for kind in kinds:
        assert value(router, "errors_total", backend=A.url, kind=kind) == 0
    for policy in ("lmetric", "least_requests"):
        assert value(router, "chosen_total", backend=A.url, policy=policy) == 0
    assert value(router, "retries_total", backend=A.url) == 0


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


def test_times_that_are_none_are_not_counted():
    router = exporter()
    router.ended("/v1/completions", 200, "finished", None, 2.5)
    router.ended("/v1/completions", 503, "rejected", None, None)
    assert value(router, "e2e_seconds_count", endpoint="/v1/completions") == 1
    assert value(router, "e2e_seconds_sum", endpoint="/v1/completions") == 2.5
    assert value(router, "ttft_seconds_count", endpoint="/v1/completions") == 0


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


# What Prometheus's own tool says.


def promtool(*arguments: str | Path, text: bytes = b"") -> None:
    """Run it; it must have no complaint."""
    done = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stdout + done.stderr


@with_promtool
def test_the_metrics_are_named_as_prometheus_likes():
    router = exporter(A, B)
    router.added(A.url, ["lmetric"])
    router.shadow("agent", None)
    router.ended("/v1/completions", 200, "finished", 0.04, 1.2)
    promtool("check", "metrics", text=router.text()[0])


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A file with the alerts of the page."""
    (text,) = re.findall(r"```yaml\n(groups:\n.*?)```", DEPLOY.read_text(), re.DOTALL)
    path = tmp_path / "rules.yml"
    path.write_text(text)
    return path


@with_promtool
def test_the_alerts_are_rules(rules: Path):
    promtool("check", "rules", rules)


def outcomes(**growth: int) -> dict[str, str]:
    """How requests ended; the numbers are those in fifteen seconds."""
    return {f'outcomes_total{{outcome="{name}"}}': f"0+{n}x80" for name, n in growth.items()}


def codes(**growth: int) -> dict[str, str]:
    name = 'requests_total{endpoint="/v1/completions",code="%s"}'
    return {name % code.removeprefix("c"): f"0+{n}x80" for code, n in growth.items()}


UP, AGE = 'up{backend="http://a"}', 'scrape_age_seconds{backend="http://a"}'

SAYS = [
    ("RequestsFail", outcomes(finished=50, rejected=50) | codes(c200=50, c400=50), False),
    ("RequestsFail", outcomes(finished=50, cancelled=50) | codes(c200=50, c0=50), False),
    ("RequestsFail", outcomes(finished=98, failed=2) | codes(c200=98, c502=2), True),
    ("RequestsFail", outcomes(finished=98, failed=2) | codes(c200=100), True),  # in mid-stream
    ("RequestsFail", outcomes(finished=98, rejected=2) | codes(c200=98, c503=2), True),
    ("RequestsFail", outcomes(finished=994, failed=6) | codes(c200=994, c503=6), False),
    ("GaugesUnknown", {UP: "1x80", AGE: "0.3x80"}, False),
    ("GaugesUnknown", {UP: "0x80"}, False),
    ("GaugesUnknown", {UP: "1x80"}, True),
    ("GaugesUnknown", {UP: "1x80", AGE: "0+15x80"}, True),  # no traffic: nobody forgets them
    ("RouterFull", {"queued": "0x80"}, False),
    ("RouterFull", {"queued": "1x80"}, True),
]
"""An alert, series of the router, and whether it fires."""


@with_promtool
@pytest.mark.parametrize(("alert", "series", "fires"), SAYS)
def test_an_alert_fires_for_what_it_is_named_after(
    rules: Path, alert: str, series: Mapping[str, str], fires: bool
):
    labels = {"backend": "http://a"} if UP in series else {}
    if alert == "RequestsFail":
        labels |= {"instance": "r"}
        series = {name.replace("{", '{instance="r",'): values for name, values in series.items()}
    given = [{"series": f"makespan_router_{s}", "values": v} for s, v in series.items()]
    said = {
        "eval_time": "15m",
        "alertname": alert,
        "exp_alerts": [{"exp_labels": labels}] if fires else [],
    }
    tests = [{"interval": "15s", "input_series": given, "alert_rule_test": [said]}]
    test = rules.with_name("test.json")
    test.write_text(json.dumps({"rule_files": [rules.name], "tests": tests}))
    promtool("test", "rules", test)
