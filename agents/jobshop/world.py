"""The static job shop, as the common trainer sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes
from makespan.agents.graph.plain import PlainNetwork
from makespan.agents.jobshop.rollout import DELAY, RULE
from makespan.baselines.jobshop.rules import DELAY_COST, RulePolicy, dispatch
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.jobshop.core import Way
from makespan.envs.jobshop.env import JobShopEnv, ShopConfig
from makespan.envs.jobshop.features import VERSION
from makespan.envs.jobshop.observation import Encoder
from makespan.envs.jobshop.simulation import ShopDecision, ShopSimulation

REFERENCE = "tail_p_wait"
"""The rule whose scores the agent begins with, and that it is measured against."""

LIMIT = 1000.0
"""Bound of the rule's scores."""

GRAPH = GraphDeclaration(
    nodes=(
        Nodes("operation", ("operation",), mask="operation_mask"),
        Nodes("machine", ("machine",), mask="machine_mask"),
        Nodes("job", ("candidate",), mask="action_mask"),
    ),
    edges=(
        Edges("operation", "before", "operation", "job_arc", "job_arc_mask"),
        Edges("operation", "after", "operation", "job_arc", "job_arc_mask", reversed=True),
        Edges("operation", "on", "machine", "machine_arc", "operation_mask"),
        Edges("machine", "does", "operation", "machine_arc", "operation_mask", reversed=True),
        Edges("operation", "next_of", "job", "next_arc", "action_mask"),
        Edges("job", "goes_on_with", "operation", "next_arc", "action_mask", reversed=True),
    ),
    actions="job",
    prior="prior",
)
"""Operations, machines, and the candidates."""


class GraphEncoder:
    """Turns decisions into observations for shops of up to a size."""

    def __init__(self, max_jobs: int, max_machines: int, max_operations: int) -> None:
        self._world = Encoder(max_jobs, max_machines, max_operations)

    def encode(self, decision: ShopDecision, mask: np.ndarray) -> dict[str, np.ndarray]:
        """What `makespan.envs.jobshop.observation.Encoder` shows, and `prior` float32 (max_jobs,),
        the rule's score of each candidate."""
        seen = self._with_prior(self._world.encode(decision, mask))
        scores = decision.rows[:, RULE] - DELAY_COST * decision.rows[:, DELAY]
        seen["prior"][decision.jobs] = scores
        return seen

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing."""
        return self._with_prior(self._world.padding(mask))

    def _with_prior(self, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return seen | {"prior": np.zeros(self._world.jobs, np.float32)}


class ShopTrainingEnv(JobShopEnv):
    """`JobShopEnv` whose observations also have what `GraphEncoder` adds."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        EzPickle.__init__(self, **settings)
        self._encode = GraphEncoder(*self.config.most)
        assert isinstance(self.observation_space, spaces.Dict)
        boxes = dict(self.observation_space.spaces)
        boxes["prior"] = spaces.Box(-LIMIT, LIMIT, (self.encoder.jobs,), np.float32)
        self.observation_space = spaces.Dict(boxes)

    def encode(self, decision: ShopDecision) -> dict[str, np.ndarray]:
        return self._encode.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self._encode.padding(self.mask)


class LearnedShop:
    """Schedules shops of any size as a trained network says. Needs no torch.

    Args:
        weights: the state of a `GraphNetwork` over `GRAPH`.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._network = PlainNetwork(GRAPH, weights)
        self._size = (0, 0, 0)

    def __call__(self, decision: ShopDecision) -> int:
        """The candidate with the highest score."""
        shop = decision.shop
        size = (shop.jobs, shop.machines, shop.operations)
        if size != self._size:
            self._size, self._encoder = size, GraphEncoder(*size)
        mask = decision.action_mask
        scores = self._network.scores(self._encoder.encode(decision, mask))
        return int(np.where(mask, scores, -np.inf).argmax())


@dataclass(frozen=True)
class ShopWorld:
    """Schedulers of static job shops.

    Attributes:
        jobs: least and greatest number.
        machines: least and greatest number.
        way: what choices are between.
    """

    name: ClassVar[str] = "job_shop"
    observation_version: ClassVar[int] = VERSION
    graph: ClassVar[GraphDeclaration] = GRAPH

    jobs: tuple[int, int] = (8, 15)
    machines: tuple[int, int] = (8, 15)
    way: Way = "active"

    def __post_init__(self) -> None:
        self._config()

    def _config(self) -> ShopConfig:
        return ShopConfig(jobs=self.jobs, machines=self.machines, way=self.way)

    @property
    def reference(self) -> str:
        """The rule that `evaluate` compares with."""
        return REFERENCE

    def env(self) -> ShopTrainingEnv:
        """A training environment."""
        return ShopTrainingEnv(jobs=self.jobs, machines=self.machines, way=self.way)

    def teacher(self, name: str) -> RulePolicy:
        """The rule of that name."""
        return RulePolicy(name)

    def policy(self, weights: Mapping[str, np.ndarray]) -> Policy:
        """The scheduler that a network with these weights makes."""
        return LearnedShop(weights)

    def evaluate(self, weights: Mapping[str, np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """Makespans, in units of those of the rule `tail_p_wait`."""
        return np.array([self._ratio(weights, seed) for seed in seeds])

    def _ratio(self, weights: Mapping[str, np.ndarray], seed: int) -> float:
        shop = self._config().draw(SeedSequence(seed))
        made = simulate(ShopSimulation(shop, self.way), self.policy(weights)).schedule
        return made.makespan / dispatch(shop, REFERENCE, self.way).makespan
