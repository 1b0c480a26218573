"""Configuration of the live router: frozen, validated, and the only source of its constants.

Retries, breaker and health follow the gateways in production (vllm-project/router and SGLang's
gateway: 5 tries from 50 ms to 30 s by 1.5 with jitter 0.2; 10 failures, 3 successes, 60 s; 3
failed and 2 good health checks), since operators know these numbers.
"""

import math
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from makespan.envs.llm.config import HoldOrder, ReplicaConfig


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(value > 0, f"{name} must be positive, not {value}")


@dataclass(frozen=True)
class BackendConfig:
    """One server.

    Attributes:
        url: `http://host:port`, with a path if its API is not at the root; no slash at the end.
        replica: the hardware and the model, from which policies estimate step times.
    """

    url: str
    replica: ReplicaConfig = field(default_factory=ReplicaConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            good = False
        # urlsplit takes no notice of line ends, but the URL stands in a header.
        good = good and self.url.isprintable() and " " not in self.url
        _require(good, f"backend {self.url!r} is no URL like http://127.0.0.1:8000")
        # An empty query is one, too: the path that is put behind it would be none.
        bare = not (set("?#") & set(self.url) or parts.username or parts.password)
        # Not the URL: it may have a password in it.
        _require(bare, f"backend {parts.hostname!r} must have neither a query nor a password")
        begun = parts.path.endswith("/v1")
        _require(not begun, f"backend {self.url!r}: leave out /v1, with which endpoints begin")


@dataclass(frozen=True)
class RetryConfig:
    """When an attempt fails before its first byte.

    Attributes:
        attempts: in all, the first included.
        first_s: wait before the second attempt; each further wait is longer by `factor` ...
        factor: ... up to `longest_s`.
        longest_s: seconds, before the jitter.
        jitter: each wait is drawn from this share below it to this share above it.
    """

    attempts: int = 5
    first_s: float = 0.05
    factor: float = 1.5
    longest_s: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        _require_positive(self, "attempts", "first_s", "longest_s")
        _require(self.factor >= 1, f"factor must be at least 1, not {self.factor}")
        _require(0 <= self.jitter < 1, f"jitter must be in [0, 1), not {self.jitter}")

    def wait_s(self, failed: int, draw: float) -> float:
        """Seconds to wait after so many failed attempts (from 1); `draw` is uniform in [0, 1)."""
        try:
            wait = min(self.first_s * self.factor ** (failed - 1), self.longest_s)
        except OverflowError:  # after hundreds of attempts
            wait = self.longest_s
        return wait * (1 + self.jitter * (2 * draw - 1))


@dataclass(frozen=True)
class BreakerConfig:
    """When a backend is left alone.

    Attributes:
        failures: in a row that open the breaker.
        successes: of trial requests that close it again.
        open_s: seconds from its opening to the first trial.
    """

    failures: int = 10
    successes: int = 3
    open_s: float = 60.0

    def __post_init__(self) -> None:
        _require_positive(self, "failures", "successes", "open_s")


@dataclass(frozen=True)
class TimeoutConfig:
    """How long a backend may take, and a client.

    Attributes:
        connect_s: to accept a connection.
        first_byte_s: from the request to the first byte of the answer's body. A long queue is no
            failure, so this is long.
        idle_s: between two pieces of an answer.
        request_s: for a client to send its head, and again for its body.
        drain_s: for requests in flight when the router is told to stop.
    """

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    idle_s: float = 120.0
    request_s: float = 30.0
    drain_s: float = 60.0

    def __post_init__(self) -> None:
        _require_positive(self, "connect_s", "first_byte_s", "idle_s", "request_s", "drain_s")
        _require(self.drain_s < math.inf, f"drain_s must be finite, not {self.drain_s}")


@dataclass(frozen=True)
class HealthConfig:
    """How `/health` of a backend is asked.

    Attributes:
        period_s: seconds between two checks.
        timeout_s: of a check.
        failures: in a row after which nothing is sent there.
        successes: in a row after which it is again.
    """

    period_s: float = 1.0
    timeout_s: float = 5.0
    failures: int = 3
    successes: int = 2

    def __post_init__(self) -> None:
        _require_positive(self, "period_s", "timeout_s", "failures", "successes")


@dataclass(frozen=True)
class GaugeConfig:
    """How `/metrics` of a backend is scraped.

    Attributes:
        period_s: seconds between two scrapes.
        timeout_s: of a scrape.
        old_after_s: gauges older than that are unknown to the policy.
        stuck_after_s: gauges that say busy and have not changed for so long, while the router has
            nothing there, are unknown too, and the engine is made to step by a request for one
            token (vLLM issue 29928).
    """

    period_s: float = 0.5
    timeout_s: float = 2.0
    old_after_s: float = 10.0
    stuck_after_s: float = 10.0

    def __post_init__(self) -> None:
        _require_positive(self, "period_s", "timeout_s", "old_after_s", "stuck_after_s")


@dataclass(frozen=True)
class LimitConfig:
    """What the router takes at once.

    Attributes:
        in_flight: requests that are routed, held or being answered.
        queue: further requests that wait for these to end; more are answered with 503.
        queue_s: seconds that one waits at most.
        body_bytes: of a request.
        head_bytes: of a request line and its headers.
    """

    in_flight: int = 4096
    queue: int = 1024
    queue_s: float = 60.0
    body_bytes: int = 32 * 2**20
    head_bytes: int = 64 * 2**10

    def __post_init__(self) -> None:
        _require_positive(self, "in_flight", "queue_s", "body_bytes", "head_bytes")
        _require(self.queue >= 0, f"queue must not be negative, not {self.queue}")


FORWARDED = (
    "accept",
    "accept-encoding",
    "content-encoding",
    "content-type",
    "openai-organization",
    "openai-project",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-id",
    "x-session-id",
)
"""Headers of a request that reach the backend. `authorization` does where the router has no key."""


@dataclass(frozen=True)
class RouterConfig:
    """The router, whatever its backends are.

    Attributes:
        hold: let policies keep requests in the router, where they can.
        hold_order: which held request the policy looks at first, see
            `makespan.envs.llm.config.FleetConfig`.
        prefix_index_blocks: size of the prefix index per backend.
        headers: of requests, passed on to the backend.
    """

    hold: bool = True
    hold_order: HoldOrder = "shortest"
    prefix_index_blocks: int = 31_250
    headers: tuple[str, ...] = FORWARDED
    retry: RetryConfig = field(default_factory=RetryConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    gauges: GaugeConfig = field(default_factory=GaugeConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)

    def __post_init__(self) -> None:
        _require_positive(self, "prefix_index_blocks")
        object.__setattr__(self, "headers", tuple(name.lower() for name in self.headers))


@dataclass(frozen=True)
class Keys:
    """Secrets, from the environment: never on a command line, never in a log.

    Attributes:
        client: that clients must send (`MAKESPAN_API_KEY`); empty: none is asked for.
        admin: for the admin endpoint (`MAKESPAN_ADMIN_KEY`); empty: there is no such endpoint.
        backend: that is sent to backends (`MAKESPAN_BACKEND_KEY`); empty: what the client sent.
    """

    client: str = field(default="", repr=False)
    admin: str = field(default="", repr=False)
    backend: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("client", "admin", "backend"):
            # What no header can have: then every request would be refused, and nothing said why.
            _require(getattr(self, name).isprintable(), f"the {name} key has a line end in it")
