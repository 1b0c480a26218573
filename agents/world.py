"""What the trainer asks of a world."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from makespan.agents.graph.declaration import GraphDeclaration
from makespan.envs.core.contract import Policy
from makespan.envs.core.environment import SchedulingEnv

WORLDS = {
    "llm_router": "makespan.agents.llm.world:RouterWorld",
    "job_shop": "makespan.agents.jobshop.world:ShopWorld",
    "job_shop_improve": "makespan.agents.jobshop.improve:ImproveWorld",
    "dynamic_job_shop": "makespan.agents.jobshop.dynamic:DynamicWorld",
    "blocking_job_shop": "makespan.agents.jobshop.blocking:BlockingWorld",
}
"""World by its name -> its dataclass."""


class World(Protocol):
    """A world that agents can be trained in; a frozen dataclass, its fields are its settings.

    Attributes:
        name: as on the command line, `llm_router`.
        observation_version: goes up when agents trained before would see something else.
        graph: the graph in an observation.
        reference: name of the teacher that `evaluate` compares with.
    """

    name: ClassVar[str]
    observation_version: ClassVar[int]
    graph: ClassVar[GraphDeclaration]

    @property
    def reference(self) -> str: ...

    def env(self) -> SchedulingEnv[Any, Any, dict[str, np.ndarray]]:
        """A training environment; its episodes follow from the seed of its first reset."""
        ...

    def teacher(self, name: str) -> Policy:
        """A fresh baseline of that name, to be imitated.

        Raises:
            ValueError: there is none.
        """
        ...

    def policy(self, weights: Mapping[str, np.ndarray]) -> Policy:
        """The policy of a network with these weights, for decisions of any size."""
        ...

    def evaluate(self, weights: Mapping[str, np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """float64 (seeds,): how the policy did in the episode of each seed, lower is better.

        In units of a reference on the same episode: 0.9 is 10 % better.
        """
        ...
