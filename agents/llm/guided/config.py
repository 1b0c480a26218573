"""How a guided Double DQN is trained: frozen and validated. No torch here."""

from dataclasses import dataclass
from math import exp
from typing import Literal, get_args

from makespan.envs.core.registry import unknown_name

Variant = Literal["baseline", "aware", "guided"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True)
class GuidedConfig:
    """The published settings where there are any; what the paper leaves open is marked.

    Attributes:
        variant: `baseline` (output lengths unknown, no r_mixing), `aware` (r_mixing in the reward)
            or `guided` (and the heuristic guidance).
        seed: of everything; the same seed gives the same agent on the same machine.
        episodes: of training, after which exploration ends.
        exploring: the share of random actions is exp(-exploring * episode). Open.
        gamma: discount per 0.02 s. Open.
        completion: reward of a completed request, r_w.
        mixing: weight of r_mixing and of the guidance. Open.
        decay: beta_d of the guidance.
        batch: transitions per gradient step.
        hidden: width of the two hidden layers.
        rate: learning rate of Adam. Open.
        every: decisions between two gradient steps. Open.
        target_every: gradient steps between two copies to the target network. Open.
        buffer: transitions that are remembered. Open.
    """

    variant: Variant = "guided"
    seed: int = 0
    episodes: int = 20
    exploring: float = 0.3
    gamma: float = 0.99
    completion: float = 60.0
    mixing: float = 60.0
    decay: float = 0.5
    batch: int = 512
    hidden: int = 64
    rate: float = 3e-4
    every: int = 8
    target_every: int = 100
    buffer: int = 100_000

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown_name("variant", self.variant, VARIANTS)
        for name in ("episodes", "batch", "hidden", "every", "target_every", "buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must be in [0, 1), not {self.gamma}")
        for name in ("seed", "exploring", "completion", "mixing", "decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not self.rate > 0:
            raise ValueError(f"rate must be positive, not {self.rate}")

    @property
    def lengths(self) -> bool:
        """Whether predicted output lengths are used."""
        return self.variant != "baseline"

    def guide(self, episode: int) -> float:
        """Weight of the guidance in an episode, counted from 0: exp(-decay * episode)."""
        return exp(-self.decay * episode) if self.variant == "guided" else 0.0

    def discount(self, episode: int) -> float:
        """Discount per 0.02 s in an episode: gamma less what the guidance stands in for."""
        return self.gamma * (1 - self.guide(episode))

    def exploration(self, episode: int) -> float:
        """Share of random actions in an episode, counted from 0."""
        return exp(-self.exploring * episode)
