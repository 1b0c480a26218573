"""What a learned router sees: the world's observation, and what a rule thinks of it."""

import numpy as np

from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes
from makespan.agents.llm.prior import LIMIT, Prior
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.observation import Encoder

VERSION = 1
"""Goes up whenever an agent trained before would see something else."""

GRAPH = GraphDeclaration(
    nodes=(
        Nodes("replica", ("replica", "prior", "cost"), mask="replica_mask"),
        Nodes("request", ("request",), single=True),
    ),
    edges=(Edges("replica", "could_serve", "request"), Edges("request", "could_go_to", "replica")),
    actions="replica",
    prior="prior",
)
"""A star: the request in the middle, and the replicas that could serve it around it."""

BOUNDS = {"prior": (-LIMIT, 0.0), "cost": (0.0, LIMIT)}
"""Range of what is added to the world's observation; both have one number per replica."""


class RouterEncoder:
    """Turns decisions into observations for fleets of up to `max_replicas`."""

    def __init__(self, max_replicas: int, prior: str) -> None:
        self._world = Encoder(max_replicas)
        self._prior = Prior(prior)

    def encode(
        self, decision: RoutingDecision, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What `makespan.envs.llm.observation.Encoder` shows, and `prior` and `cost` (see `Prior`):
        float32 (max_replicas,) each, 0 where no replica is."""
        observation = self._world.encode(decision, mask)
        n = decision.replicas
        for name, shown in zip(BOUNDS, self._prior.show(decision), strict=True):
            observation[name] = np.zeros(len(observation["replica_mask"]), np.float32)
            observation[name][:n] = shown
        return observation

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing."""
        observation = self._world.padding(mask)
        return observation | {name: np.zeros_like(observation["replica_mask"]) for name in BOUNDS}
