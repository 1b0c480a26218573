"""Improving schedules of job shops swap by swap, as the trainer sees it.

The task and the graph are after L2S (Zhang et al., Deep reinforcement learning guided improvement
heuristic for job shop scheduling, ICLR 2024): schedules as graphs, the moves N5 as actions, and as
reward what the best makespan so far gains. Other than there, the network also sees what the search
remembers and corrects a rule, tabu search with estimated neighbours, and it learns by proximal
policy optimisation, there by n-step REINFORCE.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.agents.folder import load_agent
from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes
from makespan.agents.graph.plain import PlainNetwork
from makespan.agents.shipped import folder_of
from makespan.baselines.jobshop.improvement import RandomSwap, steepest, tabu, tabu_scores
from makespan.baselines.jobshop.look_ahead import LookAhead
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.core.registry import unknown_name
from makespan.envs.jobshop.improve.env import JobShopImproveEnv
from makespan.envs.jobshop.improve.observation import LIMIT, Encoder
from makespan.envs.jobshop.improve.search import LocalSearch, SwapDecision

VERSION = 1
"""Goes up whenever an agent trained before would see something else."""

PRIOR_LIMIT = 100.0
"""Bound of the rule's scores."""

TEACHERS: dict[str, Callable[[], Policy]] = {
    "steepest": lambda: steepest,
    "tabu": lambda: tabu,
    "look_ahead": LookAhead,
    "random": RandomSwap,
}
"""Name -> what makes a policy for one episode."""

GRAPH = GraphDeclaration(
    nodes=(
        Nodes("operation", ("operation",), mask="operation_mask"),
        Nodes("move", ("move", "merit"), mask="move_mask"),
        Nodes("search", ("search",), single=True),
    ),
    edges=(
        Edges("operation", "before_in_job", "operation", "job_arcs", "job_arc_mask"),
        Edges("operation", "after_in_job", "operation", "job_arcs", "job_arc_mask", reversed=True),
        Edges("operation", "before", "operation", "machine_arcs", "machine_arc_mask"),
        Edges("operation", "after", "operation", "machine_arcs", "machine_arc_mask", reversed=True),
        Edges("operation", "first_of", "move", "move_first", "move_mask"),
        Edges("operation", "second_of", "move", "move_second", "move_mask"),
        Edges("move", "puts_behind", "operation", "move_first", "move_mask", reversed=True),
        Edges("move", "puts_in_front", "operation", "move_second", "move_mask", reversed=True),
        Edges("move", "open_to", "search"),
        Edges("search", "makes", "move"),
    ),
    actions="move",
    prior="prior",
)
"""Operations, the swaps that there are, and the search as a whole."""


class ImproveEncoder:
    """Turns decisions into observations with so many rows for operations and for swaps.

    Args:
        prior: whether the scores of `tabu_scores` are shown.
    """

    def __init__(self, rows: int, max_moves: int, prior: bool) -> None:
        self._world = Encoder(rows, max_moves)
        self._prior = prior

    def encode(self, decision: SwapDecision, mask: np.ndarray) -> dict[str, np.ndarray]:
        """What `makespan.envs.jobshop.improve.observation.Encoder` shows, and float32

        - `merit` (max_moves, 2): the estimated makespan after a swap, less that before it and less
          the shortest so far, in longest durations;
        - `prior` (max_moves,): the rule's scores, 0 without a rule.
        """
        seen = self._complete(self._world.encode(decision, mask))
        moves = min(len(decision.moves), self._world.max_moves)
        longest = max(int(decision.selection.shop.duration.max()), 1)
        for column, makespan in enumerate((decision.selection.makespan, decision.best)):
            excess = (decision.estimates[:moves] - makespan) / longest
            seen["merit"][:moves, column] = np.clip(excess, -LIMIT, LIMIT)
        if self._prior:
            scores = np.clip(tabu_scores(decision)[:moves], -PRIOR_LIMIT, PRIOR_LIMIT)
            seen["prior"][:moves] = scores
        return seen

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing."""
        return self._complete(self._world.padding(mask))

    def _complete(self, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        moves = self._world.max_moves
        merit, prior = np.zeros((moves, 2), np.float32), np.zeros(moves, np.float32)
        return seen | {"merit": merit, "prior": prior}


class ImproveTrainingEnv(JobShopImproveEnv):
    """`JobShopImproveEnv` whose observations also have what `ImproveEncoder` adds, and whose
    rewards are shares of the makespan at the start, so that shops of all sizes weigh the same.

    Args:
        prior: whether the rule's scores are shown.
        settings: of `JobShopImproveEnv`.
    """

    def __init__(self, prior: bool, **settings: Any) -> None:
        super().__init__(**settings)
        EzPickle.__init__(self, prior, **settings)
        moves = self.config.max_moves
        self._encode = ImproveEncoder(self.config.rows, moves, prior)
        assert isinstance(self.observation_space, spaces.Dict)
        boxes = dict(self.observation_space.spaces)
        boxes["merit"] = spaces.Box(-LIMIT, LIMIT, (moves, 2), np.float32)
        boxes["prior"] = spaces.Box(-PRIOR_LIMIT, PRIOR_LIMIT, (moves,), np.float32)
        self.observation_space: spaces.Space[Any] = spaces.Dict(boxes)

    def score(self) -> float:
        return -self.simulation.best.makespan / max(self.simulation.begun, 1)

    def encode(self, decision: SwapDecision) -> dict[str, np.ndarray]:
        return self._encode.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self._encode.padding(self.mask)


class LearnedSwaps:
    """Chooses swaps on shops of any size as a trained network says. Needs no torch.

    Args:
        weights: the state of a `GraphNetwork` over `GRAPH`.
        prior: whether it was trained with the rule's scores.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], prior: bool) -> None:
        self._network = PlainNetwork(GRAPH, weights)
        self._prior = prior

    @classmethod
    def load(cls, name: str = "job_shop_improve") -> Self:
        """The agent of that name that comes with the package, or that in a folder.

        Raises:
            AgentError: there is none, or it was trained for something else.
        """
        agent = load_agent(folder_of(name), ImproveWorld.name, VERSION)
        return cls(agent.weights, agent.card.settings["prior"])

    def __call__(self, decision: SwapDecision) -> int:
        """The allowed swap with the highest score."""
        mask = decision.action_mask
        rows = decision.selection.shop.operations
        encoder = ImproveEncoder(rows, len(mask), self._prior)
        scores = self._network.scores(encoder.encode(decision, mask))
        return int(np.where(mask, scores, -np.inf).argmax())


@dataclass(frozen=True)
class ImproveWorld:
    """Improvers of schedules of static job shops.

    Attributes:
        prior: whether agents begin with the scores of `tabu_scores`.
        jobs: least and greatest number.
        machines: least and greatest number.
        steps: swaps of an episode.
    """

    name: ClassVar[str] = "job_shop_improve"
    observation_version: ClassVar[int] = VERSION
    graph: ClassVar[GraphDeclaration] = GRAPH

    prior: bool = True
    jobs: tuple[int, int] = (10, 10)
    machines: tuple[int, int] = (10, 10)
    steps: int = 200

    def __post_init__(self) -> None:
        self.env()

    @property
    def reference(self) -> str:
        """The rule that `evaluate` compares with."""
        return "tabu"

    def env(self) -> ImproveTrainingEnv:
        """A training environment."""
        return ImproveTrainingEnv(
            self.prior, jobs=list(self.jobs), machines=list(self.machines), steps=self.steps
        )

    def teacher(self, name: str) -> Policy:
        """The rule of that name in `TEACHERS`."""
        if name not in TEACHERS:
            raise unknown_name("teacher", name, TEACHERS)
        return TEACHERS[name]()

    def policy(self, weights: Mapping[str, np.ndarray]) -> LearnedSwaps:
        """The improver that a network with these weights makes."""
        return LearnedSwaps(weights, self.prior)

    def evaluate(self, weights: Mapping[str, np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """The best makespan of an episode, in units of that of the rule `tabu` from the same start.

        Swaps are the network's favourites, none are drawn.
        """
        return np.array([self._ratio(weights, seed) for seed in seeds])

    def _ratio(self, weights: Mapping[str, np.ndarray], seed: int) -> float:
        search = simulate(_search(self, seed), self.policy(weights))
        return search.best.makespan / _reference(self, seed)


def _search(world: ImproveWorld, seed: int) -> LocalSearch:
    return world.env().build(SeedSequence(seed), {})


@cache
def _reference(world: ImproveWorld, seed: int) -> int:
    """Asked again at every evaluation."""
    return simulate(_search(world, seed), tabu).best.makespan
