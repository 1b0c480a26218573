"""N replicas behind one router, on one SimPy clock: the simulation of the LLM serving world.

The events are what reaches engines from outside: arrivals and outages, and where the router holds
requests, the finish that it waits for. What engines do in between is computed when the clock gets
to the next event (`makespan.envs.llm.catch_up`), in as few calls as there are decisions.
"""

from collections import deque
from collections.abc import Generator
from dataclasses import replace
from heapq import heappop, heappush
from math import inf, isnan
from typing import Any

import numpy as np
import simpy

from makespan.envs.llm.config import FleetConfig, Outage
from makespan.envs.llm.decision import IN_FLIGHT, Gauges, RequestView, RoutingDecision
from makespan.envs.llm.engines import Engines
from makespan.envs.llm.gauges import timeline
from makespan.envs.llm.memory import new_state
from makespan.envs.llm.predictor import predict
from makespan.envs.llm.replica import resolve, step_time
from makespan.envs.llm.state import FAILED, FINISHED, RECENT_LENGTH, REJECTED
from makespan.traces.workload import HASH_BLOCK_TOKENS, Workload

COLUMNS = ("prompt", "predicted", "attempts", "status")
"""Columns of the requests that are read one by one."""

OUTPUT_WORK = 8.0
"""Prompt tokens that are as much work as one output token: on an A100 with Llama-3.1-8B a prompt
token takes 0.05 ms, an output token in a batch of some 50 takes 0.4 ms of the step it is in."""

STATUS = ("finished", "rejected", "failed", "pending")
"""Meaning of the log's `status`; `pending`: not done when the run was left."""


class FleetDecision(RoutingDecision):
    """A `RoutingDecision` that describes its request only to a policy that asks."""

    __slots__ = ("_all_up", "_index", "_request")

    def __init__(self, fleet: "Fleet", index: int, mask: np.ndarray, all_up: bool) -> None:
        self.time = fleet.clock.now
        self.action_mask = mask
        self._router = fleet
        self._index = index
        self._all_up = all_up
        self._request = None

    @property
    def request(self) -> RequestView:
        if self._request is None:
            self._request = self._router.request(self._index)
        return self._request

    @property
    def all_healthy(self) -> bool:
        return self._all_up


class Fleet:
    """A fleet that serves a workload; a `Simulation` whose decisions are `RoutingDecision`s.

    Args:
        workload: the requests, which arrive at their times whatever the fleet does.
        config: the replicas and what surrounds them.
        seed: root of the randomness (predictions, gauges); the same seed gives the same log.
        jumping: False computes engine step by engine step, the reference for the jumps.

    Attributes:
        clock: the SimPy environment, in seconds.
        requests, prefill_tokens, decoding, block_size, kv_blocks: int64 (N,), see `Router`.
        step_time, engines: per replica, see `Router`.

    Raises:
        ValueError: a configuration names unknown hardware, or a model that does not fit.
    """

    def __init__(
        self,
        workload: Workload,
        config: FleetConfig | None = None,
        seed: int = 0,
        jumping: bool = True,
    ) -> None:
        config = config or FleetConfig()
        config = replace(config, replicas=tuple(resolve(replica) for replica in config.replicas))
        noise, scrapes = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
        self.clock = simpy.Environment()
        self.workload = workload
        self.config = config
        self.engines = [replica.engine for replica in config.replicas]
        self.step_time = [step_time(replica) for replica in config.replicas]
        self.block_size = np.array([engine.block_size for engine in self.engines])
        self.kv_blocks = np.array([engine.kv_blocks for engine in self.engines])
        self._core = Engines(
            new_state(
                workload,
                config,
                [model.pack() for model in self.step_time],
                predict(workload, config.predictor, noise),
                scrapes,
                jumping,
            )
        )
        state = self._core.state
        self.requests = state.in_flight
        self.prefill_tokens = state.prefill_tokens
        self.decoding = state.decoding
        # Plain columns: an attribute of a record array costs several times as much to read.
        self._columns = {name: state.requests[name].view(np.ndarray) for name in COLUMNS}
        self._status = self._columns["status"]
        self._finished = state.fleet["finished"].view(np.ndarray)
        self._finishes_s = state.fleet["finishes_s"].view(np.ndarray)
        self._recent_count = state.replicas["recent"].view(np.ndarray)
        self._recent = state.recent.view(np.ndarray)
        self._gauges = Gauges(*state.gauges.reshape(4, -1))
        self._due: deque[int] = deque()
        self._held: list[tuple[float, int, int]] = []  # a heap of (work, place, request)
        self._places = 0
        self._offered: tuple[float, int, int] | None = None  # the held request that is due again
        self._caught_up = -inf  # the moment up to which engines are computed
        self._outages = np.zeros(len(config.replicas), np.int64)
        self._up = state.up
        self._actions = np.append(self._up, True)  # and to hold
        self._all_up = True
        self._shared = len(workload.hashes) > 0
        self._decisions = 0
        self._arrived = 0
        # Sums of times count from the first arrival, or late clocks would cost their digits.
        self._origin_s = state.fleet["origin_s"].item()
        self._arrivals_s = 0.0  # sum of the arrival times of what arrived
        self._dropped = 0  # rejected or failed
        self._drops_s = 0.0  # sum of the times at which that happened
        self.clock.process(self._arrive())
        for outage in config.outages:
            self.clock.process(self._break(outage))

    # The contract.

    def next_decision(self) -> RoutingDecision | None:
        """Advance to the next request that can be routed; None when all is done."""
        due, clock = self._due, self.clock
        while True:
            while not due:
                if self._held or clock.peek() == inf:
                    if not self._await_engines():
                        return None
                else:
                    clock.step()
            if self._all_up or self.config.can_hold or self._up.any():
                self._catch_up()
                return FleetDecision(self, due[0], self._mask(), self._all_up)
            self._drop(due.popleft(), REJECTED)

    def decide(self, action: int) -> None:
        """Send the request that is due to replica `action`, or hold it if `action` is N.

        Raises:
            ValueError: the action is masked, or there is none of that number.
        """
        mask = self._mask()
        if not (0 <= action < len(mask) and mask[action]):
            raise ValueError(f"action {action} is masked: {mask}")
        q = self._due.popleft()
        self._decisions += 1
        if action == len(self._up):
            self._hold(q)
            return
        if not self._core.send(action, q, self.clock.now):
            self._drop(q, REJECTED)
        if self._is_offered(q):
            self._offer_held()

    @property
    def log(self) -> dict[str, np.ndarray]:
        """One row per request of the workload, in its order.

        Seconds (float64, nan where it never happened): arrival_s, sent_s, first_token_s, finish_s.
        Tokens (int64): prompt_tokens, output_tokens (generated), cached_tokens (of the prompt,
        found in the replica's cache); predicted_tokens (float64, nan: none). int64: replica (-1:
        never sent), preemptions, attempts, session, slo_class, priority. status (int8): index into
        `STATUS`.
        """
        records = self._core.state.requests
        status = np.full(len(records), STATUS.index("pending"), np.int8)
        for code, name in ((FINISHED, "finished"), (REJECTED, "rejected"), (FAILED, "failed")):
            status[records.status == code] = STATUS.index(name)
        seconds = ("arrival_s", "sent_s", "first_token_s", "finish_s")
        return {
            **{name: records[name].copy() for name in seconds},
            "prompt_tokens": records.prompt.astype(np.int64),
            "output_tokens": records.generated.astype(np.int64),
            "cached_tokens": records.cached_tokens.astype(np.int64),
            "predicted_tokens": records.predicted.copy(),
            "replica": records.replica.astype(np.int64),
            "preemptions": records.preemptions.astype(np.int64),
            "attempts": records.attempts.astype(np.int64),
            "status": status,
            "session": self.workload.session.copy(),
            "slo_class": self.workload.slo_class.copy(),
            "priority": self.workload.priority.copy(),
        }

    # What the router sees: see `Router`.

    def request(self, index: int) -> RequestView:
        """The request as a proxy sees it."""
        records, workload = self._columns, self.workload
        prompt = records["prompt"].item(index)
        start, stop = workload.hash_offsets.item(index), workload.hash_offsets.item(index + 1)
        stop = min(stop, start + prompt // HASH_BLOCK_TOKENS)
        return RequestView(
            index=index,
            prompt_tokens=prompt,
            prefix_hashes=workload.hashes[start:stop],
            session=workload.session.item(index),
            priority=workload.priority.item(index),
            slo_class=workload.slo_classes[workload.slo_class.item(index)],
            predicted_tokens=records["predicted"].item(index),
            attempt=records["attempts"].item(index),
        )

    @property
    def held(self) -> int:
        """Requests that the router holds, without the one that is due."""
        return len(self._held)

    def decode_tokens(self) -> np.ndarray:
        """int64 (N,): prompt and streamed tokens of the requests that are streaming."""
        self._core.count_streaming(self.clock.now)
        return self._core.state.streaming

    def gauges(self) -> Gauges:
        """The polled gauges."""
        self._core.read_gauges(self.clock.now)
        return self._gauges

    def prefix_tokens(self, request: RequestView) -> np.ndarray:
        """int64 (N,): tokens of the prompt that the prefix index finds on each replica."""
        if self._shared:
            self._core.match_all(request.index)
        return self._core.state.matches

    def in_flight(self, replica: int) -> np.ndarray:
        """Rows of `IN_FLIGHT`, in the order in which they were sent."""
        rows = np.empty(self.requests.item(replica), IN_FLIGHT)
        self._core.list_in_flight(replica, self.clock.now, rows)
        return rows

    def recent(self, replica: int) -> np.ndarray:
        """Rows of `RECENT`, oldest first."""
        count = self._recent_count.item(replica)
        start = replica * RECENT_LENGTH
        ring = self._recent[start : start + RECENT_LENGTH]
        if count <= RECENT_LENGTH:
            return ring[:count]
        oldest = count % RECENT_LENGTH
        return np.concatenate([ring[oldest:], ring[:oldest]])

    # What the experiments and the gymnasium environment ask.

    @property
    def timeline(self) -> dict[str, np.ndarray]:
        """The true gauges over time, thinned: time (T,), running, waiting and kv_usage (T, N)."""
        return timeline(self._core.state)

    @property
    def counters(self) -> dict[str, int]:
        """Work done: engine `steps`, `jumps` (runs of them) and `decisions`."""
        replicas = self._core.state.replicas
        return {
            "steps": int(replicas.steps.sum()),
            "jumps": int(replicas.jumps.sum()),
            "decisions": self._decisions,
        }

    @property
    def records(self) -> np.recarray:
        """Live `REQUEST` records (see `state`), one per request; only to be read."""
        return self._core.state.requests

    @property
    def open_requests(self) -> int:
        """Requests that arrived and are neither finished nor dropped."""
        return self._arrived - self._dropped - self._finished.item()

    def latency_s(self) -> float:
        """Sum over all arrived requests of the time they have spent in the system so far."""
        gone_s = self._finishes_s.item() + self._drops_s
        return gone_s + self.open_requests * (self.clock.now - self._origin_s) - self._arrivals_s

    # Processes.

    def _arrive(self) -> Generator[simpy.Event, Any, None]:
        clock, due = self.clock, self._due
        for q, arrival in enumerate(self.workload.arrival_s.tolist()):
            if arrival > clock.now:
                yield clock.timeout(arrival - clock.now)
            self._arrived += 1
            self._arrivals_s += arrival - self._origin_s
            due.append(q)

    def _break(self, outage: Outage) -> Generator[simpy.Event, Any, None]:
        yield self.clock.timeout(outage.start_s)
        self._catch_up()
        self._mark(outage.replica, 1)
        held = self.in_flight(outage.replica)
        lost = held["request"].tolist()
        self.records.generated[lost] = held["streamed_tokens"]
        self._core.reset_engine(outage.replica)
        self._core.forget_gauges(outage.replica)
        for q in lost:
            if self.config.on_failure == "fail":
                self._drop(q, FAILED)
            else:
                self._due.append(q)
        yield self.clock.timeout(outage.duration_s + self.config.cold_start_s)
        self._catch_up()  # scrapes that fell into the outage found nobody
        self._mark(outage.replica, -1)
        self._offer_held()

    # Steps of the above.

    def _mark(self, replica: int, outages: int) -> None:
        """Count outages of a replica, which may overlap, and note who is up."""
        self._outages[replica] += outages
        self._up[replica] = self._outages[replica] == 0
        self._all_up = bool(self._up.all())

    def _mask(self) -> np.ndarray:
        if not self.config.can_hold:
            return self._up
        # Holding needs something to wait for: a finish, or a recovery.
        self._actions[:-1] = self._up
        self._actions[-1] = not self._all_up or self.requests.any()
        return self._actions

    def _catch_up(self) -> None:
        """Compute what the engines did up to now."""
        now = self.clock.now
        if now > self._caught_up:
            self._core.catch_up(now)
            self._caught_up = now

    def _await_engines(self) -> bool:
        """Go to the next finish if a held request waits for it, to the end if nothing else comes.

        False if there is nothing left to wait for.
        """
        upcoming = self.clock.peek()
        until = self._core.next_finish(upcoming) if self._held else self._core.drain()
        if until < upcoming and until > -inf:
            finish = self.clock.timeout(max(0.0, until - self.clock.now))
            finish.callbacks = [lambda _: self._offer_held()]
        elif upcoming == inf:
            return False
        self.clock.step()
        return True

    def _drop(self, q: int, status: int) -> None:
        """Count `q` as rejected or failed, at this moment."""
        self._status[q] = status
        self._dropped += 1
        self._drops_s += self.clock.now - self._origin_s

    def _hold(self, q: int) -> None:
        """Keep `q` in the router; one that was held before keeps its place."""
        if self._offered is not None and self._is_offered(q):
            heappush(self._held, self._offered)
            self._offered = None
            return
        heappush(self._held, (self._work(q), self._places, q))
        self._places += 1

    def _work(self, q: int) -> float:
        """What held requests are ordered by, lowest first."""
        if self.config.hold_order == "fcfs":
            return 0.0
        predicted = self._columns["predicted"].item(q)
        output = 0.0 if isnan(predicted) else predicted
        return self._columns["prompt"].item(q) + OUTPUT_WORK * output

    def _is_offered(self, q: int) -> bool:
        """Whether `q` is the held request that is due again."""
        return self._offered is not None and self._offered[2] == q

    def _offer_held(self) -> None:
        """Let the policy look again at the first held request, and go on until it holds one."""
        self._offered = None
        if self._held:
            self._offered = heappop(self._held)
            self._due.append(self._offered[2])
