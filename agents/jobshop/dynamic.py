"""Job shops that run, with breakdowns and arrivals, as the common trainer sees them."""

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
from makespan.baselines.jobshop.dynamic_rules import PRIORITIES, policy
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.core.registry import unknown_name
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.envs.jobshop.dynamic.env import DynamicJobShopEnv
from makespan.envs.jobshop.dynamic.episode import DynamicEpisode, Objective, whole_number
from makespan.envs.jobshop.dynamic.observation import VERSION, Encoder
from makespan.envs.jobshop.dynamic.simulation import DynamicJobShop

LIMIT = 1000.0
"""Bound of a rule's scores."""

SMALLEST = 1e-300
"""Stands for a cost too small for a float, where its logarithm is taken."""

NOTHING = 1e-9
"""Stands for an objective of 0, where it is divided by."""

GRAPH = GraphDeclaration(
    nodes=(
        Nodes("candidate", ("candidate",), mask="candidate_mask"),
        Nodes("machine", ("machine",), mask="machine_mask"),
        Nodes("shop", ("shop",), single=True),
    ),
    edges=(
        Edges("candidate", "goes_to", "machine", "next_edge", "next_edge_mask"),
        Edges("machine", "awaits", "candidate", "next_edge", "next_edge_mask", reversed=True),
        Edges("candidate", "in", "shop"),
        Edges("machine", "in", "shop"),
        Edges("shop", "has", "candidate"),
        Edges("shop", "has", "machine"),
    ),
    actions="candidate",
    prior="prior",
)
"""Candidates, machines, and the shop as a whole, through which candidates hear of each other."""


def _log_ratio(priority: np.ndarray) -> np.ndarray:
    return np.log1p(-priority)


def _log_cost(priority: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(-priority, SMALLEST))


SCORES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "tail_p": _log_ratio,
    "atc": _log_cost,
}
"""Rule that an agent can begin with -> its scores, greater is better, from its priorities: in the
same order, and so that differences mean the same at both ends."""


class DynamicEncoder:
    """Turns decisions into observations for shops of up to so many candidates and machines.

    Args:
        rule: whose scores are shown, of `SCORES`.
    """

    def __init__(self, max_candidates: int, max_machines: int, rule: str) -> None:
        self._world = Encoder(max_candidates, max_machines)
        self._rule = rule

    def encode(self, decision: DispatchDecision, mask: np.ndarray) -> dict[str, np.ndarray]:
        """What `makespan.envs.jobshop.dynamic.observation.Encoder` shows, and `prior` float32
        (max_candidates,), the scores of the rule."""
        seen = self._with_prior(self._world.encode(decision, mask))
        rows = self._world.shown(decision)
        scores = SCORES[self._rule](PRIORITIES[self._rule](decision))
        seen["prior"][: len(rows)] = np.clip(scores[rows], -LIMIT, LIMIT)
        return seen

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing."""
        return self._with_prior(self._world.padding(mask))

    def _with_prior(self, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return seen | {"prior": np.zeros(self._world.max_candidates, np.float32)}


class Reference:
    """How the rule fared in an episode: what an agent in the same one is compared with."""

    def __init__(self, run: DynamicJobShop, rule: str, objective: Objective) -> None:
        self._objective: Objective = objective
        self._times, self._ends = _expected_ends(run, policy(rule))
        self._run = run

    def lead(self, run: DynamicJobShop, decision: DispatchDecision | None) -> float:
        """By how much another run in the same episode is better off than the rule was by then.

        For the makespan, by how much earlier it can be over at best, by plan; for other objectives,
        by how much less the jobs have cost. In the end both are by how much the objective is less.

        Args:
            decision: that is due in that run; None: it is over.
        """
        now = np.inf if decision is None else decision.time
        if self._objective == "makespan":
            end = run.clock.now if decision is None else decision.time + decision.horizon
            return float(np.interp(now, self._times, self._ends)) - end
        return cost(self._run, self._objective, now) - cost(run, self._objective, now)


def _expected_ends(run: DynamicJobShop, chosen: Policy) -> tuple[np.ndarray, np.ndarray]:
    """When the decisions of a run are due and when it is over, and when it could then be over."""
    points = []
    while (decision := run.next_decision()) is not None:
        points.append((decision.time, decision.time + decision.horizon))
        run.decide(chosen(decision))
    points.append((run.clock.now, run.clock.now))
    times, ends = np.array(points).T
    return times, ends


def cost(run: DynamicJobShop, objective: Objective, now: float = np.inf) -> float:
    """The objective of a run that is over, or what jobs had cost by `now`."""
    if objective == "makespan":
        return run.clock.now
    log = run.log
    since = log["release"] if objective == "flow" else log["due"]
    spent = np.maximum(np.minimum(log["done"], now) - since, 0.0)
    return float((spent if objective == "flow" else log["weight"] * spent).sum())


class DynamicTrainingEnv(DynamicJobShopEnv):
    """`DynamicJobShopEnv` for shops of several sizes, with a reward that can be learned from.

    The reward of a step is by how much the agent has got ahead of the rule in it
    (`Reference.lead`), in mean durations. The rule has met the same breakdowns, arrivals and
    durations, which thus cancel out for the most part.
    """

    def __init__(self, world: "DynamicWorld") -> None:
        super().__init__(**world.settings(world.jobs[1], world.machines[1]))
        EzPickle.__init__(self, world)
        self._world_settings = world
        self._encode = DynamicEncoder(world.jobs[1], world.machines[1], world.rule)
        assert isinstance(self.observation_space, spaces.Dict)
        boxes = dict(self.observation_space.spaces)
        boxes["prior"] = spaces.Box(-LIMIT, LIMIT, (world.jobs[1],), np.float32)
        self.observation_space: spaces.Space[Any] = spaces.Dict(boxes)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> DynamicJobShop:
        """A run in an episode in which the rule has been before."""
        world = self._world_settings
        episode = whole_number(seed)
        self._reference = Reference(world.draw(episode), world.rule, world.objective)
        return world.draw(episode)

    def score(self) -> float:
        return self._reference.lead(self.simulation, self.decision) / self.simulation.mean_duration

    def encode(self, decision: DispatchDecision) -> dict[str, np.ndarray]:
        return self._encode.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self._encode.padding(self.mask)


class LearnedDispatcher:
    """Chooses in shops of any size as a trained network says. Needs no torch.

    Args:
        weights: the state of a `GraphNetwork` over `GRAPH`.
        rule: whose scores it was trained to correct.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], rule: str) -> None:
        self._network = PlainNetwork(GRAPH, weights)
        self._rule = rule

    @classmethod
    def load(cls, name: str = "dynamic_job_shop") -> Self:
        """The agent of that name that comes with the package, or that in a folder.

        Raises:
            AgentError: there is none, or it was trained for something else.
        """
        agent = load_agent(folder_of(name), DynamicWorld.name, VERSION)
        return cls(agent.weights, agent.card.settings["rule"])

    def __call__(self, decision: DispatchDecision) -> int:
        """The candidate with the highest score."""
        encoder = DynamicEncoder(len(decision.job), len(decision.up), self._rule)
        return int(self._network.scores(encoder.encode(decision, decision.action_mask)).argmax())


@dataclass(frozen=True)
class DynamicWorld:
    """Dispatchers of job shops that run.

    Attributes:
        rule: whose scores the agent begins with and that it is measured against: `tail_p`, the best
            for the makespan, or `atc`, the best for tardiness.
        objective: `makespan`, `flow` or `tardiness`.
        jobs: least and greatest number.
        machines: least and greatest number, each of which every job visits once.
        utilisation, availability, mean_repair, spread, tightness: of
            `makespan.envs.jobshop.dynamic.episode.DynamicEpisode`.
    """

    name: ClassVar[str] = "dynamic_job_shop"
    observation_version: ClassVar[int] = VERSION
    graph: ClassVar[GraphDeclaration] = GRAPH

    rule: str = "tail_p"
    objective: Objective = "makespan"
    jobs: tuple[int, int] = (8, 16)
    machines: tuple[int, int] = (8, 16)
    utilisation: float = 0.0
    availability: float = 0.9
    mean_repair: float = 2.0
    spread: float = 0.0
    tightness: float = 2.0

    def __post_init__(self) -> None:
        if self.rule not in SCORES:
            raise unknown_name("rule", self.rule, SCORES)
        for name in ("jobs", "machines"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} must not be falling, not {least}, {most}")
        DynamicEpisode(**self.settings(self.jobs[0], self.machines[0]))

    @property
    def reference(self) -> str:
        """The rule that the agent begins with."""
        return self.rule

    def settings(self, jobs: int, machines: int) -> dict[str, Any]:
        """Of `DynamicEpisode`, for a shop of that size."""
        return {
            "jobs": jobs,
            "machines": machines,
            "utilisation": self.utilisation,
            "availability": self.availability,
            "mean_repair": self.mean_repair,
            "spread": self.spread,
            "tightness": self.tightness,
            "objective": self.objective,
            "max_candidates": self.jobs[1],
            "max_machines": self.machines[1],
        }

    def draw(self, seed: int) -> DynamicJobShop:
        """A run at its beginning; the same whenever it is asked for."""
        size, jobs, chance = SeedSequence(seed).spawn(3)
        rng = np.random.default_rng(size)
        counts = (int(rng.integers(least, most + 1)) for least, most in (self.jobs, self.machines))
        episode = DynamicEpisode(**self.settings(*counts))
        shop = episode.shop(jobs)
        return DynamicJobShop(shop, episode.conditions(shop), whole_number(chance))

    def env(self) -> DynamicTrainingEnv:
        """A training environment."""
        return DynamicTrainingEnv(self)

    def teacher(self, name: str) -> Policy:
        """The rule of that name."""
        return policy(name)

    def policy(self, weights: Mapping[str, np.ndarray]) -> LearnedDispatcher:
        """The dispatcher that a network with these weights makes."""
        return LearnedDispatcher(weights, self.rule)

    def evaluate(self, weights: Mapping[str, np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """1 + (the objective less that of the rule in the same episode) / the rule's mean over the
        episodes, so that the mean is the ratio of the means, also where some episodes cost nothing.
        """
        own = np.array([_cost(self, seed, self.policy(weights)) for seed in seeds])
        rule = np.array([_rule_cost(self, seed) for seed in seeds])
        return 1 + (own - rule) / max(rule.mean(), NOTHING)


def _cost(world: DynamicWorld, seed: int, dispatcher: Policy) -> float:
    return cost(simulate(world.draw(seed), dispatcher), world.objective)


@cache
def _rule_cost(world: DynamicWorld, seed: int) -> float:
    """Asked again at every evaluation."""
    return _cost(world, seed, policy(world.rule))
