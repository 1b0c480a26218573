"""How a network that schedules job shops is trained: settings, validated. No torch here."""

from dataclasses import dataclass

from makespan.agents.schedules import schedule
from makespan.envs.core.registry import unknown_name
from makespan.envs.jobshop.core import Way, way_number

RECIPES = {
    "self_labelling": "makespan.agents.jobshop.recipes:self_labelling",
    "preference": "makespan.agents.jobshop.recipes:preference",
    "reinforce": "makespan.agents.jobshop.recipes:reinforce",
    "ppo": "makespan.agents.jobshop.recipes:ppo",
    "cp_guided": "makespan.agents.jobshop.cp_guided:cp_guided",
}
"""Name -> what is learned from samples."""

SIZES = ((15, 15), (20, 15), (20, 20), (30, 15), (30, 20), (50, 15), (50, 20))
"""Jobs and machines of the shops that are trained on."""


@dataclass(frozen=True)
class ShopTraining:
    """How a network is trained.

    Attributes:
        recipe: what is learned from samples (`RECIPES`).
        way: what choices are between; with `active` the network may have a machine wait.
        updates: gradient steps; with `ppo` and `cp_guided`, rounds of `epochs` of them.
        seed: of everything; the same seed gives the same agent on the same machine.
        sizes: jobs and machines of the random shops; those of an update have one of these sizes.
        operations: that are scheduled for an update, over all samples; it takes as many shops.
        samples: schedules of each shop; a greedy one comes to these. `cp_guided` uses one.
        kept: of these, how many schedules are learned from with `preference`, at least 2.
        epochs, clip: of `ppo` and `cp_guided`.
        rate, schedule: peak of the learning rate, and its course (`makespan.agents.schedules`).
        hidden, layers, narrow: width of embeddings, rounds of messages, width of the last layer.
        trust: in the rule, at the beginning.
        checkpoint_every: updates.
        tuning: shops of each size on which the best weights are chosen, and as many others on which
            these are measured.
    """

    recipe: str = "self_labelling"
    way: Way = "active"
    updates: int = 5_500
    seed: int = 0
    sizes: tuple[tuple[int, int], ...] = SIZES
    operations: int = 150_000
    samples: int = 48
    kept: int = 8
    epochs: int = 3
    clip: float = 0.2
    rate: float = 1e-3
    schedule: str = "linear"
    hidden: int = 64
    layers: int = 3
    narrow: int = 32
    trust: float = 4.0
    checkpoint_every: int = 250
    tuning: int = 24

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise unknown_name("recipe", self.recipe, RECIPES)
        way_number(self.way)
        for name in ("updates", "operations", "samples", "epochs", "hidden", "narrow", "tuning"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.seed, self.layers) < 0 or self.checkpoint_every < 1:
            raise ValueError("needs seed and layers >= 0 and checkpoint_every >= 1")
        if self.recipe == "preference" and not 2 <= self.kept <= self.samples:
            raise ValueError(f"kept must be from 2 to samples ({self.samples}), not {self.kept}")
        if not self.sizes or min(map(min, self.sizes)) < 2:
            raise ValueError("sizes must be of at least 2 jobs and 2 machines")
        if not (self.clip > 0 and 0 < self.trust < float("inf")):
            raise ValueError("clip and trust must be positive")
        schedule(self.schedule, self.rate)
