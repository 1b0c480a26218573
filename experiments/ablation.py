"""What each part of the router agent is worth: `makespan ablation`.

Every variant takes one part away and is trained several times, from different seeds, in a folder of
its own below `--out`; the same test episodes then measure all agents, also the one that comes with
the package. Interrupted, or killed, the command goes on where it stopped.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.random import SeedSequence
from rich.table import Table

from makespan.agents.config import CloningConfig, TrainConfig
from makespan.agents.folder import CARD, AgentError, load_agent
from makespan.agents.llm.episodes import EpisodeDistribution, draw
from makespan.agents.llm.policy import router
from makespan.agents.llm.world import RouterWorld
from makespan.agents.shipped import folder_of
from makespan.baselines.llm.lookahead import LookaheadHold
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.core.registry import unknown_name
from makespan.envs.llm.fleet import Fleet
from makespan.experiments.metrics import LEVEL
from makespan.experiments.summary_tables import console
from makespan.experiments.train import MISSING, settings_of, watched
from makespan.experiments.watching import progress

SHIPPED, WHOLE = "as shipped", "whole"
RESAMPLES = 10_000

Settings = tuple[RouterWorld, TrainConfig]


def _changed(settings: Settings, world: Mapping[str, Any], training: Mapping[str, Any]) -> Settings:
    return replace(settings[0], **world), replace(settings[1], **training)


def _alone(settings: Settings) -> Settings:
    network = replace(settings[1].network, layers=0)
    return _changed(settings, {}, {"network": network})


def _fresh(settings: Settings) -> Settings:
    distribution = replace(settings[0].distribution, stale=False)
    return _changed(settings, {"distribution": distribution}, {})


def _prior(name: str, settings: Settings) -> Settings:
    return _changed(settings, {"prior": name}, {})


def _cloned(settings: Settings) -> Settings:
    return _changed(
        settings, {"prior": "none"}, {"cloning": CloningConfig(teacher="lookahead_hold")}
    )


VARIANTS: dict[str, Callable[[Settings], Settings]] = {
    WHOLE: lambda settings: settings,
    "no messages": _alone,
    "fresh gauges": _fresh,
    "no holding": partial(_prior, "lookahead"),
    "cloned": _cloned,
    "no rule": partial(_prior, "none"),
}
"""Name -> the settings without that part: no rounds of messages between the replicas; training
without stale gauges; never holding a request; imitation of the rule instead of building on it; and
neither."""


@dataclass(frozen=True)
class Ablation:
    """Train the router agent without one part at a time, and compare.

    Attributes:
        out: folder of the runs.
        variants: comma list of those to train, or `all`.
        seeds: agents of each variant.
        steps: decisions that each learns from.
        episodes: on which all agents are measured.
        distribution: what episodes are drawn from, in training and in the test.
    """

    out: Path = Path("runs/ablation")
    variants: str = "all"
    seeds: int = 3
    steps: int = 150_000
    episodes: int = 48
    distribution: Annotated[EpisodeDistribution, tyro.conf.arg(name="")] = field(
        default_factory=EpisodeDistribution
    )

    def __post_init__(self) -> None:
        if min(self.seeds, self.steps) < 1 or self.episodes < 2:
            raise ValueError("needs at least 1 seed, 1 step and 2 episodes")
        for name in self.names:
            if name not in VARIANTS:
                raise unknown_name("variant", name, VARIANTS)

    @property
    def names(self) -> list[str]:
        """Of the variants that are compared."""
        return list(VARIANTS) if self.variants == "all" else self.variants.split(",")

    def run(self, name: str, seed: int) -> tuple[RouterWorld, TrainConfig, Path]:
        """One training: its world, how, and its folder."""
        world = RouterWorld(distribution=self.distribution)
        training = TrainConfig(steps=self.steps, seed=seed, checkpoint_every=50_000, test=0)
        folder = self.out / f"{name.replace(' ', '-')}-{seed}"
        return *VARIANTS[name]((world, training)), folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        ablation = tyro.cli(Ablation, args=argv, prog="makespan ablation")
        trained = {name: train(ablation, name) for name in ablation.names}
        rows = compare(measure(ablation, {SHIPPED: [folder_of("agent")], **trained}))
    except ImportError as error:
        print(f"error: {MISSING} ({error})", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130
    console(sys.stdout).print(table(rows, ablation))
    return 0


def train(ablation: Ablation, name: str) -> list[Path]:
    """The folders of the agents of one variant, trained as far as they are not.

    Raises:
        AgentError: a folder holds a run with other settings, or is damaged.
    """
    from makespan.agents.train import train as train_agent

    folders = []
    for seed in range(ablation.seeds):
        world, config, folder = ablation.run(name, seed)
        if not _complete(folder, world, config):
            with watched(config.steps) as report:
                train_agent(world, config, folder, resume=True, report=report)
        folders.append(folder)
    return folders


def _complete(folder: Path, world: RouterWorld, config: TrainConfig) -> bool:
    """Whether that training is over."""
    if not (folder / CARD).is_file() or not load_agent(folder).card.trained:
        return False
    there = settings_of(folder)
    if (there.world, there.training) != (world, config):
        raise AgentError(f"{folder}: the agent there was trained with other settings")
    return True


def measure(ablation: Ablation, folders: Mapping[str, Sequence[Path]]) -> dict[str, np.ndarray]:
    """Mean latency of every agent over that of `lookahead_hold`, the rule it corrects.

    The episodes are those of the distribution as it is, stale gauges included, whatever a variant
    was trained with; they come from the test seeds of training seed 0 and are the same for all.

    Returns:
        Variant -> logarithm of the ratios, shape (agents, episodes).
    """
    seeds = TrainConfig(test=ablation.episodes).test_seeds
    episodes = [draw(ablation.distribution, SeedSequence(seed)) for seed in seeds]
    agents = sum(map(len, folders.values()))
    with progress() as bars:
        bar = bars.add_task("test episodes", total=(1 + agents) * len(episodes))

        def log_latencies(make: Callable[[], Policy]) -> np.ndarray:
            latencies = []
            for episode in episodes:
                fleet = Fleet(episode.workload, episode.fleet, episode.noise)
                latencies.append(simulate(fleet, make()).latency_s())
                bars.advance(bar)
            return np.log(latencies)

        reference = log_latencies(LookaheadHold)
        return {
            name: np.array([log_latencies(router(folder)) - reference for folder in variant])
            for name, variant in folders.items()
        }


@dataclass(frozen=True)
class Row:
    """How one variant did.

    Attributes:
        name: of the variant.
        agents: their number.
        ratio: geometric mean of the latency over the reference's, over agents and episodes.
        low, high: its interval, resampling agents and episodes.
        best, worst: geometric mean over the episodes of the best and the worst of the agents.
        won: share of agents and episodes with less latency than the reference.
        part: ratio over that of the whole agent, with its interval; what the part is worth. None
            where there is no whole agent, or it is this one.
    """

    name: str
    agents: int
    ratio: float
    low: float
    high: float
    best: float
    worst: float
    won: float
    part: tuple[float, float, float] | None


def compare(ratios: Mapping[str, np.ndarray]) -> list[Row]:
    """One row per variant; the intervals of all resample the same episodes."""
    return [_row(name, own, ratios.get(WHOLE)) for name, own in ratios.items()]


def _row(name: str, own: np.ndarray, whole: np.ndarray | None) -> Row:
    each = np.exp(own.mean(axis=1))
    samples = _resampled(own, name)
    part = None
    if whole is not None and name != WHOLE:
        difference = samples - _resampled(whole, WHOLE)
        part = (float(np.exp(own.mean() - whole.mean())), *_interval(difference))
    return Row(
        name,
        len(own),
        float(np.exp(own.mean())),
        *_interval(samples),
        float(each.min()),
        float(each.max()),
        float((own < 0).mean()),
        part,
    )


def _resampled(ratios: np.ndarray, name: str) -> np.ndarray:
    """Means of resamples of the agents and, the same for every variant, of the episodes."""
    agents, episodes = ratios.shape
    own = np.random.default_rng([0, *name.encode()])
    who = own.integers(agents, size=(RESAMPLES, agents))
    which = np.random.default_rng(0).integers(episodes, size=(RESAMPLES, episodes))
    return np.array([ratios[np.ix_(a, e)].mean() for a, e in zip(who, which, strict=True)])


def _interval(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.exp(np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return float(low), float(high)


def table(rows: Sequence[Row], ablation: Ablation) -> Table:
    """The rows for people."""
    shown = Table(
        title=f"Mean latency over that of lookahead_hold on the same {ablation.episodes} episodes",
        caption=f"Geometric means; in brackets {LEVEL:.0%} intervals, resampling agents (few: too "
        "narrow) and episodes.",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for column in ("variant", "agents", "latency", "best to worst agent", "lower in", "without it"):
        shown.add_column(column, justify="left" if column == "variant" else "right")
    for row in rows:
        part = "" if row.part is None else "{:.3f} [{:.3f}-{:.3f}]".format(*row.part)
        shown.add_row(
            row.name,
            str(row.agents),
            f"{row.ratio:.3f} [{row.low:.3f}-{row.high:.3f}]",
            f"{row.best:.3f} to {row.worst:.3f}",
            f"{row.won:.0%}",
            part,
        )
    return shown
