"""One server behind the router: whether it may be chosen, and why not."""

from collections import deque

from makespan.agents.serve.breaker import Breaker
from makespan.agents.serve.config import BackendConfig, RouterConfig
from makespan.agents.serve.scrape import EngineReport, Trust
from makespan.agents.serve.view import Replica
from makespan.envs.llm.replica import resolve


class Backend:
    """A server, what the router sent there, and what it knows of its state.

    Args:
        config: where it is and what it runs on.
        settings: of the router.

    Attributes:
        url: without a slash at its end.
        replica: the router's accounting, as policies see it.
        breaker: opens when requests fail.
        trust: whether the gauges are believed.
        models: that it serves; empty: not known.
        healthy: by its last health checks; believed until they say otherwise.
        draining: it was removed: nothing new goes there.

    Raises:
        ValueError: unknown hardware or model.
    """

    def __init__(self, config: BackendConfig, settings: RouterConfig) -> None:
        self.config = config
        self.url = config.url
        self.replica = Replica(resolve(config.replica), settings.prefix_index_blocks)
        limits = settings.breaker
        self.breaker = Breaker(limits.failures, limits.successes, limits.open_s)
        self.trust = Trust(settings.gauges.old_after_s, settings.gauges.stuck_after_s)
        self.models: frozenset[str] = frozenset()
        self.healthy = True
        self.draining = False
        self._health = settings.health
        self._checks: deque[bool] = deque(
            maxlen=max(settings.health.failures, settings.health.successes)
        )

    def why(self, now: float) -> str:
        """Why nothing is sent there; empty: it may be chosen."""
        if self.draining:
            return "draining"
        if not self.healthy:
            return "unhealthy"
        return "" if self.breaker.allows(now) else "breaker open"

    def serves(self, model: str) -> bool:
        """Whether it may have the model, as far as is known."""
        return not self.models or not model or model in self.models

    def checked(self, good: bool) -> bool:
        """Note a health check; whether it changed what `healthy` says."""
        self._checks.append(good)
        needed = self._health.failures if self.healthy else self._health.successes
        last = list(self._checks)[-needed:]
        if good == self.healthy or len(last) < needed or any(c == self.healthy for c in last):
            return False
        self.healthy = good
        if not good:
            # What comes back is a new process: its cache is empty.
            self.replica.forget()
            self.models = frozenset()
        return True

    def scraped(self, now: float, report: EngineReport) -> bool:
        """Note what `/metrics` said; whether the engine is another than the configuration says."""
        self.trust.scraped(now, report, self.replica.requests)
        said = report.block_size, report.kv_blocks
        told = report.block_size > 0 and report.kv_blocks > 1
        changed = told and said != (self.replica.block_size, self.replica.kv_blocks)
        if changed:
            self.replica.engine_said(*said)
        if self.trust.believed(now):
            self.replica.scraped(now, report.running, report.waiting, report.kv_usage)
        else:
            self.replica.forget_gauges()
        return changed

    def look(self, now: float) -> None:
        """Bring what policies see up to date before a decision."""
        self.replica.up = not self.why(now)
        if not self.trust.believed(now):
            self.replica.forget_gauges()
