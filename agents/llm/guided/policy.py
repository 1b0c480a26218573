"""A trained guided Double DQN, as a policy like any other. Needs no torch."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from makespan.agents.folder import load_agent
from makespan.agents.llm.guided.state import VERSION, encode
from makespan.agents.llm.guided.survey import survey
from makespan.envs.llm.decision import RoutingDecision

KIND = "guided_dqn"
"""Of the agent's card."""

LAYERS = ("0", "2", "4")
"""Names of the linear layers in the weights; rectifiers stand between them."""


def values(weights: Mapping[str, np.ndarray], state: np.ndarray) -> np.ndarray:
    """float32 (actions,): Q of every action in a state."""
    for layer in LAYERS:
        if layer != LAYERS[0]:
            state = np.maximum(state, 0)
        state = weights[f"{layer}.weight"] @ state + weights[f"{layer}.bias"]
    return state


def best_action(values: np.ndarray, mask: np.ndarray) -> int:
    """The legal action of highest value; the first of equals. `mask` may lack the last: to hold."""
    return int(np.where(mask, values[: len(mask)], -np.inf).argmax())


class GuidedRouter:
    """The legal action that the network values most: a replica, or to hold the request.

    Reads own accounting, predictions and step-time models. The network is made for one size of
    fleet, as in the paper.

    Source: Jain et al., "Intelligent Router for LLM Workloads", arXiv 2408.13510. It acts every
    0.02 s; here a policy is asked at arrivals and, for a held request, at every finish.

    Args:
        weights: of the layers, see `values`.
        replicas: of the fleets that it was trained for.
        lengths: whether it uses predicted output lengths.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], replicas: int, lengths: bool) -> None:
        self._weights = weights
        self._replicas = replicas
        self._lengths = lengths

    def __call__(self, decision: RoutingDecision) -> int:
        if decision.replicas != self._replicas:
            raise ValueError(
                f"this guided DQN routes for fleets of {self._replicas} replicas, "
                f"not of {decision.replicas}"
            )
        state = encode(decision, survey(decision, self._lengths))
        return best_action(values(self._weights, state), decision.action_mask)


def router(folder: Path) -> Callable[[], GuidedRouter]:
    """What makes a fresh policy out of the agent in `folder`.

    Raises:
        AgentError: there is none, or not one that this version of makespan can use.
    """
    agent = load_agent(folder, world="llm_router", observation_version=VERSION)
    settings = agent.card.settings
    return lambda: GuidedRouter(agent.weights, settings["replicas"], settings["lengths"])
