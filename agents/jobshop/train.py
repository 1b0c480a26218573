"""The trainer of networks that schedule job shops: sample schedules of random shops, and learn.

A run is a folder that becomes that of the agent. Whatever an update draws follows from the seed and
the number of the update, so a run that was killed and resumed gives the same agent, bit for bit, as
one that was not. Interrupted by Ctrl-C, a run also keeps what it learned since its last checkpoint:
if that was in the middle of an update, which is then made again, the agent differs.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from makespan.agents.config import stream
from makespan.agents.folder import Agent, AgentCard, load_agent
from makespan.agents.jobshop.agent import KIND
from makespan.agents.jobshop.config import RECIPES, ShopTraining
from makespan.agents.jobshop.network import DispatchNetwork
from makespan.agents.jobshop.recipes import Recipe
from makespan.agents.jobshop.sampling import Samples, sample_schedules
from makespan.agents.provenance import commit, versions
from makespan.agents.run import CHECKPOINT, load_state, open_run, save_state
from makespan.agents.schedules import schedule
from makespan.baselines.jobshop.rules import dispatch
from makespan.envs.core.registry import load
from makespan.envs.jobshop.core import Way
from makespan.envs.jobshop.features import VERSION
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.jobshop.uniform import uniform_shop

WORLD = "job_shop"

RULE = "tail_p"
"""The rule in whose makespans scores are measured."""

SIZES = ((15, 15), (20, 15), (20, 20), (30, 15), (30, 20), (50, 15), (50, 20), (100, 20))
"""Of the shops on which weights are chosen and measured: those of Taillard's instances."""

DECAY = 0.99
"""Of the moving average of the weights, per update: what single updates move to and fro cancels out
in it, and it is what is evaluated and kept."""

MAX_GRADIENT = 1.0
"""Norm that gradients are cut to."""

Report = Callable[[dict[str, float]], None]
"""Is told `updates`, and after an evaluation `tuning` and `best`, the lowest so far."""


class Trainer:
    """A run, in memory.

    Attributes:
        notes: JSON about it: `updates` made, `history` of evaluations, `best`, `cpu_s`, and how
            many `choices` were sampled.
    """

    def __init__(self, config: ShopTraining) -> None:
        self.config = config
        torch.manual_seed(int(stream(config.seed, "network").generate_state(1)[0]))
        self.network = network_of(config)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        self._learn: Recipe = load("recipe", RECIPES, config.recipe)
        self.optimizer = torch.optim.Adam(self.network.parameters(), config.rate)
        self.notes: dict[str, Any] = {
            "updates": 0,
            "choices": 0,
            "cpu_s": 0.0,
            "history": [],
            "best": None,
        }

    @property
    def averaged(self) -> DispatchNetwork:
        """The network whose weights are the average."""
        assert isinstance(self.average.module, DispatchNetwork)
        return self.average.module

    def update(self) -> None:
        """Sample, and learn from it."""
        since = time.process_time()
        config, number = self.config, self.notes["updates"]
        rng = np.random.default_rng(stream(config.seed, "update", number))
        rate = schedule(config.schedule, config.rate)(1 - number / config.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        samples = self._sample(rng)
        for loss in self._learn(self.network, samples, config):
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
            self.optimizer.step()
        self.average.update_parameters(self.network)
        self.notes["updates"] += 1
        self.notes["choices"] += sum(int((sample.picks >= 0).sum()) for sample in samples)
        self.notes["cpu_s"] += time.process_time() - since

    def save(self, path: Path) -> None:
        """Write where the run stands; whole, or not at all."""
        save_state(path, self._modules, self.optimizer, self.notes)

    def load(self, path: Path) -> None:
        """Go on where a run stood.

        Raises:
            AgentError: the file is damaged, or of a run with other settings.
        """
        self.notes, _ = load_state(path, self._modules, self.optimizer)

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"network": self.network, "average": self.average}

    def _sample(self, rng: np.random.Generator) -> list[Samples]:
        config = self.config
        jobs, machines = config.sizes[rng.integers(len(config.sizes))]
        count = max(1, config.operations // (jobs * machines * config.samples))
        shops = [uniform_shop(jobs, machines, rng) for _ in range(count)]
        heads = self.network.heads(shops)
        return [
            sample_schedules(shop, config.way, head, config.samples, rng)
            for shop, head in zip(shops, heads, strict=True)
        ]


def train(
    config: ShopTraining,
    folder: Path,
    resume: bool = False,
    report: Report = lambda figures: None,
) -> Agent:
    """Train an agent in `folder` and save it there.

    Args:
        resume: go on from the checkpoint in `folder`, if there is one.

    Raises:
        AgentError: `folder` holds another run, or one that `resume` did not ask for; its checkpoint
            is damaged.
    """
    open_run(folder, {"env": WORLD, "training": asdict(config)}, resume)
    trainer = Trainer(config)
    if (folder / CHECKPOINT).exists():
        trainer.load(folder / CHECKPOINT)
    tuning = RandomShops(config, "tuning")
    try:
        while True:
            made = trainer.notes["updates"]
            if made % config.checkpoint_every == 0 or made == config.updates:
                _close_stretch(trainer, tuning, folder, report)
            if made == config.updates:
                break
            trainer.update()
            report({"updates": trainer.notes["updates"]})
    except KeyboardInterrupt:
        trainer.save(folder / CHECKPOINT)
        raise
    return _finish(trainer, folder)


class RandomShops:
    """Random shops of several sizes, `config.tuning` of each, and what the rule makes of them.

    Args:
        use: that they are for; others are drawn for another.
    """

    def __init__(self, config: ShopTraining, use: str) -> None:
        self.way: Way = config.way
        rng = np.random.default_rng(stream(config.seed, use))
        self.shops = [
            [uniform_shop(jobs, machines, rng) for _ in range(config.tuning)]
            for jobs, machines in SIZES
        ]
        self.rule = [
            np.array([dispatch(shop, RULE).makespan for shop in shops]) for shops in self.shops
        ]

    def evaluate(self, network: DispatchNetwork) -> list[np.ndarray]:
        """float64 (shops,) of each size: makespans of greedy schedules, in units of the rule's."""
        return [
            greedy(network, shops, self.way) / rule
            for shops, rule in zip(self.shops, self.rule, strict=True)
        ]


def greedy(network: DispatchNetwork, shops: Sequence[JobShop], way: Way) -> np.ndarray:
    """int64 (shops,): makespans of greedy schedules."""
    rng = np.random.default_rng(0)  # draws nothing
    heads = network.heads(shops)
    made = [
        sample_schedules(shop, way, head, 0, rng) for shop, head in zip(shops, heads, strict=True)
    ]
    return np.array([sample.makespan[0] for sample in made])


def network_of(config: ShopTraining) -> DispatchNetwork:
    """An untrained network."""
    return DispatchNetwork(config.hidden, config.layers, config.narrow, config.trust)


def _close_stretch(trainer: Trainer, tuning: RandomShops, folder: Path, report: Report) -> None:
    """Evaluate what was learned, keep it if it is the best, and save the run."""
    notes = trainer.notes
    if not notes["history"] or notes["history"][-1]["updates"] != notes["updates"]:
        sizes = [float(ratios.mean()) for ratios in tuning.evaluate(trainer.averaged)]
        score = float(np.mean(sizes))
        row = {"updates": notes["updates"], "cpu_s": round(notes["cpu_s"], 1), "tuning": score}
        notes["history"].append(row)
        if notes["best"] is None or score < notes["best"]["tuning"]:
            notes["best"] = row | {"sizes": [round(size, 4) for size in sizes]}
            _agent(trainer, {}).save(folder)
        report({"updates": notes["updates"], "tuning": score, "best": notes["best"]["tuning"]})
    trainer.save(folder / CHECKPOINT)


def _agent(trainer: Trainer, trained: dict[str, Any]) -> Agent:
    config, notes = trainer.config, trainer.notes
    card = AgentCard(
        world=WORLD,
        observation_version=VERSION,
        settings={},
        training=asdict(config),
        seeds={"training": config.seed},
        results={"tuning": notes["best"], "history": notes["history"]},
        trained=trained,
        kind=KIND,
    )
    weights = trainer.averaged.state_dict()
    return Agent(card, {name: value.numpy().copy() for name, value in weights.items()})


def _finish(trainer: Trainer, folder: Path) -> Agent:
    """Measure the best weights on shops that nothing was chosen by, and complete the card."""
    best, notes = load_agent(folder), trainer.notes
    trainer.network.load_state_dict({n: torch.from_numpy(w) for n, w in best.weights.items()})
    ratios = np.concatenate(RandomShops(trainer.config, "test").evaluate(trainer.network))
    test = {
        "mean": float(ratios.mean()),
        "standard_error": float(ratios.std(ddof=1) / len(ratios) ** 0.5),
        "reference": RULE,
    }
    trained = {
        "steps": notes["choices"],
        "updates": notes["updates"],
        "cpu_s": round(notes["cpu_s"], 1),
        "commit": commit(),
        "versions": versions(),
    }
    results = {"tuning": notes["best"], "history": notes["history"], "test": test}
    card = dataclasses.replace(best.card, results=results, trained=trained)
    agent = Agent(card, best.weights)
    agent.save(folder)
    return agent
