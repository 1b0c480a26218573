"""A trained router, as a policy like any other."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from makespan.agents.folder import AgentError, load_agent
from makespan.agents.graph.plain import PlainNetwork
from makespan.agents.llm.guided import policy as guided
from makespan.agents.llm.observation import GRAPH, VERSION, RouterEncoder
from makespan.envs.core.contract import Policy
from makespan.envs.core.registry import unknown_name
from makespan.envs.llm.decision import RoutingDecision


class LearnedRouter:
    """The legal action that the network scores highest; the first of equals.

    Sends the request to a replica, or holds it where the fleet allows that. Reads own accounting,
    gauges, predictions, the prefix index and the step-time models, for fleets of any size. Needs
    no torch.

    Args:
        weights: the state of a `GraphNetwork` over `makespan.agents.llm.observation.GRAPH`.
        prior: the rule it was trained to correct.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], prior: str) -> None:
        self._network = PlainNetwork(GRAPH, weights)
        self._prior = prior
        self._encoder: RouterEncoder | None = None

    def __call__(self, decision: RoutingDecision) -> int:
        if self._encoder is None:
            self._encoder = RouterEncoder(decision.replicas, self._prior)
        scores = self._network.scores(self._encoder.encode(decision))
        legal = decision.action_mask
        return int(np.where(legal, scores[: len(legal)], -np.inf).argmax())


def router(folder: Path) -> Callable[[], Policy]:
    """What makes a fresh policy out of the agent in `folder`, whatever kind it is.

    Raises:
        AgentError: there is none, or not one that this version of makespan can use.
    """
    kind = load_agent(folder, world="llm_router").card.kind
    if kind not in ROUTERS:
        raise AgentError(f"{folder}: {unknown_name('kind of agent', kind, ROUTERS)}")
    return ROUTERS[kind](folder)


def _graph_router(folder: Path) -> Callable[[], LearnedRouter]:
    agent = load_agent(folder, world="llm_router", observation_version=VERSION)
    return lambda: LearnedRouter(agent.weights, agent.card.settings["prior"])


ROUTERS: dict[str, Callable[[Path], Callable[[], Policy]]] = {
    "graph": _graph_router,
    guided.KIND: guided.router,
}
"""Kind of an agent, as its card says -> what makes policies of one."""
