"""Job shops without buffers, as the trainer sees them."""

from collections.abc import Mapping, Sequence
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
from makespan.baselines.jobshop.blocking_rules import RULES, policy
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.core.registry import unknown_name
from makespan.envs.jobshop.blocking.decision import EntryDecision
from makespan.envs.jobshop.blocking.env import BlockingJobShopEnv
from makespan.envs.jobshop.blocking.episode import EpisodeConfig
from makespan.envs.jobshop.blocking.observation import EDGES, Encoder
from makespan.envs.jobshop.blocking.simulation import BlockingShop

VERSION = 1
"""Goes up whenever an agent trained before would see something else."""

REFERENCE, LIMIT = "blk_tail_p", 0.65
"""Rule, and its limit on the jobs in the shop, that agents are measured against: of those in
`makespan.baselines.jobshop.blocking_rules`, none is better over all sizes and probabilities."""

BACK = {"stands_on": "carries", "goes_to": "awaits", "goes_then_to": "awaits_later"}
"""Edges from jobs to machines -> what those from machines to jobs are called."""

GRAPH = GraphDeclaration(
    nodes=(
        Nodes("job", ("job",), mask="job_mask"),
        Nodes("machine", ("machine",), mask="machine_mask"),
        Nodes("shop", ("shop",), single=True),
    ),
    edges=(
        *(Edges("job", name, "machine", name, f"{name}_mask") for name in EDGES),
        *(
            Edges("machine", BACK[name], "job", name, f"{name}_mask", reversed=True)
            for name in EDGES
        ),
        Edges("job", "could_enter", "shop", "could_enter", "could_enter_mask"),
        Edges("machine", "is_asked", "shop", "is_asked", "is_asked_mask"),
        Edges("shop", "has", "job"),
        Edges("shop", "has", "machine"),
    ),
    actions="job",
    graph_actions=1,
    prior="prior",
)
"""Jobs, machines, and the shop as a whole, which hears of the decision: the machine and who could
enter it. The action that concerns all of it is to leave the machine empty."""


class BlockingEncoder:
    """Turns decisions into observations for shops of up to so many jobs and machines."""

    def __init__(self, max_jobs: int, max_machines: int, prior: str) -> None:
        self._world = Encoder(max_jobs, max_machines)
        self._rule = policy(prior, limit=LIMIT) if prior else None

    def encode(self, decision: EntryDecision) -> dict[str, np.ndarray]:
        """What `makespan.envs.jobshop.blocking.observation.Encoder` shows, and

        `could_enter` int64 (2, max_jobs) and `is_asked` int64 (2, 1)
        with their masks, and float32 `prior` (max_jobs + 1,), 0 for the rule's choice and -1 for
        the others, or all 0 without a rule.
        """
        observation = self._complete(self._world.encode(decision))
        observation["is_asked"][0] = decision.machine
        observation["is_asked_mask"][:] = 1
        if self._rule is not None:
            choice = self._rule(decision)
            observation["prior"][:] = -1
            observation["prior"][-1 if choice == decision.wait else choice] = 0
        return observation

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing."""
        return self._complete(self._world.padding(mask))

    def _complete(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mask = observation["action_mask"]
        rows = np.zeros((2, len(mask) - 1), np.int64)
        rows[0] = np.arange(len(mask) - 1)
        return observation | {
            "could_enter": rows,
            "could_enter_mask": mask[:-1].copy(),
            "is_asked": np.zeros((2, 1), np.int64),
            "is_asked_mask": np.zeros(1, np.float32),
            "prior": np.zeros(len(mask), np.float32),
        }


class BlockingTrainingEnv(BlockingJobShopEnv):
    """`BlockingJobShopEnv` with a reward that can be learned from.

    The reward of a step is by how much the shop has got ahead of the reference in it, in units of
    the bound: the time at which the reference, which has scheduled the same shop under the same
    shutdowns beforehand, had done as much work, less the time now. Summed up it is what the
    makespan is shorter by, so the objective is the same, but it says at once whether machines work
    or stand.

    Args:
        prior: name of the rule whose choice is shown; empty: none.
        settings: of `BlockingJobShopEnv`.
    """

    def __init__(self, prior: str, **settings: Any) -> None:
        super().__init__(**settings)
        EzPickle.__init__(self, prior, **settings)
        jobs, machines = self.config.rows
        self._encode = BlockingEncoder(jobs, machines, prior)
        assert isinstance(self.observation_space, spaces.Dict)
        last = max(jobs, machines)
        shapes = {"could_enter": (2, jobs), "is_asked": (2, 1)}
        boxes: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(0, last, shape, np.int64) for name, shape in shapes.items()
        }
        boxes["could_enter_mask"] = spaces.Box(0, 1, (jobs,), np.float32)
        boxes["is_asked_mask"] = spaces.Box(0, 1, (1,), np.float32)
        boxes["prior"] = spaces.Box(-1, 0, (jobs + 1,), np.float32)
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {**self.observation_space.spaces, **boxes}
        )

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> BlockingShop:
        """A shop and shutdowns; the reference has scheduled it."""
        simulation = super().build(seed, options)
        reference = BlockingShop(simulation.shop, simulation.shutdowns)
        self._times, self._done = _progress(simulate(reference, policy(REFERENCE, limit=LIMIT)))
        return simulation

    def score(self) -> float:
        now, log = self.simulation.clock.now, self.simulation.log
        duration = self.simulation.shop.duration
        spent = np.where(log["start"] < 0, 0, np.clip(now - log["start"], 0, duration))
        return (np.interp(spent.sum(), self._done, self._times) - now) / self._bound

    def encode(self, decision: EntryDecision) -> dict[str, np.ndarray]:
        return self._encode.encode(decision)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self._encode.padding(self.mask)


def _progress(simulation: BlockingShop) -> tuple[np.ndarray, np.ndarray]:
    """Moments of a run that is over, and how much work had been done by then; between them it grows
    evenly."""
    start, end = simulation.log["start"], simulation.log["end"]
    moments = np.unique(np.concatenate([[0], start, end]))
    done = np.clip(moments[:, None] - start, 0, end - start).sum(axis=1)
    return moments, done


class LearnedBlocking:
    """Schedules shops of any size as a trained network says. Needs no torch.

    Args:
        weights: the state of a `GraphNetwork` over `GRAPH`.
        prior: the rule it was trained to correct; empty: none.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], prior: str) -> None:
        self._network = PlainNetwork(GRAPH, weights)
        self._prior = prior
        self._size = (0, 0)

    @classmethod
    def load(cls, name: str = "blocking_job_shop") -> Self:
        """The agent of that name that comes with the package, or that in a folder.

        Raises:
            AgentError: there is none, or it was trained for something else.
        """
        agent = load_agent(folder_of(name), BlockingWorld.name, VERSION)
        return cls(agent.weights, agent.card.settings["prior"])

    def __call__(self, decision: EntryDecision) -> int:
        """The legal action with the highest score."""
        size = (len(decision.on), len(decision.occupant))
        if size != self._size:
            self._size, self._encoder = size, BlockingEncoder(*size, self._prior)
        scores = self._network.scores(self._encoder.encode(decision))
        return int(np.where(decision.action_mask, scores, -np.inf).argmax())


@dataclass(frozen=True)
class BlockingWorld:
    """Schedulers of job shops without buffers.

    Attributes:
        prior: rule whose choice the agent begins with, of
            `makespan.baselines.jobshop.blocking_rules`; empty: none, which is better: an agent that
            began with the rule made no other choice after 40,000 steps.
        jobs: least and greatest number.
        machines: least and greatest number.
        shutdown: least and greatest probability that a machine is shut down before an operation.
    """

    name: ClassVar[str] = "blocking_job_shop"
    observation_version: ClassVar[int] = VERSION
    graph: ClassVar[GraphDeclaration] = GRAPH

    prior: str = ""
    jobs: tuple[int, int] = (8, 16)
    machines: tuple[int, int] = (8, 16)
    shutdown: tuple[float, float] = (0.0, 0.2)

    def __post_init__(self) -> None:
        if self.prior and self.prior not in RULES:
            raise unknown_name("prior", self.prior, RULES)
        self.draw(0)

    def _settings(self) -> dict[str, Any]:
        names = ("jobs", "machines", "shutdown")
        return {name: list(getattr(self, name)) for name in names}

    @property
    def reference(self) -> str:
        """The rule that `evaluate` compares with."""
        return REFERENCE

    def env(self) -> BlockingTrainingEnv:
        """A training environment."""
        return BlockingTrainingEnv(self.prior, **self._settings())

    def draw(self, seed: int) -> BlockingShop:
        """A shop and its shutdowns at the beginning; the same whenever it is asked for."""
        return BlockingShop(*EpisodeConfig(**self._settings()).draw(SeedSequence(seed)))

    def teacher(self, name: str) -> Policy:
        """The rule of that name, with the limit of the reference."""
        return policy(name, limit=LIMIT)

    def policy(self, weights: Mapping[str, np.ndarray]) -> LearnedBlocking:
        """The scheduler that a network with these weights makes."""
        return LearnedBlocking(weights, self.prior)

    def evaluate(self, weights: Mapping[str, np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """Makespan over that of the reference on the same shop with the same shutdowns."""
        return np.array([self._ratio(weights, seed) for seed in seeds])

    def _ratio(self, weights: Mapping[str, np.ndarray], seed: int) -> float:
        made = simulate(self.draw(seed), self.policy(weights))
        return made.makespan / _reference(self, seed)


@cache
def _reference(world: BlockingWorld, seed: int) -> int:
    """Asked again at every evaluation."""
    return simulate(world.draw(seed), policy(REFERENCE, limit=LIMIT)).makespan
