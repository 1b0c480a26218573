"""What the live router can be told: what is refused, how URLs are written, how long it waits."""

import re
from dataclasses import FrozenInstanceError, astuple, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve.config import (
    FORWARDED,
    BackendConfig,
    BreakerConfig,
    GaugeConfig,
    HealthConfig,
    Keys,
    LimitConfig,
    RetryConfig,
    RouterConfig,
    TimeoutConfig,
)
from makespan.agents.serve.upstream import HOP_BY_HOP, OWN
from makespan.envs.llm.config import ReplicaConfig

DOCS = Path(__file__).resolve().parents[3] / "docs"

SECTIONS = (
    RetryConfig,
    BreakerConfig,
    TimeoutConfig,
    HealthConfig,
    GaugeConfig,
    LimitConfig,
    RouterConfig,
)
NAN, INF = float("nan"), float("inf")


def numbers(section: type) -> list[str]:
    """Fields of a section that are numbers; `bool` is none."""
    return [f.name for f in fields(section) if type(f.default) in (int, float)]


NUMBERS = [(section, name) for section in SECTIONS for name in numbers(section)]
OTHERS = {"factor", "jitter", "queue"}
"""Numbers that have limits of their own."""

POSITIVE = [(section, name) for section, name in NUMBERS if name not in OTHERS]


def refusal(section: type, **values: Any) -> str:
    """What is said of a value that is refused."""
    with pytest.raises(ValueError, match="must") as caught:
        section(**values)
    return str(caught.value)


# Numbers.


def test_every_section_has_numbers_and_all_of_them_are_tried():
    assert {section for section, _ in NUMBERS} == set(SECTIONS)
    assert {name for _, name in NUMBERS} > OTHERS


@pytest.mark.parametrize(("section", "name"), POSITIVE)
@pytest.mark.parametrize("bad", [0, -1, NAN])
def test_a_number_that_is_not_positive_is_refused_by_name(section: type, name: str, bad: float):
    assert refusal(section, **{name: bad}) == f"{name} must be positive, not {bad}"


@pytest.mark.parametrize(("section", "name"), POSITIVE)
@pytest.mark.parametrize("good", [1, 10**9])
def test_a_number_that_is_positive_is_taken_as_it_is(section: type, name: str, good: int):
    assert getattr(section(**{name: good}), name) == good


@pytest.mark.parametrize(
    ("section", "name", "bad"),
    [
        *((RetryConfig, "factor", bad) for bad in (0.99, 0, -1, NAN)),
        *((RetryConfig, "jitter", bad) for bad in (-0.01, 1, 1.5, NAN, INF)),
        *((LimitConfig, "queue", bad) for bad in (-1, NAN)),
    ],
)
def test_a_number_with_limits_of_its_own_is_refused_by_name(section: type, name: str, bad: float):
    said = refusal(section, **{name: bad})
    assert said.startswith(f"{name} must ")
    assert said.endswith(f", not {bad}")


@pytest.mark.parametrize(
    ("section", "name", "good"),
    [
        (RetryConfig, "factor", 1),
        (RetryConfig, "jitter", 0),
        (RetryConfig, "jitter", 0.999),
        (LimitConfig, "queue", 0),
    ],
)
def test_limits_themselves_are_taken(section: type, name: str, good: float):
    assert getattr(section(**{name: good}), name) == good


@pytest.mark.parametrize("config", [*(s() for s in SECTIONS), BackendConfig("http://a"), Keys()])
def test_nothing_can_be_set_afterwards(config: Any):
    for field in fields(config):
        with pytest.raises(FrozenInstanceError):
            setattr(config, field.name, getattr(config, field.name))


# Defaults.


@pytest.mark.parametrize(
    ("section", "known"),
    [
        (RetryConfig, (5, 0.05, 1.5, 30.0, 0.2)),
        (BreakerConfig, (10, 3, 60.0)),
        (HealthConfig, (1.0, 5.0, 3, 2)),
    ],
)
def test_defaults_that_operators_know_from_other_gateways_stay(section: type, known: tuple):
    assert astuple(section()) == known


DEFAULTS = RouterConfig()
GAUGES, HEALTH, DRAIN_S = DEFAULTS.gauges, DEFAULTS.health, DEFAULTS.timeouts.drain_s
WORDS = {"one": 1, "two": 2, "three": 3}
PROSE = {
    "period of scrapes": ("serve", r"of each backend every ([\d.]+) s", GAUGES.period_s),
    "age of gauges": ("serve", r"when older than (\d+) s, and when stuck", GAUGES.old_after_s),
    "failed checks": ("serve_deploy", r"until (three)\s+checks fail", HEALTH.failures),
    "scrapes": ("serve_deploy", r"scrapes: (two) each second", 1 / GAUGES.period_s),
    "checks": ("serve_deploy", r"for each backend, and (one) health check", 1 / HEALTH.period_s),
}


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", PROSE)
def test_defaults_that_the_prose_names_hold(what: str):
    name, pattern, default = PROSE[what]
    found = re.search(pattern, page(name))
    assert found
    assert (WORDS.get(found[1]) or float(found[1])) == default


@pytest.mark.parametrize(
    ("pattern", "besides_s"),
    [
        (r"TimeoutStopSec=(\d+)", 0.0),
        (r"docker\s+stop -t (\d+)", 0.0),
        (r"terminationGracePeriodSeconds: (\d+)", 10.0),  # preStop sleeps for so long before it
    ],
)
def test_nobody_who_follows_the_page_cuts_the_drain_short(pattern: str, besides_s: float):
    found = re.search(pattern, page("serve_deploy"))
    assert found
    assert float(found[1]) > DRAIN_S + besides_s


# Headers of requests.


def test_headers_are_told_apart_without_regard_to_case():
    config = RouterConfig(headers=("X-Mine", "ACCEPT", "x-own"))
    assert config.headers == ("x-mine", "accept", "x-own")
    assert replace(config, headers=("X-Other",)).headers == ("x-other",)


@pytest.mark.parametrize("name", ["x-request-id", "x-session-id", "content-type", "traceparent"])
def test_headers_that_are_documented_to_reach_the_backend_do(name: str):
    assert name in RouterConfig().headers


def test_no_secret_and_nothing_of_the_connection_reaches_the_backend_by_default():
    own = {"authorization", "cookie", "x-slo-class", "x-makespan-backend"}
    of_the_body = {"host", "content-length", "expect"}
    assert set(FORWARDED).isdisjoint(own | of_the_body | HOP_BY_HOP | OWN)
    assert len(set(FORWARDED)) == len(FORWARDED)
    assert all(name == name.lower() for name in FORWARDED)


# URLs of backends.

GOOD_URLS = {
    "http://a:1": "http://a:1",
    "http://a:1/": "http://a:1",
    "http://a:1///": "http://a:1",
    "http://a:65535": "http://a:65535",
    "http://a": "http://a",
    "https://a:1": "https://a:1",
    "http://a:1/v2/models/": "http://a:1/v2/models",
    "http://[::1]:8000/": "http://[::1]:8000",
    "http://10.0.0.1:8000": "http://10.0.0.1:8000",
    "http://vllm-0.vllm:8000": "http://vllm-0.vllm:8000",
}


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_url_loses_its_last_slashes_and_nothing_else(url: str):
    assert BackendConfig(url).url == GOOD_URLS[url]


def test_a_backend_is_the_same_with_a_slash_and_without():
    assert BackendConfig("http://a:1/") == BackendConfig("http://a:1")
    assert replace(BackendConfig("http://a:1"), url="http://b:2/").url == "http://b:2"


@given(
    host=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True),
    port=st.integers(1, 65535),
    path=st.from_regex(r"(/[A-Za-z0-9._~-]{1,8}){0,3}", fullmatch=True),
    slashes=st.integers(0, 3),
)
def test_whatever_the_url_paths_can_be_put_behind_it(host: str, port: int, path: str, slashes: int):
    config = BackendConfig(f"http://{host}:{port}{path}{'/' * slashes}")
    assert config.url == f"http://{host}:{port}{path}"
    assert BackendConfig(config.url) == config


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        "a",
        "a:1",
        "localhost:8000",
        "//a:1",
        "http:",
        "http://",
        "http://:8000",
        "http:///v1",
        "http:a:1",
        "ftp://a:1",
        "file:///etc/passwd",
        "unix:///run/vllm.sock",
        "http://a:one",
        "http://a:0",
        "http://a:-1",
        "http://a:65536",
        "http://a:1 ",
        "http://a:8_0",
        "http://[::1",
        "http://[a]:1",
        " http://a:1",  # of these urlsplit takes no notice, and they would stay
        "http://a:1\n",
        "http://a:1/v\t1",
        "http://a b:1",
    ],
)
def test_what_is_no_url_of_a_server_is_refused_by_name(url: str):
    with pytest.raises(ValueError, match=r"is no URL like http://127\.0\.0\.1:8000") as caught:
        BackendConfig(url)
    assert repr(url.rstrip("/")) in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://a:1?q=1",
        "http://a:1/v1?q",
        "http://a:1/#part",
        "http://a:1?",  # would swallow the path that is put behind it
        "http://a:1/?",
        "http://a:1#",
        "http://me@a:1",
        "http://me:secret@a:1",
        "http://:secret@a:1",
    ],
)
def test_a_url_with_more_than_the_server_is_refused(url: str):
    with pytest.raises(ValueError, match="must have neither a query nor a password"):
        BackendConfig(url)


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(ValueError, match="password") as caught:
        BackendConfig("http://me:swordfish@a:1")
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://a:1/v1", "http://a:1/v1/", "http://a:1/llm/v1"])
def test_what_endpoints_begin_with_is_left_out_of_a_url(url: str):
    with pytest.raises(ValueError, match="leave out /v1"):
        BackendConfig(url)


def test_a_backend_runs_on_what_the_command_line_names_by_default():
    assert BackendConfig("http://a").replica == ReplicaConfig("A100", "")
    other = ReplicaConfig("H100", "Llama-3-8B")
    assert BackendConfig("http://a", other).replica == other
    assert BackendConfig("http://a", other) != BackendConfig("http://a")


# Waiting for the next attempt.


def test_waits_grow_by_the_factor_from_the_first():
    retry = RetryConfig(first_s=0.05, factor=1.5, jitter=0.2)
    waits = [retry.wait_s(failed, 0.5) for failed in (1, 2, 3, 4)]
    assert waits == pytest.approx([0.05, 0.075, 0.1125, 0.16875])


def test_waits_stop_growing_at_the_longest():
    retry = RetryConfig(attempts=100, jitter=0.0)
    assert retry.wait_s(16, 0.5) < 30.0
    assert [retry.wait_s(failed, 0.5) for failed in (17, 18, 99)] == [30.0] * 3


def test_a_first_wait_beyond_the_longest_is_cut():
    assert RetryConfig(first_s=60.0, longest_s=1.0, jitter=0.0).wait_s(1, 0.5) == 1.0


@pytest.mark.parametrize(("draw", "share"), [(0.0, 0.8), (0.25, 0.9), (0.5, 1.0), (0.75, 1.1)])
def test_the_draw_varies_a_wait_by_the_share_of_the_jitter(draw: float, share: float):
    assert RetryConfig(jitter=0.2).wait_s(1, draw) == pytest.approx(0.05 * share)


retries = st.builds(
    RetryConfig,
    first_s=st.floats(1e-6, 1e3),
    factor=st.floats(1.0, 10.0),
    longest_s=st.floats(1e-6, 1e3),
    jitter=st.floats(0.0, 1.0, exclude_max=True),
)
draws = st.floats(0.0, 1.0, exclude_max=True)
failures = st.integers(1, 100)
ROUNDING = 1e-12


@given(retry=retries, failed=failures, draw=draws)
def test_every_wait_is_within_its_bounds(retry: RetryConfig, failed: int, draw: float):
    wait_s, shortest_s = retry.wait_s(failed, draw), min(retry.first_s, retry.longest_s)
    assert wait_s > 0
    assert wait_s >= shortest_s * (1 - retry.jitter) * (1 - ROUNDING)
    assert wait_s <= retry.longest_s * (1 + retry.jitter) * (1 + ROUNDING)


@given(retry=retries, failed=failures, draw=draws)
def test_without_jitter_the_draw_does_not_matter(retry: RetryConfig, failed: int, draw: float):
    steady = replace(retry, jitter=0.0)
    assert steady.wait_s(failed, draw) == steady.wait_s(failed, 0.0)
    assert steady.wait_s(failed, draw) == pytest.approx(retry.wait_s(failed, 0.5))


@given(retry=retries, failed=failures, draw=draws)
def test_a_later_wait_is_never_shorter_but_for_the_draw(
    retry: RetryConfig, failed: int, draw: float
):
    assert retry.wait_s(failed + 1, draw) >= retry.wait_s(failed, draw)


@given(retry=retries, failed=failures, one=draws, other=draws)
def test_a_larger_draw_is_a_longer_wait(retry: RetryConfig, failed: int, one: float, other: float):
    low, high = sorted((one, other))
    assert retry.wait_s(failed, low) <= retry.wait_s(failed, high)


def test_a_wait_after_very_many_attempts_is_the_longest():
    assert RetryConfig(attempts=2000).wait_s(1999, 0.5) == 30.0


# Secrets.

SECRETS = {"client": "open sesame", "admin": "swordfish", "backend": "xyzzy"}


@pytest.mark.parametrize("write", [repr, str, "{}".format, "%r".__mod__, lambda k: f"{[k]}"])
def test_secrets_are_not_written(write: Any):
    written = write(Keys(**SECRETS))
    assert "Keys(" in written
    assert not any(secret in written for secret in SECRETS.values())


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_no_header_can_have_is_refused_by_name(name: str):
    with pytest.raises(ValueError, match=f"the {name} key has a line end") as caught:
        Keys(**{name: "swordfish\n"})
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_in_no_message_about_them(name: str):
    with pytest.raises(FrozenInstanceError) as caught:
        setattr(Keys(**SECRETS), name, "another")
    assert not any(secret in str(caught.value) for secret in [*SECRETS.values(), "another"])


def test_without_secrets_none_is_asked_for():
    assert (Keys().client, Keys().admin, Keys().backend) == ("", "", "")
    assert {field.name for field in fields(Keys)} == set(SECRETS)
    assert all(not field.repr for field in fields(Keys))
