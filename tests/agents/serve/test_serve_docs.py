"""The pages about the live router say what its configuration and its metrics are."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from makespan.agents.serve.config import FORWARDED, RouterConfig
from makespan.agents.serve.exporter import ENDPOINTS, Exporter
from makespan.agents.serve.status import BackendState
from makespan.experiments.serve import KEYS, ServeConfig

DOCS = Path(__file__).resolve().parents[3] / "docs"
SERVE, DEPLOY = ((DOCS / name).read_text() for name in ("serve.md", "serve_deploy.md"))

OPTION = re.compile(r"^\| `(--[a-z.-]+)` \| ([^|]*?) \|", re.MULTILINE)
METRIC = re.compile(r"makespan_router_[a-z0-9_]+")

WORDS = {None: "none", (): "none", "": "empty", True: "on", FORWARDED: "see --help"}
"""How defaults that are no number or name are written."""


def default_of(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def options(config: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every option of the command line and its default, as the page writes it."""
    for field in fields(config):
        default = default_of(field)
        if is_dataclass(default):
            inner = "" if field.name == "router" else f"{prefix}{field.name}."
            yield from options(type(default), inner)
        else:
            word = WORDS.get(default, str(default)) if _is_word(default) else str(default)
            yield f"--{prefix}{field.name}".replace("_", "-"), word


def _is_word(default: Any) -> bool:
    return default is None or isinstance(default, str | bool | tuple)


def test_every_option_is_listed_with_its_default():
    listed = {name: default.replace("`", "") for name, default in OPTION.findall(SERVE)}
    assert listed == dict(options(ServeConfig))


def test_options_that_are_named_exist():
    named = set(re.findall(r"--(?:retry|breaker|timeouts|health|gauges|limits)\.[a-z-]+", DEPLOY))
    assert named <= set(dict(options(ServeConfig)))
    assert len(named) > 5


def metrics() -> set[str]:
    """What the router exports once everything has happened."""
    state = BackendState("http://a", True, "", "closed", 0, 0, 0, 0.0, 0.0, 0.0, 0.0)
    exporter = Exporter(lambda: [state], lambda: 0)
    exporter.chosen("http://a", "lmetric")
    exporter.retried("http://a")
    exporter.error("http://a", "connect")
    exporter.shadow("agent", True)
    exporter.ended("/health", 200, "finished", 1.0, 1.0)
    return set(METRIC.findall(exporter.text()[0].decode()))


def family(metric: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", metric)


def test_every_metric_is_listed():
    exported = {family(name) for name in metrics()}
    listed = set(re.findall(r"^\| `(makespan_router_[a-z0-9_]+)`", SERVE, re.MULTILINE))
    assert listed == {name for name in exported if f"{name}_total" not in exported}


def test_alerts_are_about_metrics_that_exist():
    named = set(METRIC.findall(DEPLOY))
    assert named <= metrics()
    assert len(named) > 5


def test_endpoints_headers_and_secrets_are_named():
    names = [*ENDPOINTS, *KEYS.values(), "x-makespan-backend", "x-session-id", "x-slo-class"]
    assert [name for name in names if f"`{name}" not in SERVE and f" {name}`" not in SERVE] == []


def test_constants_in_the_prose_are_those_of_the_configuration():
    limits, timeouts = RouterConfig().limits, RouterConfig().timeouts
    assert f"`--limits.in-flight` ({limits.in_flight})" in DEPLOY
    assert f"`--timeouts.drain-s` ({timeouts.drain_s:.0f})" in DEPLOY
    assert f"client_max_body_size {limits.body_bytes // 2**20}m;" in DEPLOY
    read_timeout = re.search(r"proxy_read_timeout (\d+)s;", DEPLOY)
    assert read_timeout
    assert int(read_timeout[1]) > timeouts.first_byte_s
