"""Where the router tells what happens: one call per event, for the metrics and the status page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from makespan.agents.serve.dispatcher import FALLBACK, Choice
from makespan.agents.serve.exporter import Exporter
from makespan.agents.serve.status import FAILED, HOLD, BackendState, Outcome, Status


class Telemetry:
    """Feeds the metrics and the status page, so that they cannot disagree.

    Per-backend figures are kept only for backends that `backends()` lists: an event that comes
    after its backend was removed counts in the totals alone. So what is kept cannot grow with
    every backend that ever was.

    Args:
        policy: name of the policy that chooses.
        shadow: names of the policies that are asked beside it.
        backends: the backends at the moment of the call. Called at each scrape and snapshot, and
            at the first event of each backend.
        held: how many requests the policy holds at the moment of the call.
        queued: how many wait to be let in.
        old_after_s: age from which gauges are not believed.
        now: when the router began, in seconds on the clock that later calls use.
        lost: how many lines of the log could not be written so far.
    """

    def __init__(
        self,
        policy: str,
        shadow: Sequence[str],
        backends: Callable[[], Iterable[BackendState]],
        held: Callable[[], int],
        queued: Callable[[], int],
        old_after_s: float,
        now: float,
        lost: Callable[[], int] = lambda: 0,
    ) -> None:
        self._policies = (policy, FALLBACK)
        self._backends = backends
        self._held = held
        self._queued = queued
        self._known: set[str] = set()
        self._exporter = Exporter(backends, held, queued, lost)
        self._status = Status(policy, shadow, old_after_s, now)

    def decision(
        self,
        now: float,
        request_id: str,
        prompt_tokens: int,
        choice: str,
        policy: str,
        shadow: Mapping[str, str],
        seconds: float,
    ) -> None:
        """A policy was asked, and what it answered will be done.

        Args:
            now: when.
            request_id: the router's name for the request.
            prompt_tokens: length of its prompt.
            choice: URL of a backend, or `HOLD`.
            policy: which policy answered (the rule to fall back on, if the other failed).
            shadow: what the shadow policies would have done; `FAILED` for one that failed.
            seconds: how long `policy` took.
        """
        self._exporter.decision(seconds)
        self._status.decision(now, request_id, prompt_tokens, choice, shadow, seconds)
        if choice != HOLD and self._knows(choice):
            self._exporter.chosen(choice, policy)
            self._status.chosen(choice)

    def retried(self, backend: str) -> None:
        """A request that failed before is sent again, to this backend."""
        self._status.retried()
        if self._knows(backend):
            self._exporter.retried(backend)

    def error(self, backend: str, kind: str) -> None:
        """An attempt has failed.

        Args:
            backend: its URL.
            kind: one of a few fixed words (a label of a metric), never the text of an exception.
        """
        if self._knows(backend):
            self._exporter.error(backend, kind)
            self._status.error(backend)

    def ended(
        self,
        endpoint: str,
        code: int,
        outcome: Outcome,
        backend: str | None,
        ttft_s: float | None,
        e2e_s: float | None,
        choice: Choice | None = None,
    ) -> None:
        """A request has ended; called once for each.

        Args:
            endpoint: path of the request.
            code: HTTP status that the client was sent, or would have been.
            outcome: how it ended.
            backend: the last one it was sent to; None if it was sent to none.
            ttft_s: from arrival to the first token; None if none was counted.
            e2e_s: from arrival to the end.
            choice: the last about it; None: no policy was asked.
        """
        if code != 200 or outcome != "finished":
            # A refusal is quick, and would make the router look so.
            ttft_s = e2e_s = None
        self._exporter.ended(endpoint, code, outcome, ttft_s, e2e_s)
        self._status.ended(outcome)
        if backend is not None and self._knows(backend):
            self._status.answered(backend, outcome, ttft_s, e2e_s)
        if choice is not None and choice.chosen != HOLD:
            for name, other in choice.shadows.items():
                self._exporter.shadow(name, None if other == FAILED else other == choice.chosen)

    def removed(self, backend: str) -> None:
        """A backend is gone from the list: forget its figures."""
        self._known.discard(backend)
        self._exporter.removed(backend)
        self._status.removed(backend)

    def metrics(self) -> tuple[bytes, str]:
        """Body and content type of the answer to `/metrics`."""
        self._look()
        return self._exporter.text()

    def snapshot(self, now: float, draining: bool) -> dict[str, Any]:
        """The JSON of `/status`: every number in it is finite or None."""
        return self._status.snapshot(now, self._backends(), self._held(), self._queued(), draining)

    def _knows(self, backend: str) -> bool:
        """Whether the backend is, or lately was, in the list."""
        if backend not in self._known:
            self._look()
        return backend in self._known

    def _look(self) -> None:
        """Note which backends are new in the list."""
        for state in self._backends():
            if state.url not in self._known:
                self._known.add(state.url)
                self._exporter.added(state.url, self._policies)
