"""Learning from what CP-SAT makes of the rest of a schedule that the network has begun.

The network makes a schedule of each shop; a choice in it is drawn, what was placed before it is
frozen, and CP-SAT schedules the rest with little work. The network then learns to choose from there
on as CP-SAT did, and less as it did itself, the more the more CP-SAT gained.

Source: Tassel, Gebser and Schekotihin, "An End-to-End Reinforcement Learning Approach for Job-Shop
Scheduling Problems Based on Constraint Programming" (ICAPS 2023): the suffix, and its two losses of
clipped ratios. Left out: their term for the choices before the suffix. Here the random shops are
new in every update, and the limit is far below their minute.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from makespan.agents.jobshop.config import ShopTraining
from makespan.agents.jobshop.network import DispatchNetwork
from makespan.agents.jobshop.recipes import Lesson
from makespan.agents.jobshop.rollout import follow, retrace_starts
from makespan.agents.jobshop.sampling import Samples
from makespan.baselines.jobshop.exact import solve
from makespan.envs.jobshop.core import columns, way_number
from makespan.envs.jobshop.schedule import Schedule

WORK = 0.05
"""That CP-SAT does for a suffix, with one worker, in its deterministic time, so that the same seed
gives the same agent; about 0.3 s of a core."""


def cp_guided(
    network: DispatchNetwork, samples: Sequence[Samples], config: ShopTraining
) -> Iterator[Tensor]:
    """Prefer CP-SAT's suffixes to the network's own.

    Yields nothing if CP-SAT gained nowhere.
    """
    pairs = [_improved(sample, k) for k, sample in enumerate(samples)]
    kept = [pair for pair in pairs if pair is not None]
    if not kept:
        return
    improved, begins = zip(*kept, strict=True)
    lesson = Lesson.of(improved, [np.array([0, 1])] * len(improved))
    weights, chosen = _weights(lesson, begins)
    with torch.no_grad():
        before, _ = lesson.judge(network)
    for _ in range(config.epochs):
        logs, _ = lesson.judge(network)
        ratio = (logs - before).exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        yield -torch.minimum(ratio * weights, clipped * weights)[chosen].mean()


def _improved(sample: Samples, number: int) -> tuple[Samples, int] | None:
    """What CP-SAT makes of the first sampled schedule, and that, and where the suffix begins.

    None if it is no shorter.
    """
    way, compiled = way_number(sample.way), columns(sample.shop)
    own = sample.picks[1]
    made = int((own >= 0).sum())
    rng = np.random.default_rng([number, int(sample.makespan.sum())])
    begin = int(rng.integers(made)) if made else 0
    start, frozen = retrace_starts(compiled, way, own, begin)
    solution = solve(
        sample.shop,
        limit_s=float("inf"),
        work=WORK,
        hint=Schedule.plain(sample.shop, start),
        workers=1,
        frozen={int(o): int(start[o]) for o in np.flatnonzero(frozen)},
    )
    if solution.schedule is None:
        return None
    picks, candidates, makespan = follow(compiled, way, solution.schedule.start)
    if makespan >= sample.makespan[1]:
        return None
    pair = Samples(
        sample.shop,
        sample.way,
        np.array([makespan, sample.makespan[1]]),
        np.stack([picks, own]),
        np.array([candidates, sample.candidates[1]]),
        sample.start,
    )
    return pair, begin


def _weights(lesson: Lesson, begins: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of each choice, its weight, float32, and whether it is in a suffix.

    The weight is what CP-SAT gained, in units of the mean gain; the network's own count negatively.
    """
    gains = np.array([1 - sample.makespan[0] / sample.makespan[1] for sample in lesson.samples])
    signed = np.stack([gains, -gains], axis=1).ravel() / gains.mean()
    schedule = lesson.choices.schedule
    first = np.searchsorted(schedule, schedule)
    place = np.arange(len(schedule)) - first
    inside = place >= np.repeat(begins, 2)[schedule]
    return torch.from_numpy(signed[schedule]).float(), torch.from_numpy(inside)
