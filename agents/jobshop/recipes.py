"""What a network learns from schedules that it sampled, in four ways.

All sample the same, and learn by the same optimiser; they differ in which schedules count and how.
Makespans of a shop are only compared with each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, mse_loss
from torch_geometric.utils import scatter

from makespan.agents.jobshop.config import ShopTraining
from makespan.agents.jobshop.network import DispatchNetwork, log_probabilities
from makespan.agents.jobshop.rollout import Choices
from makespan.agents.jobshop.sampling import Samples, join

DISCOUNT_OF_ADVANTAGES = 0.98
"""Lambda of PPO's advantages, as in ReSched; rewards are not discounted."""

VALUE_WEIGHT = 0.5
"""Of the value's loss beside the policy's, in PPO."""

Recipe = Callable[[DispatchNetwork, Sequence[Samples], ShopTraining], Iterator[Tensor]]
"""Yields losses; the network is stepped after each."""


@dataclass(frozen=True)
class Lesson:
    """The choices of some schedules of each shop.

    Attributes:
        choices: of all of them.
        kept: of each shop, the numbers of its schedules among its samples.
        samples: all schedules of each shop.
    """

    choices: Choices
    kept: list[np.ndarray]
    samples: Sequence[Samples]

    @classmethod
    def of(cls, samples: Sequence[Samples], kept: list[np.ndarray]) -> "Lesson":
        """Retrace the schedules that are kept."""
        parts = [sample.choices(which) for sample, which in zip(samples, kept, strict=True)]
        return cls(join(parts, [sample.shop for sample in samples]), kept, samples)

    @property
    def makespan(self) -> list[np.ndarray]:
        """float64 (schedules,) of each shop: of those that are kept."""
        return [
            sample.makespan[which].astype(np.float64)
            for sample, which in zip(self.samples, self.kept, strict=True)
        ]

    def judge(self, network: DispatchNetwork) -> tuple[Tensor, Tensor]:
        """Log probability of what was chosen, and value, float32 (choices,) each."""
        looked = network.look([sample.shop for sample in self.samples])
        scores, values = network(looked, self.choices)
        return log_probabilities(scores, self.choices), values

    def per_schedule(self, numbers: Tensor, reduce: str) -> Tensor:
        """float32 (schedules,): the sum or mean of numbers of choices."""
        schedule = torch.from_numpy(self.choices.schedule)
        return scatter(numbers, schedule, dim_size=self.choices.schedules, reduce=reduce)


def self_labelling(
    network: DispatchNetwork, samples: Sequence[Samples], config: ShopTraining
) -> Iterator[Tensor]:
    """Imitate the best schedule of each shop.

    Source: Corsini et al., "Self-Labeling the Job Shop Scheduling Problem" (NeurIPS 2024).
    """
    lesson = Lesson.of(samples, [np.array([sample.makespan.argmin()]) for sample in samples])
    logs, _ = lesson.judge(network)
    yield -lesson.per_schedule(logs, "mean").mean()


def preference(
    network: DispatchNetwork, samples: Sequence[Samples], config: ShopTraining
) -> Iterator[Tensor]:
    """Prefer the best schedule of each shop to others at even distances in the order of makespans.

    Source: BOPO (ICML 2025, arXiv 2503.07580): the log probability of a schedule is the mean over
    its choices, and a pair counts by the ratio of its makespans.
    """
    kept = []
    for sample in samples:
        order = sample.makespan.argsort(kind="stable")
        kept.append(order[:: len(order) // config.kept][: config.kept])
    lesson = Lesson.of(samples, kept)
    logs, _ = lesson.judge(network)
    means = lesson.per_schedule(logs, "mean").split([len(which) for which in kept])
    losses = []
    for mean, makespan in zip(means, lesson.makespan, strict=True):
        worse = torch.from_numpy(np.flatnonzero(makespan > makespan[0]))
        ratio = torch.from_numpy(makespan / makespan[0]).float()[worse]
        if len(worse):
            losses.append(-logsigmoid(ratio * (mean[0] - mean[worse])).mean())
    if losses:
        yield torch.stack(losses).mean()


def reinforce(
    network: DispatchNetwork, samples: Sequence[Samples], config: ShopTraining
) -> Iterator[Tensor]:
    """Policy gradient with the mean of a shop's samples as the baseline, in units of their spread.

    Source: POMO (Kwon et al., NeurIPS 2020), without the symmetries.
    """
    lesson = Lesson.of(samples, [np.arange(1, len(sample.makespan)) for sample in samples])
    logs, _ = lesson.judge(network)
    advantage = np.concatenate([_standard(-makespan) for makespan in lesson.makespan])
    sums = lesson.per_schedule(logs, "sum")
    choices = len(logs) / lesson.choices.schedules
    yield -(torch.from_numpy(advantage).float() * sums).mean() / choices**0.5


def ppo(
    network: DispatchNetwork, samples: Sequence[Samples], config: ShopTraining
) -> Iterator[Tensor]:
    """Proximal policy optimisation; the reward is minus the growth of the lower bound.

    Source: Schulman et al. 2017; the reward is that of L2D (Zhang et al., NeurIPS 2020) and of the
    environment, the value a layer over the mean of a choice's candidates.
    """
    lesson = Lesson.of(samples, [np.arange(1, len(sample.makespan)) for sample in samples])
    with torch.no_grad():
        before, values = lesson.judge(network)
    advantage, returns = _advantages(lesson, values.numpy())
    standard = torch.from_numpy(_standard(advantage)).float()
    target = torch.from_numpy(returns).float()
    for _ in range(config.epochs):
        logs, values = lesson.judge(network)
        ratio = (logs - before).exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        gain = torch.minimum(ratio * standard, clipped * standard).mean()
        yield VALUE_WEIGHT * mse_loss(values, target) - gain


def _advantages(lesson: Lesson, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalised advantages and their returns, float64 (choices,)."""
    choices = lesson.choices
    bounds = np.concatenate(
        [
            makespan / max(sample.shop.lower_bound(), 1)
            for makespan, sample in zip(lesson.makespan, lesson.samples, strict=True)
        ]
    )
    last = np.append(choices.schedule[1:] != choices.schedule[:-1], True)
    after = np.where(last, bounds[choices.schedule], np.roll(choices.bound, -1))
    value_after = np.where(last, 0.0, np.roll(values, -1))
    errors = choices.bound - after + value_after - values
    advantage = np.zeros(len(errors))
    running = 0.0
    for k in range(len(errors) - 1, -1, -1):
        running = errors[k] + DISCOUNT_OF_ADVANTAGES * (0.0 if last[k] else running)
        advantage[k] = running
    return advantage, advantage + values


def _standard(values: np.ndarray) -> np.ndarray:
    """Less their mean, in units of their spread; zeros if there is none."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))
