"""The tuning of an agent with Ray Tune: trials of `makespan.agents.train`, and the best of them."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from makespan.agents.config import TrainConfig
from makespan.agents.llm.world import RouterWorld
from makespan.agents.train import change_settings, train
from makespan.experiments.run_folder import to_json
from makespan.experiments.summary_tables import console
from makespan.experiments.sweep.folder import RESULTS, SweepFolder
from makespan.experiments.sweep.table import trials_screen
from makespan.experiments.sweep.tune_config import Range, TuneConfig, changed
from makespan.experiments.train import in_words
from makespan.experiments.watching import progress

AGENT, TRIALS = "agent", "tune"
"""Folders in that of the sweep: the best agent, and what Ray Tune keeps of the trials."""

HISTORY = "tuning.json"
"""The evaluations that led to an agent, and the settings at each; in its folder."""

SCORES = {"asha": "best", "pbt": "tuning"}
"""By what trials are compared on the way. A trial yields the weights of its best evaluation, and
asha, told of these, never stops the trial with the best of all. What pbt copies is the latest."""

RETRIES = 3
"""How often a trial that failed goes on from its last checkpoint."""


def tune(config: TuneConfig, folder: SweepFolder, as_json: bool) -> int:
    """Run the trials that the folder does not hold to their end, and complete the best agent.

    Returns:
        0; 1 when every trial failed.

    Raises:
        KeyboardInterrupt: after what was learned has been saved.
    """
    results = run_trials(config, folder.path.resolve())
    if not all(result.error or result.metrics.get("done") for result in results):
        raise KeyboardInterrupt  # which Ray has answered by saving the trials
    for error in results.errors:
        print(f"error: a trial failed: {error}", file=sys.stderr)
    if results.num_errors == len(results):
        return 1
    agent = complete(config, results, folder.path / AGENT)
    outcome = {"config": asdict(config), "trials": trials(config, results), "agent": agent}
    folder.write_text(RESULTS, to_json(outcome))
    if as_json:
        print(to_json(outcome), end="")
        return 0
    out = console(sys.stdout)
    out.print(trials_screen(outcome["trials"]))
    out.print(f"{in_words(agent)}\nthe agent: {folder.path / AGENT}", soft_wrap=True)
    return 0


def run_trials(config: TuneConfig, folder: Path) -> Any:
    """Start the trials, or go on with those in `folder`; Ray's `ResultGrid`."""
    from ray.tune import Tuner

    trainable = trainable_of(config)
    if Tuner.can_restore(folder / TRIALS):
        tuner = Tuner.restore(str(folder / TRIALS), trainable, resume_errored=True)
    else:
        tuner = _tuner(config, trainable, folder)
    return tuner.fit()


def _tuner(config: TuneConfig, trainable: Any, folder: Path) -> Any:
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    return tune.Tuner(
        trainable,
        param_space={name: _distribution(values) for name, values in config.settings.items()},
        tune_config=tune.TuneConfig(
            metric=SCORES[config.method],
            mode="min",
            num_samples=config.trials,
            search_alg=BasicVariantGenerator(random_state=config.seed),
            scheduler=scheduler(config),
            reuse_actors=True,  # importing torch takes longer than many a stretch of training
        ),
        run_config=tune.RunConfig(
            name=TRIALS,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[_watcher(config)],
            verbose=0,
        ),
    )


def _watcher(config: TuneConfig) -> Any:
    """Shows how many steps of all trials are made; those that are not stopped make all of them."""
    from ray.tune import Callback

    class Watcher(Callback):
        def setup(self, **_: Any) -> None:
            # Not sooner: Ray pickles the callbacks with the rest of the tuning.
            self.bars = progress()
            self.bars.start()
            self.bar = self.bars.add_task("steps", total=config.trials * config.training.steps)

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
        ) -> None:
            made = sum(trial.last_result.get("steps", 0) for trial in trials)
            self.bars.update(self.bar, completed=made)

        def on_experiment_end(self, trials: Any, **_: Any) -> None:
            self.bars.stop()

    return Watcher()


def scheduler(config: TuneConfig) -> Any:
    """Ray's scheduler of the method; it looks at trials whenever they were evaluated."""
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    steps, every = config.training.steps, config.training.checkpoint_every
    if config.method == "asha":
        return ASHAScheduler("steps", max_t=steps, grace_period=min(every, steps))
    space = {
        name: _distribution(values) if isinstance(values, Range) else values
        for name, values in config.settings.items()
    }

    def within(settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of a trial that goes on as another, where Ray's factors left a range."""
        for name, values in config.settings.items():
            if isinstance(values, Range):
                settings[name] = values.nearest(settings[name])
        return settings

    return PopulationBasedTraining(
        "steps",
        perturbation_interval=every,
        hyperparam_mutations=space,
        custom_explore_fn=within,
    )


def _distribution(values: list[Any] | Range) -> Any:
    from ray import tune

    if isinstance(values, Range):
        return getattr(tune, values.kind)(values.low, values.high)
    return tune.choice(values)


def trainable_of(config: TuneConfig) -> Any:
    """What Ray runs as a trial."""
    from ray import tune

    return tune.with_resources(
        tune.with_parameters(trial, world=config.world, training=config.training), {"cpu": 1}
    )


def trial(settings: Mapping[str, Any], world: RouterWorld, training: TrainConfig) -> None:
    """Train one agent, and tell Ray of every evaluation; in a process of Ray's.

    Test episodes are left to the best trial.
    """
    from ray import tune

    config = replace(changed(training, settings), test=0)
    with TemporaryDirectory(prefix="makespan-") as name:
        folder = Path(name)
        if checkpoint := tune.get_checkpoint():
            checkpoint.to_directory(folder)
            change_settings(folder, world, config)

        def report(figures: dict[str, float]) -> None:
            if "tuning" in figures:
                _note(folder, figures, settings)
                tune.report(figures, checkpoint=tune.Checkpoint.from_directory(folder))

        train(world, config, folder, resume=True, report=report)


def _note(folder: Path, figures: Mapping[str, float], settings: Mapping[str, Any]) -> None:
    path = folder / HISTORY
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    path.write_text(json.dumps([*before, {**figures, **settings}], indent=2) + "\n", "utf-8")


def complete(config: TuneConfig, results: Any, folder: Path) -> dict[str, Any]:
    """Put the best trial's run into `folder` and measure it on the test episodes.

    Returns:
        What the agent's card says of the results.
    """
    best = results.get_best_result("best", "min")
    best.checkpoint.to_directory(folder)
    training = changed(config.training, _settings(config, best))
    change_settings(folder, config.world, training)
    return train(config.world, training, folder, resume=True).card.results


def trials(config: TuneConfig, results: Any) -> list[dict[str, Any]]:
    """Every trial that was evaluated: last settings, steps and best score; best first."""
    found = [
        {"settings": _settings(config, result), **{k: result.metrics[k] for k in ("steps", "best")}}
        for result in results
        if "best" in result.metrics
    ]
    return sorted(found, key=lambda row: row["best"])


def _settings(config: TuneConfig, result: Any) -> dict[str, Any]:
    return {name: result.config[name] for name in config.settings}
