"""What a learned router sees: the world's observation, and what a rule thinks of it."""

import math

import numpy as np

from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes
from makespan.agents.llm.prior import LIMIT, Prior
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.observation import Encoder

VERSION = 2
"""Goes up whenever an agent trained before would see something else."""

GRAPH = GraphDeclaration(
    nodes=(
        Nodes("replica", ("replica", "behind", "cost", "backlog"), mask="replica_mask"),
        Nodes("request", ("request", "queue"), single=True),
    ),
    edges=(Edges("replica", "could_serve", "request"), Edges("request", "could_go_to", "replica")),
    actions="replica",
    graph_actions=1,
    prior="prior",
)
"""A star: the request in the middle, and the replicas that could serve it around it. The action
that concerns all of them is to hold the request."""

BOUNDS = {"behind": (-LIMIT, 0.0), "cost": (0.0, LIMIT), "backlog": (-LIMIT, LIMIT)}
"""Range of what is added to a replica: a number each (`makespan.agents.llm.prior.Opinion`)."""

HELD = 256
"""Held requests that are shown as 1."""


class RouterEncoder:
    """Turns decisions into observations for fleets of up to `max_replicas`."""

    def __init__(self, max_replicas: int, prior: str) -> None:
        self._world = Encoder(max_replicas, hold=True)
        self._prior = Prior(prior)

    def encode(
        self, decision: RoutingDecision, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What `makespan.envs.llm.observation.Encoder` shows, and float32 arrays of the rule:

        `behind`, `cost`, `backlog` (max_replicas,), see `Opinion`, 0 where no replica is; `queue`
        (2,), log1p of the requests held over that of `HELD`, and the rule's score of holding;
        `prior` (max_replicas + 1,), the scores of the rule: `behind`, and that of holding.
        """
        observation = self._world.encode(decision, mask) | self._nothing()
        n, opinion = decision.replicas, self._prior.opinion(decision)
        for name in BOUNDS:
            observation[name][:n] = getattr(opinion, name)
        hold = max(opinion.hold, -LIMIT)
        observation["queue"][:] = math.log1p(decision.held) / math.log1p(HELD), hold
        observation["prior"][:n] = opinion.behind
        observation["prior"][-1] = hold
        return observation

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing."""
        return self._world.padding(mask) | self._nothing()

    def _nothing(self) -> dict[str, np.ndarray]:
        rows = self._world.max_replicas
        entries = {name: np.zeros(rows, np.float32) for name in BOUNDS}
        return entries | {"queue": np.zeros(2, np.float32), "prior": np.zeros(rows + 1, np.float32)}
