"""Who is asked, and who waits: decisions, and the requests that a policy holds in the router.

Everything here happens in one thread between two awaits, so that what a policy sees does not change
while it decides, and what it chose is counted before the next one is asked.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import isnan

import numpy as np

from makespan.agents.serve.backend import Backend
from makespan.agents.serve.breaker import Trial
from makespan.agents.serve.config import RouterConfig
from makespan.agents.serve.status import FAILED, HOLD
from makespan.agents.serve.view import Incoming, LiveFleet, Replica, Sent
from makespan.baselines.llm.simple import least_requests
from makespan.envs.core.contract import Policy
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.fleet import OUTPUT_WORK

log = logging.getLogger(__name__)


class NoBackend(Exception):
    """No backend may be chosen."""


@dataclass(frozen=True)
class Choice:
    """What was decided about a request.

    Attributes:
        chosen: URL of a backend, or `HOLD`.
        policy: which policy chose: the rule to fall back on, if the other failed.
        shadows: what the shadow policies would have chosen, by name.
        seconds: that the policy took.
    """

    chosen: str
    policy: str
    shadows: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Assignment:
    """A request on its way to a backend, to be settled once."""

    backend: Backend
    sent: Sent
    trial: Trial
    choice: Choice


@dataclass
class Wait:
    """What was decided about a request, over all its attempts.

    Attributes:
        choice: the last; None: nobody was asked.
        held_s: how long it was held, until it was sent or lost.
    """

    choice: Choice | None = None
    held_s: float = 0.0


@dataclass(eq=False)
class _Job:
    """A request that waits for its turn."""

    request: Incoming
    id: str
    model: str
    attempt: int
    tried: Collection[Backend]
    wait: Wait
    arrived_s: float
    waiting: bool = False
    answer: asyncio.Future[Assignment] = field(init=False)

    def __post_init__(self) -> None:
        self.answer = asyncio.get_running_loop().create_future()


Decided = Callable[[float, str, Incoming, Choice], None]
"""Is told of every decision: when, about which request, and what."""

FALLBACK = "least_requests"
"""The rule that chooses where the policy fails."""


class Dispatcher:
    """Asks the policy about every request, and offers it what it held again.

    Like the simulator's fleet (`makespan.envs.llm.fleet`): a new request is asked about at once;
    the first of those that are held is asked about again whenever a request ends or a backend
    comes back, and so on until the policy holds one.

    Args:
        policy: its name.
        make_policy: makes a fresh policy; anew whenever the set of backends changes, since policies
            may remember backends by number.
        shadows: name -> what makes a policy that is asked but not followed.
        decided: is told of every decision.
        clock: seconds.

    Attributes:
        policy: as given.
        backends: in the order in which policies number them.
        held: requests that wait in the router.
    """

    def __init__(
        self,
        settings: RouterConfig,
        policy: str,
        make_policy: Callable[[], Policy],
        shadows: Mapping[str, Callable[[], Policy]],
        decided: Decided = lambda now, id, request, choice: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self.policy = policy
        self._make_policy = make_policy
        self._make_shadows = shadows
        self._decided = decided
        self._clock = clock
        self._held: list[tuple[float, int, _Job]] = []
        self._places = 0
        self.held = 0
        self._complained: set[str] = set()
        self.use([])

    def use(self, backends: Sequence[Backend]) -> None:
        """From now on route to these; what is in flight elsewhere goes on there."""
        self.backends = list(backends)
        self._fleet = LiveFleet([b.replica for b in backends], self._settings.hold)
        self._policy = self._make_policy()
        self._shadows = {name: make() for name, make in self._make_shadows.items()}
        self.offer()

    def warm_up(self) -> None:
        """Let what is compiled or allocated at the first decision be so before it is one."""
        replicas = [Replica(b.replica.config, index_blocks=16) for b in self.backends]
        if not replicas:
            return
        fleet = LiveFleet(replicas, self._settings.hold)
        for make in (self._make_policy, *self._make_shadows.values()):
            policy = make()
            for index, prompt in enumerate((np.arange(4), np.arange(4), np.zeros(0, np.int64))):
                request = Incoming(index, 0.0, 100, prompt.astype(np.int64))
                self._legal(policy, "the policy", fleet.decision(request, 0.0))
                fleet.count(fleet.send(0, request, 0.0), 1, 0.0)

    async def route(
        self,
        request: Incoming,
        id: str = "",
        model: str = "",
        attempt: int = 0,
        tried: Collection[Backend] = (),
        wait: Wait | None = None,
    ) -> Assignment:
        """Where the request goes, once the policy sends it.

        Args:
            id: the request's name, for whoever is told of decisions.
            model: that it asks for; backends that are known not to serve it are not chosen, unless
                none does.
            attempt: 0, or how many backends failed.
            tried: backends that failed, not chosen while there are others.
            wait: is told what is decided and how long the request is held, also if it is lost.

        Raises:
            NoBackend: none may be chosen.
        """
        job = _Job(request, id, model, attempt, tried, wait or Wait(), self._clock())
        if not self._try(job):
            self._hold(job)
        try:
            return await job.answer
        except asyncio.CancelledError:
            self._left(job)
            raise

    def _left(self, job: _Job) -> None:
        """The client left while its request waited, or in the moment in which it was sent."""
        answer = job.answer
        if job.waiting:
            self._count_waiting(job, False)
            # Where the policy holds for long, clients come and leave, with prompts of any length.
            self._held = [entry for entry in self._held if entry[2] is not job]
            heapify(self._held)
        elif answer.done() and not answer.cancelled() and answer.exception() is None:
            self.settle(answer.result(), answered=False, verdict=None)

    def untried(self, tried: Collection[Backend], model: str = "") -> bool:
        """Whether a backend that may be chosen for the model is not among those."""
        now, others = self._clock(), [b for b in self.backends if b not in tried]
        return any(b.serves(model) and not b.why(now) for b in others)

    def settle(self, assignment: Assignment, answered: bool, verdict: bool | None) -> None:
        """The request is off the backend.

        Args:
            answered: it streamed to its end, so that its times tell something of the backend.
            verdict: for the breaker: whether the backend did well; None: not its fault.
        """
        now, backend = self._clock(), assignment.backend
        if answered:
            self._fleet.finish(assignment.sent, now)
        else:
            self._fleet.fail(assignment.sent, now)
        if verdict is None:
            backend.breaker.abandoned(assignment.trial, now)
        elif verdict:
            backend.breaker.succeeded(assignment.trial, now)
        else:
            backend.breaker.failed(assignment.trial, now)
        self.offer()

    def count(self, assignment: Assignment, tokens: int) -> None:
        """So many more tokens of the answer came."""
        self._fleet.count(assignment.sent, tokens, self._clock())

    def offer(self) -> None:
        """Ask about what is held, the first first, until the policy holds one."""
        while self._held:
            work, place, job = heappop(self._held)
            if job.answer.cancelled():  # its client left in this moment
                continue
            if not self._try(job):
                heappush(self._held, (work, place, job))
                return

    def _hold(self, job: _Job) -> None:
        heappush(self._held, (self._work(job.request), self._places, job))
        self._places += 1
        self._count_waiting(job, True)

    def _count_waiting(self, job: _Job, waiting: bool) -> None:
        if job.waiting == waiting:
            return
        job.waiting = waiting
        self.held += 1 if waiting else -1
        if not waiting:
            job.wait.held_s += self._clock() - job.arrived_s

    def _work(self, request: Incoming) -> float:
        """What held requests are ordered by, lowest first."""
        if self._settings.hold_order == "fcfs":
            return 0.0
        output = 0.0 if isnan(request.predicted_tokens) else request.predicted_tokens
        return request.prompt_tokens + OUTPUT_WORK * output

    def _try(self, job: _Job) -> bool:
        """Decide about a request; False if it is held."""
        now = self._clock()
        for backend in self.backends:
            backend.look(now)
        decision = self._decision(job, now)
        if decision is None:
            self._count_waiting(job, False)
            job.answer.set_exception(NoBackend())
            return True
        action, job.wait.choice = self._choose(decision)
        choice = job.wait.choice
        self._decided(now, job.id, job.request, choice)
        if action == len(self.backends):
            return False
        self._count_waiting(job, False)
        backend = self.backends[action]
        sent = self._fleet.send(action, job.request, now)
        trial = backend.breaker.begin(now)
        job.answer.set_result(Assignment(backend, sent, trial, choice))
        return True

    def _decision(self, job: _Job, now: float) -> RoutingDecision | None:
        """What the policy sees; None if there is nothing to choose from."""
        if not any(backend.replica.up for backend in self.backends):
            return None
        self._fleet.held = self.held - job.waiting
        return self._fleet.decision(job.request, now, job.attempt, self._excluded(job))

    def _excluded(self, job: _Job) -> set[int]:
        """Backends that are up and not to be chosen for this request, unless no others are."""
        up = {i for i, b in enumerate(self.backends) if b.replica.up}
        others = {i for i in up if not self.backends[i].serves(job.model)}
        wrong = others if others != up else set()
        tried = {i for i in up if self.backends[i] in job.tried}
        return wrong | tried if wrong | tried != up else wrong

    def _choose(self, decision: RoutingDecision) -> tuple[int, Choice]:
        """Ask the policy and its shadows. A faulty policy loses no request."""
        begun = time.perf_counter()
        action = self._legal(self._policy, "the policy", decision)
        seconds = time.perf_counter() - begun
        shadows = {
            name: self._name(self._legal(shadow, f"the shadow {name}", decision))
            for name, shadow in self._shadows.items()
        }
        by = self.policy
        if action is None:
            by, action = FALLBACK, least_requests(decision)
        return action, Choice(self._name(action), by, shadows, seconds)

    def _legal(self, policy: Policy, what: str, decision: RoutingDecision) -> int | None:
        """The policy's choice; None, and one line in the log, if it fails or may not be."""
        try:
            action = int(policy(decision))
            if 0 <= action < len(decision.action_mask) and decision.action_mask[action]:
                return action
            reason = f"it chose {action}, which is not possible"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if what not in self._complained:
            self._complained.add(what)
            log.error("%s failed, and may again without another word: %s", what, reason)
        return None

    def _name(self, action: int | None) -> str:
        if action is None:
            return FAILED
        return HOLD if action == len(self.backends) else self.backends[action].url
