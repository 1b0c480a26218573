"""The router's accounting of servers that are real, in the form of the simulator's decisions.

`LiveFleet` is a `Router` (`makespan.envs.llm.decision`): a policy cannot tell it from a simulated
fleet. Every field means what it means there (`makespan.envs.llm.engine.send`, `.scheduler.complete`
and `.gauges`). Nothing here waits or looks at a clock: all times come from the caller, in seconds
of one clock that does not go back.

Counts are plain integers that change with every event; arrays are made when a decision is. As in
the simulator they are valid until the decision is answered.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from makespan.agents.serve.prefix_index import PrefixIndex, PrefixIndexes
from makespan.envs.llm.config import ReplicaConfig
from makespan.envs.llm.decision import IN_FLIGHT, RECENT, Gauges, RequestView, RoutingDecision
from makespan.envs.llm.replica import step_time
from makespan.envs.llm.state import RECENT_LENGTH
from makespan.traces.workload import HASH_BLOCK_TOKENS

NOTHING = np.zeros(0, IN_FLIGHT)
"""What a replica holds that holds nothing."""

INDEX_BLOCKS = 31_250
"""Prompt blocks that are remembered per replica: `FleetConfig.prefix_index_blocks`."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as the router received it.

    Attributes:
        index: a number of its own, stable across retries.
        arrival_s: when it came.
        prompt_tokens: length of the prompt, at least 1.
        prefix_hashes: int64 array, one non-negative chained hash per full block of 16 tokens;
            empty when the prompt shares nothing. Those beyond the prompt are ignored.
        session, priority, slo_class, predicted_tokens: see `RequestView`.
    """

    index: int
    arrival_s: float
    prompt_tokens: int
    prefix_hashes: np.ndarray
    session: int = -1
    priority: int = 0
    slo_class: str = ""
    predicted_tokens: float = nan

    @property
    def prompt_hashes(self) -> np.ndarray:
        """The hashes that lie wholly in the prompt."""
        return self.prefix_hashes[: self.prompt_tokens // HASH_BLOCK_TOKENS]


@dataclass(slots=True, eq=False)
class Sent:
    """A request that was sent to a replica: what `LiveFleet.send` answers.

    Attributes:
        replica: where it was sent.
        request: what was sent.
        sent_s: when.
        uncached_tokens: prompt tokens that the replica is expected to compute.
        queued_tokens: uncached tokens that were ahead of it there.
        streamed_tokens: output tokens that came back so far.
        first_token_s: when the first of them came; nan: not yet.
        settled: whether it has finished or failed.
        row: its place among what the replica holds.
    """

    replica: "Replica"
    request: Incoming
    sent_s: float
    uncached_tokens: int
    queued_tokens: int
    streamed_tokens: int = 0
    first_token_s: float = nan
    settled: bool = False
    row: int = -1

    @property
    def streaming(self) -> bool:
        """Whether its first token has come."""
        return self.streamed_tokens > 0


class _InFlight:
    """Rows of `IN_FLIGHT` in the order of sending, kept up to date.

    The simulator puts requests that were sent at the same moment in the order of the engine's
    queue, which no router sees; in an engine that serves first come first, that is the same.
    """

    def __init__(self) -> None:
        self._sent: list[Sent] = []
        self._allocate(np.zeros(16, IN_FLIGHT))

    def _allocate(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._streamed = rows["streamed_tokens"]

    def add(self, sent: Sent) -> None:
        sent.row = len(self._sent)
        if sent.row == len(self._rows):
            self._allocate(np.concatenate([self._rows, np.zeros_like(self._rows)]))
        request = sent.request
        self._rows[sent.row] = (
            request.index,
            sent.sent_s,
            request.prompt_tokens,
            sent.uncached_tokens,
            0,
            request.predicted_tokens,
        )
        self._sent.append(sent)

    def count(self, sent: Sent) -> None:
        self._streamed[sent.row] = sent.streamed_tokens

    def remove(self, sent: Sent) -> None:
        row, end = sent.row, len(self._sent)
        del self._sent[row]
        self._rows[row : end - 1] = self._rows[row + 1 : end]
        for later in self._sent[row:]:
            later.row -= 1

    def rows(self) -> np.ndarray:
        return self._rows[: len(self._sent)].copy() if self._sent else NOTHING


class _Recent:
    """The last rows of `RECENT`."""

    def __init__(self) -> None:
        # Each row is written twice, that far apart: the last ones are always a slice.
        self._rows = np.zeros(2 * RECENT_LENGTH, RECENT)
        self._count = 0

    def add(self, sent: Sent, now: float) -> None:
        tpot_s = nan
        if sent.streamed_tokens > 1:
            tpot_s = (now - sent.first_token_s) / (sent.streamed_tokens - 1)
        self._rows[self._count % RECENT_LENGTH :: RECENT_LENGTH] = (
            sent.uncached_tokens,
            sent.queued_tokens,
            sent.request.prompt_tokens,
            sent.first_token_s - sent.sent_s,
            sent.streamed_tokens,
            tpot_s,
        )
        self._count += 1

    def rows(self) -> np.ndarray:
        if self._count <= RECENT_LENGTH:
            return self._rows[: self._count]
        oldest = self._count % RECENT_LENGTH
        return self._rows[oldest : oldest + RECENT_LENGTH]


class Replica:
    """One backend as the router sees it.

    Args:
        config: what it runs on, resolved (`makespan.envs.llm.replica.resolve`).
        index_blocks: hashes of prompts that the router remembers having sent to it.

    Attributes:
        config: as given.
        step_time: its step-time model.
        index: what its cache is expected to hold.
        up: whether it may be chosen, at first True; the owner sets it.
        requests: sent and not settled.
        prefill_tokens: uncached prompt tokens of those without a first token.
        decoding: requests that have their first token.
        decode_tokens: prompt and streamed tokens of those.
        block_size, kv_blocks: tokens per KV block, and blocks.
        running, waiting, kv_usage: the last scrape, nan before the first.
        scraped_s: when that was.

    Raises:
        ValueError: the configuration is not resolved, or names unknown hardware.
    """

    def __init__(self, config: ReplicaConfig, index_blocks: int = INDEX_BLOCKS) -> None:
        engine = config.engine
        self.config = config
        self.step_time = step_time(config)
        self.up = True
        self.requests = self.prefill_tokens = self.decoding = self.decode_tokens = 0
        self._caching = engine.enable_prefix_caching
        # Of what caches nothing, nothing is ever looked up.
        self.index = PrefixIndex(index_blocks if self._caching else 1)
        self._in_flight, self._recent = _InFlight(), _Recent()
        self.engine_said(engine.block_size, engine.kv_blocks)
        self.forget_gauges()

    def engine_said(self, block_size: int, kv_blocks: int) -> None:
        """Take over what `vllm:cache_config_info` says.

        Raises:
            ValueError: it cannot be.
        """
        if block_size < 1 or kv_blocks < 2:
            raise ValueError(f"no engine has {kv_blocks} KV blocks of {block_size} tokens")
        self.block_size, self.kv_blocks = block_size, kv_blocks

    def scraped(self, now: float, running: float, waiting: float, kv_usage: float) -> None:
        """Take over the gauges that `/metrics` showed at `now`; nan: it did not show that one."""
        self.running, self.waiting, self.kv_usage = running, waiting, kv_usage
        self.scraped_s = now

    def forget_gauges(self) -> None:
        """The last gauges mean nothing any more."""
        self.running = self.waiting = self.kv_usage = self.scraped_s = nan

    def forget(self) -> None:
        """The server was restarted: its cache is empty and its gauges mean nothing.

        What was sent to it stays in the accounting until it is settled.
        """
        self.index.forget()
        self.forget_gauges()

    def in_flight(self) -> np.ndarray:
        """New rows of `IN_FLIGHT`, in the order in which they were sent."""
        return self._in_flight.rows()

    def recent(self) -> np.ndarray:
        """Rows of `RECENT`, oldest first."""
        return self._recent.rows()

    def send(self, request: Incoming, now: float) -> Sent:
        """See `LiveFleet.send`."""
        hashes = request.prompt_hashes
        matched = self.index.remember(hashes) if self._caching and len(hashes) else 0
        uncached = max(1, request.prompt_tokens - matched)
        sent = Sent(self, request, now, uncached, self.prefill_tokens)
        self.requests += 1
        self.prefill_tokens += uncached
        self._in_flight.add(sent)
        return sent

    def count(self, sent: Sent, tokens: int, now: float) -> None:
        """See `LiveFleet.count`."""
        if not sent.streaming:
            sent.first_token_s = now
            self.prefill_tokens -= sent.uncached_tokens
            self.decoding += 1
            self.decode_tokens += sent.request.prompt_tokens
        sent.streamed_tokens += tokens
        self.decode_tokens += tokens
        self._in_flight.count(sent)

    def settle(self, sent: Sent) -> None:
        """Take what was sent out of the accounting."""
        sent.settled = True
        self.requests -= 1
        if sent.streaming:
            self.decoding -= 1
            self.decode_tokens -= sent.request.prompt_tokens + sent.streamed_tokens
        else:
            self.prefill_tokens -= sent.uncached_tokens
        self._in_flight.remove(sent)

    def finish(self, sent: Sent, now: float) -> None:
        """See `LiveFleet.finish`."""
        self.settle(sent)
        if sent.streaming:
            self._recent.add(sent, now)


class LiveFleet:
    """Servers behind one router; makes the `RoutingDecision`s of requests that are real.

    Args:
        replicas: at the start.
        can_hold: give policies the action of holding a request in the router.

    Attributes:
        replicas: the servers, by the numbers that decisions use. The owner may change the list
            between an answer and the next decision.
        held: requests that the router holds, without the one to be decided; the owner sets it.
        requests, prefill_tokens, decoding, block_size, kv_blocks: int64 (N,), see `Router`; as
            they were at the last decision.
        step_time, engines: per replica, see `Router`; new lists when the replicas are others.
    """

    def __init__(self, replicas: Sequence[Replica], can_hold: bool) -> None:
        self.replicas = list(replicas)
        self.held = 0
        self._can_hold = can_hold
        self._now = nan
        self._matched: tuple[RequestView, np.ndarray] | None = None
        self._rows: dict[int, np.ndarray] = {}
        self._meet_replicas()
        self._count_replicas()

    # What happens.

    def decision(
        self, request: Incoming, now: float, attempt: int = 0, excluded: Collection[int] = ()
    ) -> RoutingDecision:
        """Where to send `request`.

        Legal are the replicas that are up and not excluded. Holding is legal if the fleet can and
        a replica that is up, excluded or not, has requests in flight: their finish is what a held
        request waits for. (In the simulator a recovery is worth waiting for too: it always comes.)

        Args:
            request: what to send.
            now: seconds.
            attempt: how many times it was already sent to a replica that failed.
            excluded: numbers of replicas that it must not go to.

        Raises:
            ValueError: no action is legal.
        """
        if self.replicas != self._known:
            self._meet_replicas()
        self._count_replicas()
        self._rows = {}
        self._now = now
        mask = self._mask(excluded)
        if not mask.any():
            raise ValueError("no replica may be chosen, and nothing runs that could be waited for")
        view = RequestView(
            index=request.index,
            prompt_tokens=request.prompt_tokens,
            prefix_hashes=request.prompt_hashes,
            session=request.session,
            priority=request.priority,
            slo_class=request.slo_class,
            predicted_tokens=request.predicted_tokens,
            attempt=attempt,
        )
        return RoutingDecision(now, view, mask, self)

    def send(self, r: int, request: Incoming, now: float) -> Sent:
        """Note that `request` is sent to replica `r`; the handle that settles it."""
        return self.replicas[r].send(request, now)

    def count(self, sent: Sent, tokens: int, now: float) -> None:
        """Note that `tokens` more output tokens came back; nothing if it is settled.

        Negative where they had been estimated and were fewer; one that came stays.

        Raises:
            ValueError: less than that is left.
        """
        if tokens < 0 and sent.streamed_tokens + tokens < 1:
            raise ValueError(f"{-tokens} of {sent.streamed_tokens} tokens cannot be taken back")
        if tokens and not sent.settled:
            sent.replica.count(sent, tokens, now)

    def finish(self, sent: Sent, now: float) -> None:
        """Note that the answer is complete; nothing if it is settled.

        It joins the recent ones of its replica, unless no token of it was counted: without a first
        token there is no time to the first token.
        """
        if not sent.settled:
            sent.replica.finish(sent, now)

    def fail(self, sent: Sent, now: float) -> None:
        """Note that no (complete) answer will come; nothing if it is settled."""
        if not sent.settled:
            sent.replica.settle(sent)

    # What a decision shows: see `Router`.

    def decode_tokens(self) -> np.ndarray:
        """int64 (N,): prompt and streamed tokens of the requests that are streaming."""
        return np.array([replica.decode_tokens for replica in self._known], np.int64)

    def gauges(self) -> Gauges:
        """The last scrapes."""
        replicas = self._known
        running, waiting, kv_usage, scraped_s = np.array(
            [
                [replica.running for replica in replicas],
                [replica.waiting for replica in replicas],
                [replica.kv_usage for replica in replicas],
                [replica.scraped_s for replica in replicas],
            ],
            np.float64,
        )
        return Gauges(running, waiting, kv_usage, self._now - scraped_s)

    def prefix_tokens(self, request: RequestView) -> np.ndarray:
        """int64 (N,): tokens of the prompt that the prefix index finds on each replica.

        Looked up when a decision is first asked.
        """
        if self._matched is None or self._matched[0] is not request:
            self._matched = request, self._indexes.matched_tokens(request.prefix_hashes)
        return self._matched[1]

    def in_flight(self, replica: int) -> np.ndarray:
        """Rows of `IN_FLIGHT`, in the order in which they were sent.

        Made when a decision first asks: a policy may ask again for each of many replicas.
        """
        if replica not in self._rows:
            self._rows[replica] = self._known[replica].in_flight()
        return self._rows[replica]

    def recent(self, replica: int) -> np.ndarray:
        """Rows of `RECENT`, oldest first."""
        return self._known[replica].recent()

    # Steps of the above.

    def _meet_replicas(self) -> None:
        """Make what depends on which replicas there are."""
        self._known = list(self.replicas)
        self._indexes = PrefixIndexes([replica.index for replica in self._known])
        self.step_time = [replica.step_time for replica in self._known]
        self.engines = [replica.config.engine for replica in self._known]

    def _count_replicas(self) -> None:
        replicas = self._known
        columns = np.array(
            [
                [replica.requests for replica in replicas],
                [replica.prefill_tokens for replica in replicas],
                [replica.decoding for replica in replicas],
                [replica.block_size for replica in replicas],
                [replica.kv_blocks for replica in replicas],
            ],
            np.int64,
        )
        self.requests, self.prefill_tokens, self.decoding, self.block_size, self.kv_blocks = columns

    def _mask(self, excluded: Collection[int]) -> np.ndarray:
        """bool (N,) or (N + 1,): the legal actions."""
        up = [replica.up for replica in self._known]
        if self._can_hold:
            up.append(any(replica.up and replica.requests for replica in self._known))
        mask = np.array(up, np.bool_)
        for r in excluded:
            mask[r] = False
        return mask
