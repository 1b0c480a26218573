"""A trained network as something that schedules: greedy, best of some, or choice by choice."""

from pathlib import Path

import numpy as np
import torch

from makespan.agents.folder import Agent, AgentError, load_agent
from makespan.agents.jobshop.network import DispatchNetwork
from makespan.agents.jobshop.rollout import Head, score_rows
from makespan.agents.jobshop.sampling import Samples, sample_schedules
from makespan.agents.shipped import folder_of
from makespan.envs.jobshop.core import Way
from makespan.envs.jobshop.features import VERSION
from makespan.envs.jobshop.schedule import Schedule
from makespan.envs.jobshop.simulation import ShopDecision
from makespan.traces.jobshop.instance import JobShop

KIND = "dispatch"
"""Of agents, as their cards say it."""


class ShopAgent:
    """Schedules plain job shops of any size.

    As a policy (`makespan.envs.core.contract.Policy`) over the decisions of a `ShopSimulation` of
    its way it makes the greedy schedule.

    Attributes:
        way: what its choices are between.
    """

    def __init__(self, network: DispatchNetwork, way: Way) -> None:
        self.network = network
        self.way: Way = way
        self._shop: JobShop | None = None

    @classmethod
    def load(cls, name: str = "job_shop") -> "ShopAgent":
        """The agent of that name that comes with the package, or that in a folder.

        Raises:
            AgentError: there is none, or it was trained for something else.
        """
        folder = folder_of(name)
        agent = load_agent(folder, "job_shop", VERSION)
        if agent.card.kind != KIND:
            raise AgentError(
                f"{folder}: trained by `makespan train`; makespan.agents.jobshop.world.LearnedShop "
                "makes a policy of it"
            )
        return cls(_network(agent, folder), agent.card.training["way"])

    def schedule(self, shop: JobShop) -> Schedule:
        """Greedily: at every choice the candidate with the highest score."""
        return self.sample(shop, 0, 0).best

    def sample(self, shop: JobShop, samples: int, seed: int) -> Samples:
        """A greedy schedule and some that are drawn; `Samples.best` is the shortest of all."""
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        return sample_schedules(shop, self.way, self._look(shop), samples, rng)

    def __call__(self, decision: ShopDecision) -> int:
        """The candidate with the highest score."""
        scores = score_rows(self._look(decision.shop), decision.operations, decision.rows)
        return int(decision.jobs[scores.argmax()])

    def _look(self, shop: JobShop) -> Head:
        if shop is not self._shop:
            self._shop, (self._head,) = shop, self.network.heads([shop])
        return self._head


def _network(agent: Agent, folder: Path) -> DispatchNetwork:
    settings = agent.card.training
    try:
        network = DispatchNetwork(
            *(settings[name] for name in ("hidden", "layers", "narrow", "trust"))
        )
        network.load_state_dict({n: torch.from_numpy(w) for n, w in agent.weights.items()})
    except (KeyError, RuntimeError, TypeError) as error:
        raise AgentError(f"{folder}: its weights do not fit its card: {error}") from None
    return network
