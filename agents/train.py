"""The trainer of every agent: proximal policy optimisation over graphs.

A run is a folder. It is cut into stretches of `checkpoint_every` steps: at the beginning of each
the agent is evaluated on the tuning episodes, the run's state is saved, all generators are seeded
anew from the run's seed and the steps made, and all environments begin new episodes. What comes
after a checkpoint therefore depends on the checkpoint alone, and a run that was killed and resumed
gives the same agent, bit for bit, as one that was not. Interrupted by Ctrl-C, a run also keeps what
it learned since: resumed from there it starts a stretch where the other did not, and differs.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from torch import nn

from makespan.agents.checkpoint import load_checkpoint, save_checkpoint
from makespan.agents.cloning import clone, watch
from makespan.agents.config import TrainConfig, stream
from makespan.agents.folder import Agent, AgentCard, load_agent
from makespan.agents.graph.network import GraphNetwork
from makespan.agents.policy import GraphPolicy
from makespan.agents.provenance import commit, versions
from makespan.agents.run import CHECKPOINT, RUN, in_words, open_run
from makespan.agents.schedules import schedule
from makespan.agents.vectorised import vectorised
from makespan.agents.whole_file import write_text
from makespan.agents.world import World

Report = Callable[[dict[str, float]], None]
"""Is told `steps` before every rollout, and after every evaluation, when the run has been saved,
`tuning`, the mean over the tuning episodes, and `best`, the lowest so far."""


def train(
    world: World,
    config: TrainConfig,
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
        KeyboardInterrupt: after what was learned has been saved.
    """
    open_run(folder, _settings(world, config), resume)
    torch.set_num_threads(1)  # the graphs are small: more threads wait for each other
    model = _model(world, config)
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    stretch = Stretches(world, config, folder, report)
    stretch.init_callback(model)
    try:
        if (folder / CHECKPOINT).exists():
            stretch.restore(load_checkpoint(folder / CHECKPOINT, model))
        elif config.cloning.teacher:
            stretch.notes["cloned"] = _imitate(world, config, model)
        _learn(model, config.steps, stretch)
        return _finish(world, config, folder, stretch)
    finally:
        model.logger.close()
        assert model.env is not None
        model.env.close()


def _learn(model: MaskablePPO, steps: int, stretch: "Stretches") -> None:
    """Learn until so many steps have been made; interrupted, save what was learned."""
    try:
        model.learn(steps - model.num_timesteps, callback=stretch, reset_num_timesteps=False)
        stretch.close_stretch()
    except KeyboardInterrupt:
        stretch.keep()
        raise


def change_settings(folder: Path, world: World, config: TrainConfig) -> None:
    """Let the run in `folder` go on with other settings: `train` resumes it with these.

    Its weights, optimiser, reward statistics, steps and scores stay, so the network must be of the
    same size.
    """
    write_text(folder / RUN, in_words(_settings(world, config)))


class Stretches(BaseCallback):
    """Evaluates, saves and reseeds at the beginning of every stretch of a run.

    Attributes:
        notes: JSON about the run so far: `history` of evaluations, `best`, `wall_s`, and the steps
            up to which weights were `averaged`.
    """

    model: MaskablePPO  # type: ignore[assignment]

    def __init__(self, world: World, config: TrainConfig, folder: Path, report: Report) -> None:
        super().__init__()
        self._world, self._config, self._folder, self._report = world, config, folder, report
        self.notes: dict[str, Any] = {
            "history": [],
            "best": None,
            "wall_s": 0.0,
            "averaged": -1,
        }
        self._next = 0
        self._since = time.monotonic()

    def restore(self, notes: dict[str, Any]) -> None:
        """Go on from what a checkpoint noted."""
        self.notes = notes
        self._next = notes["num_timesteps"]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._report({"steps": self.num_timesteps})
        self._average()
        if self.num_timesteps < self._next:
            return
        self.close_stretch()
        self._reseed()
        self._next = self.num_timesteps + self._config.checkpoint_every

    def close_stretch(self) -> None:
        """Evaluate what was learned, remember it if it is the best, and save the run."""
        self._average()
        steps = self.model.num_timesteps
        known = [row["steps"] for row in self.notes["history"]]
        if steps not in known:
            self._evaluate(steps)
        self.keep()
        if steps not in known:
            self._report(self.notes["history"][-1] | {"best": self.notes["best"]["tuning"]})

    def keep(self) -> None:
        """Save the run as it stands."""
        now = time.monotonic()
        self.notes["wall_s"] += now - self._since
        self._since = now
        save_checkpoint(self._folder / CHECKPOINT, self.model, self.notes)

    def _average(self) -> None:
        """Have the weights count in their average, unless they do."""
        if self.model.num_timesteps > self.notes["averaged"]:
            policy_of(self.model).average.update_parameters(network_of(self.model))
            self.notes["averaged"] = self.model.num_timesteps

    def _evaluate(self, steps: int) -> None:
        weights = plain_weights(policy_of(self.model).average.module)
        scores = self._world.evaluate(weights, self._config.tuning_seeds)
        score = float(scores.mean())
        self.notes["history"].append({"steps": steps, "tuning": score})
        best = self.notes["best"]
        if best is None or score < best["tuning"]:
            self.notes["best"] = {"steps": steps, "tuning": score}
            self._agent(weights).save(self._folder)
        self.logger.record("tuning/score", score)
        self.logger.dump(steps)

    def _agent(self, weights: dict[str, np.ndarray]) -> Agent:
        return Agent(card(self._world, self._config, {"tuning": self.notes["best"]}), weights)

    def _reseed(self) -> None:
        """Begin anew from the run's seed and the steps made."""
        state = stream(self._config.seed, "stretch", self.num_timesteps).generate_state(1)
        self.model.set_random_seed(int(state[0]))
        envs = self.training_env
        self.model._last_obs = envs.reset()  # type: ignore[assignment]
        self.model._last_episode_starts = np.ones(envs.num_envs, bool)


def card(world: World, config: TrainConfig, results: dict[str, Any]) -> AgentCard:
    """The card of an agent that is being trained so."""
    return AgentCard(
        world=world.name,
        observation_version=world.observation_version,
        settings=asdict(world),  # type: ignore[call-overload]
        training=asdict(config),
        seeds={
            "training": config.seed,
            "tuning": config.tuning_seeds,
            "test": config.test_seeds,
        },
        results=results,
    )


def policy_of(model: MaskablePPO) -> GraphPolicy:
    """The policy that `model` trains."""
    assert isinstance(model.policy, GraphPolicy)
    return model.policy


def network_of(model: MaskablePPO) -> GraphNetwork:
    """The network that `model` trains."""
    return policy_of(model).network


def plain_weights(network: nn.Module) -> dict[str, np.ndarray]:
    """Name -> float32 array, a copy."""
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}


def _model(world: World, config: TrainConfig) -> MaskablePPO:
    return MaskablePPO(
        GraphPolicy,
        vectorised(world, config.envs, config.processes, config.gamma),
        learning_rate=schedule(config.schedule, config.rate),
        n_steps=config.rollout,
        batch_size=config.batch,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy,
        target_kl=config.target_kl or None,
        policy_kwargs={"declaration": world.graph, "config": config.network},
        seed=config.seed,
        device="cpu",
    )


def _imitate(world: World, config: TrainConfig, model: MaskablePPO) -> float:
    cloning = config.cloning
    lessons = watch(world, cloning.teacher, cloning.decisions, config.seed)
    return clone(network_of(model), lessons, cloning, config.seed)


def _settings(world: World, config: TrainConfig) -> dict[str, Any]:
    return {
        "env": world.name,
        "world": asdict(world),  # type: ignore[call-overload]
        "training": asdict(config),
    }


def _finish(world: World, config: TrainConfig, folder: Path, stretch: Stretches) -> Agent:
    """Measure the best weights on the test episodes, and complete the card."""
    best = load_agent(folder)
    notes = stretch.notes
    results = {"tuning": notes["best"], "history": notes["history"]}
    if config.test:
        scores = world.evaluate(best.weights, config.test_seeds)
        error = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else None
        results["test"] = {"mean": float(scores.mean()), "standard_error": error}
    if "cloned" in notes:
        results["cloned"] = notes["cloned"]
    trained = {
        "steps": config.steps,
        "wall_s": round(notes["wall_s"], 1),
        "commit": commit(),
        "versions": versions(),
    }
    done = dataclasses.replace(card(world, config, results), trained=trained)
    agent = Agent(done, best.weights)
    agent.save(folder)
    return agent
