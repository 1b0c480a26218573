"""How an agent is trained: settings, frozen and validated. No torch here."""

from dataclasses import dataclass, field
from typing import Any

from numpy.random import SeedSequence

from makespan.agents.schedules import schedule


@dataclass(frozen=True)
class NetworkConfig:
    """Size of a network.

    Attributes:
        hidden: width of the embeddings and of the heads' hidden layer.
        layers: rounds of messages; 0: every node by itself, as a network over sets sees it.
        trust: factor on the prior at the beginning; it is learned. The greater, the rarer does an
            agent in training try what the rule would not do.
    """

    hidden: int = 64
    layers: int = 2
    trust: float = 100.0

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 0:
            raise ValueError("needs hidden >= 1 and layers >= 0")
        if not 0 < self.trust < float("inf"):
            raise ValueError(f"trust must be positive, not {self.trust}")


@dataclass(frozen=True)
class CloningConfig:
    """How a rule is imitated before reinforcement learning begins.

    Attributes:
        teacher: name of a baseline; empty: nobody is imitated.
        decisions: of the teacher, to learn from.
        epochs: passes over them.
        batch: decisions per gradient step.
        rate: learning rate of Adam.
    """

    teacher: str = ""
    decisions: int = 40_000
    epochs: int = 6
    batch: int = 512
    rate: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.decisions, self.batch) < 1 or self.epochs < 0 or not self.rate > 0:
            raise ValueError("cloning needs decisions, batch >= 1, epochs >= 0 and rate > 0")


@dataclass(frozen=True)
class TrainConfig:
    """How an agent is trained.

    Attributes:
        steps: decisions to learn from.
        seed: of everything; the same seed gives the same agent on the same machine.
        envs: environments side by side.
        processes: each in a process of its own.
        rollout: steps of each environment between two updates.
        batch, epochs: of an update: decisions per gradient step, passes over the rollout.
        rate, schedule: peak of the learning rate, and its course (`makespan.agents.schedules`).
        gamma, gae_lambda, clip, entropy, target_kl: of PPO (Schulman et al. 2017).
        checkpoint_every: steps, rounded up to whole rollouts.
        tuning: episodes on which the best weights are chosen.
        test: episodes on which the agent is measured in the end.
        network: its size.
        cloning: the rule that is imitated first.
    """

    steps: int = 1_000_000
    seed: int = 0
    envs: int = 16
    processes: bool = False
    rollout: int = 256
    batch: int = 1024
    epochs: int = 4
    rate: float = 5e-4
    schedule: str = "linear"
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    target_kl: float = 0.02
    checkpoint_every: int = 100_000
    tuning: int = 32
    test: int = 48
    network: NetworkConfig = field(default_factory=NetworkConfig)
    cloning: CloningConfig = field(default_factory=CloningConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "envs", "rollout", "batch", "epochs", "checkpoint_every", "tuning"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.seed < 0 or self.test < 0:
            raise ValueError("seed and test must not be negative")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if not self.clip > 0 or min(self.entropy, self.target_kl) < 0:
            raise ValueError("needs clip > 0, entropy >= 0 and target_kl >= 0")
        schedule(self.schedule, self.rate)

    @property
    def tuning_seeds(self) -> list[int]:
        """Of the episodes on which weights are chosen."""
        return [int(word) for word in stream(self.seed, "tuning").generate_state(self.tuning)]

    @property
    def test_seeds(self) -> list[int]:
        """Of the episodes on which the agent is measured."""
        return [int(word) for word in stream(self.seed, "test").generate_state(self.test)]


def stream(seed: int, *use: Any) -> SeedSequence:
    """The randomness of one use."""
    words = [seed, *(int.from_bytes(str(part).encode(), "little") for part in use)]
    return SeedSequence(words)
