"""Textbook policies, and the draws that other policies share.

All of them read the router's own accounting alone: exact, immediate, no polled gauge.
"""

import bisect
import hashlib

import numpy as np

from makespan.envs.llm.decision import RoutingDecision


def draw(decision: RoutingDecision, candidates: np.ndarray, random: np.random.Generator) -> int:
    """One of `candidates` (int array of replicas), uniformly; to hold where there is none."""
    if len(candidates) == 0:
        return decision.replicas
    return int(candidates[int(random.random() * len(candidates))])


def draw_lowest(decision: RoutingDecision, scores: np.ndarray, random: np.random.Generator) -> int:
    """A healthy replica with the lowest score, equals drawn uniformly.

    Routers that break ties at random need this: the first of equals would send every request
    between two scrapes to the same replica.

    Args:
        scores: shape (N,), lower is better.
    """
    scores = np.where(decision.healthy, scores, np.inf)
    lowest = decision.healthy & (scores == scores[scores.argmin()])
    return draw(decision, np.flatnonzero(lowest), random)


def lowest_from(decision: RoutingDecision, scores: np.ndarray, start: int) -> int:
    """The healthy replica with the lowest score; of equals the next on from `start`, cyclically.

    Args:
        scores: shape (N,), lower is better.
        start: any non-negative number, taken modulo N.
    """
    start %= decision.replicas
    scores = np.where(decision.healthy, scores, np.inf)
    choice = start + int(np.concatenate((scores[start:], scores[:start])).argmin())
    choice %= decision.replicas
    return choice if decision.healthy[choice] else decision.replicas


def may_hold(decision: RoutingDecision) -> bool:
    """Whether the request may be kept in the router at this moment."""
    return bool(decision.can_hold and decision.action_mask[-1])


class Random:
    """A healthy replica, uniformly at random.

    Source: `random` of vllm-project/router (`src/policies/random.rs`).
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, decision: RoutingDecision) -> int:
        return draw(decision, np.flatnonzero(decision.healthy), self._random)


class RoundRobin:
    """The healthy replicas in turn.

    Source: `round_robin` of vllm-project/router (`src/policies/round_robin.rs`): a counter modulo
    the number of healthy workers.
    """

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, decision: RoutingDecision) -> int:
        candidates = np.flatnonzero(decision.healthy)
        if len(candidates) == 0:
            return decision.replicas
        choice = int(candidates[self._turn % len(candidates)])
        self._turn += 1
        return choice


class PowerOfTwo:
    """Of two healthy replicas drawn at random, the one with fewer requests in flight.

    Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (IEEE TPDS 2001);
    `power_of_two` of vllm-project/router. The two are distinct; the first drawn wins a tie.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, decision: RoutingDecision) -> int:
        candidates = np.flatnonzero(decision.healthy)
        if len(candidates) < 2:
            return draw(decision, candidates, self._random)
        first = int(self._random.random() * len(candidates))
        second = int(self._random.random() * (len(candidates) - 1))
        second += second >= first
        one, other = candidates[first], candidates[second]
        return int(other if decision.requests[other] < decision.requests[one] else one)


def least_requests(decision: RoutingDecision) -> int:
    """The replica with the fewest requests in flight (join the shortest queue).

    Source: `least-request` of AIBrix; least outstanding requests (LOR) of Vidur. The first of
    equals.
    """
    return decision.lowest(decision.requests)


def least_tokens(decision: RoutingDecision) -> int:
    """The replica with the fewest tokens in flight.

    Tokens in flight are the uncached prompt tokens still to be computed and the prompt and
    streamed tokens of the requests that are streaming. The first of equals.

    Source: the token-level JSQ of splitwise-sim and the `token-load` scorer of llm-d's endpoint
    picker, which weigh a replica by its tokens.
    """
    return decision.lowest(decision.prefill_tokens + decision.decode_tokens)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


class SessionHash:
    """The replica that the request's session hashes to (consistent hashing, 160 virtual nodes).

    Source: Karger et al., "Consistent Hashing and Random Trees" (STOC 1997); `consistent_hash` of
    vllm-project/router (`src/policies/consistent_hash.rs`, 160 virtual nodes a worker). A session
    whose replica is down moves to the next one on the ring, as when production-stack takes a node
    off its ring. A request without a session counts as a session of its own.

    Args:
        virtual_nodes: points on the ring for each replica.
    """

    def __init__(self, virtual_nodes: int = 160) -> None:
        self._virtual_nodes = virtual_nodes
        self._points: list[int] = []
        self._owners: list[int] = []

    def _build_ring(self, replicas: int) -> None:
        nodes = range(self._virtual_nodes)
        ring = sorted((_hash(f"{r}:{v}"), r) for r in range(replicas) for v in nodes)
        self._points = [point for point, _ in ring]
        self._owners = [owner for _, owner in ring]

    def __call__(self, decision: RoutingDecision) -> int:
        if len(self._points) != decision.replicas * self._virtual_nodes:
            self._build_ring(decision.replicas)
        request, healthy = decision.request, decision.healthy
        key = f"session {request.session}" if request.session >= 0 else f"request {request.index}"
        start = bisect.bisect_left(self._points, _hash(key))
        for step in range(len(self._owners)):
            owner = self._owners[(start + step) % len(self._owners)]
            if healthy[owner]:
                return owner
        return decision.replicas
