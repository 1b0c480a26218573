"""How long policies take to decide: `makespan decisions`.

Every policy routes the same chats through fleets of different sizes, each decision is timed by the
clock, and what comes before `WARM_UP` is left out. Of agents, the network alone is timed as well:
in NumPy, as it serves, and in torch with one thread, as it was trained.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from makespan.agents.folder import load_agent
from makespan.agents.graph.plain import PlainNetwork
from makespan.agents.llm.observation import GRAPH, RouterEncoder
from makespan.agents.shipped import folder_of
from makespan.baselines.llm.simple import least_requests
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.llm.config import FleetConfig, ReplicaConfig
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.fleet import Fleet
from makespan.experiments import policies
from makespan.traces.synthetic import synthetic

RATE_PER_REPLICA = 5.0
WARM_UP = 200
NETWORK_RUNS = 1000


@dataclass(frozen=True)
class DecisionsConfig:
    """Measure how long policies take to decide.

    Attributes:
        policy: comma list, as for `makespan run`.
        replicas: sizes of the fleet.
        requests: decisions of each policy.
        agent: whose network is timed by itself.
    """

    policy: str = "round_robin,lmetric,lookahead,lookahead_hold,agent"
    replicas: tuple[int, ...] = (8, 64)
    requests: int = 3000
    agent: str = "agent"


Row = tuple[str, int, np.ndarray]
"""What was timed, number of replicas, seconds (runs,)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, or 2 for bad input."""
    config = tyro.cli(DecisionsConfig, args=argv, prog="makespan decisions")
    try:
        rows = list(measure(config))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _print(rows)
    return 0


def measure(config: DecisionsConfig) -> Iterator[Row]:
    """Time every policy, then the agent's network, on fleets of every size.

    Raises:
        ValueError: a policy or the agent is unknown.
    """
    if config.requests <= WARM_UP:
        raise ValueError(f"--requests must be above {WARM_UP}, which are not counted")
    factories = policies.resolve(config.policy, config.replicas)
    for replicas in config.replicas:
        for name, make in factories.items():
            yield name, replicas, decision_times(make(0), replicas, config.requests)
        for what, run in networks(config.agent, replicas).items():
            yield f"{config.agent}'s network, {what}", replicas, timed(run, NETWORK_RUNS)


def decision_times(policy: Policy, replicas: int, requests: int) -> np.ndarray:
    """Seconds of each decision of a run."""
    seconds = []

    def stopped(decision: RoutingDecision) -> int:
        start = time.perf_counter()
        action = policy(decision)
        seconds.append(time.perf_counter() - start)
        return action

    simulate(chats(replicas, requests), stopped)
    return np.array(seconds[WARM_UP:])


def chats(replicas: int, requests: int) -> Fleet:
    """A fleet that serves chats."""
    config = FleetConfig((ReplicaConfig(),) * replicas, can_hold=True, hold_order="shortest")
    return Fleet(synthetic("sharegpt_sessions", requests, RATE_PER_REPLICA * replicas), config)


def networks(agent: str, replicas: int) -> dict[str, Callable[[], Any]]:
    """Framework -> what computes the scores of one observation with the agent's weights."""
    found = load_agent(folder_of(agent), world="llm_router")
    if found.card.kind != "graph":
        raise ValueError(f"--agent {agent}: no graph network, but a {found.card.kind}")
    observation = an_observation(replicas, found.card.settings["prior"])
    plain = PlainNetwork(GRAPH, found.weights)
    runs: dict[str, Callable[[], Any]] = {"NumPy": lambda: plain.scores(observation)}
    with suppress(ImportError):  # serving needs no torch, so it need not be here
        runs["torch"] = _in_torch(found.weights, found.card.training["network"], observation)
    return runs


def an_observation(replicas: int, prior: str) -> dict[str, np.ndarray]:
    """What an agent sees of a fleet that is busy."""
    fleet, seen = chats(replicas, 20 * replicas), None
    while (decision := fleet.next_decision()) is not None:
        seen = RouterEncoder(replicas, prior).encode(decision)
        fleet.decide(least_requests(decision))
    assert seen is not None
    return seen


def timed(run: Callable[[], Any], times: int) -> np.ndarray:
    """Seconds of each run after some that are not counted."""
    seconds = []
    for _ in range(WARM_UP + times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds[WARM_UP:])


def _in_torch(
    weights: Any, network: dict[str, Any], observation: dict[str, np.ndarray]
) -> Callable[[], Any]:
    import torch

    from makespan.agents.config import NetworkConfig
    from makespan.agents.graph.declaration import shapes_of
    from makespan.agents.graph.network import GraphNetwork

    torch.set_num_threads(1)
    trained = GraphNetwork(GRAPH, shapes_of(observation), NetworkConfig(**network))
    trained.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    batch = {name: torch.as_tensor(value)[None] for name, value in observation.items()}
    return torch.no_grad()(lambda: trained(batch))


def _print(rows: Sequence[Row]) -> None:
    from rich.table import Table

    from makespan.experiments.summary_tables import console

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("", "replicas", "p50 ms", "p99 ms"):
        table.add_column(head, justify="right" if head else "left")
    for what, replicas, seconds in rows:
        quantiles = 1000 * np.quantile(seconds, (0.5, 0.99))
        table.add_row(what, str(replicas), *(f"{value:.3f}" for value in quantiles))
    console(sys.stdout).print(table)
