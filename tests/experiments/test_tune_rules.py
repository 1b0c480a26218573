"""The search for constants of rules: how it chooses, what it costs, and on what."""

import inspect
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.random import SeedSequence

from makespan.agents.config import TrainConfig
from makespan.agents.llm.episodes import EpisodeDistribution, draw
from makespan.baselines.llm import POLICIES, TUNED
from makespan.envs.core.registry import load
from makespan.experiments import tune_rules
from makespan.experiments.tune_rules import (
    PUBLISHED,
    RANGES,
    Latencies,
    Range,
    Trial,
    TuneConfig,
    candidates,
    comparison,
    main,
    relative_latency,
    tune,
)

TINY = EpisodeDistribution(replicas=(2, 3), requests=(30, 40))

FIXED = {
    ("dynamo_kv", "queue_threshold"),  # the queue is `dynamo_kv_queue`'s
    ("smetric", "slack"),  # a factor on `base_s` and `per_token_s`
    ("smetric", "c_lin"),  # only c_att / c_lin counts
    ("mixing_impact", "grad1"),  # what the step-time models say
    ("mixing_impact", "grad2"),
}
"""Constants that are not searched for."""

ONE = {"rule": {"x": Range(0.0, 1.0, "a share")}}


@pytest.fixture
def replayed(monkeypatch):
    """Latencies that a test makes up instead of replays; the trials in their order.

    Latency grows with the distance of `x` from 0.3, and is worse for the published constants.
    """
    trials: list[Trial] = []

    def made_up(trial: Trial) -> float:
        trials.append(trial)
        easy = 1 + trial.seed % 7 / 7
        return easy * (1 + abs(dict(trial.constants).get("x", 0.9) - 0.3))

    monkeypatch.setattr(tune_rules, "relative_latency", made_up)
    return trials


def search(config: TuneConfig, ranges=ONE):
    with ThreadPoolExecutor(1) as pool:
        return tune(config, Latencies(pool, config.distribution), ranges)


def test_the_best_configuration_is_found(replayed):
    config = TuneConfig(configurations=32)
    found = search(config)["rule"]
    drawn = [dict(c)["x"] for c in candidates("rule", ONE["rule"], config)[1:]]
    best = min(drawn, key=lambda x: abs(x - 0.3))
    assert found["constants"] == {"x": best}
    gain = 1 - (1 + abs(best - 0.3)) / 1.6
    for use in ("tuning", "confirmation"):
        assert found[use]["gain"] == pytest.approx(gain, abs=1e-3)
        assert found[use]["standard_error"] == pytest.approx(0, abs=1e-3)


def test_an_interruption_leaves_what_has_not_begun(monkeypatch):
    begun = []

    def interrupted(trial: Trial) -> float:
        begun.append(trial)
        raise KeyboardInterrupt

    monkeypatch.setattr(tune_rules, "relative_latency", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(TuneConfig())
    assert len(begun) < TuneConfig().configurations


def test_configurations_are_halved_while_episodes_double(replayed):
    config = TuneConfig()
    search(config)
    tuning, confirmation = config.seeds("tuning"), config.seeds("confirmation")
    counts = [len({t.constants for t in replayed if t.seed == seed}) for seed in tuning]
    assert counts == [24] * 6 + [12] * 6 + [6] * 12 + [3] * 24
    assert [len([t for t in replayed if t.seed == seed]) for seed in confirmation] == [2] * 48
    assert len(set(replayed)) == len(replayed), "a trial was replayed twice"


def test_published_constants_stay_unless_the_gain_is_above_its_error(monkeypatch):
    config = TuneConfig(configurations=2, episodes=32)
    good = set(config.seeds("tuning")[::2])

    def chosen_if(deviation: float) -> dict:
        def latency(trial: Trial) -> float:  # 2 % lower, and more or less by the deviation
            factor = deviation if trial.seed in good else 1 / deviation
            return 1.0 if trial.constants == PUBLISHED else 0.98 / factor

        monkeypatch.setattr(tune_rules, "relative_latency", latency)
        return search(config)["rule"]

    assert chosen_if(1.05)["constants"]
    assert chosen_if(1.05)["tuning"]["gain"] == 0.02
    uncertain = chosen_if(1.2)
    assert uncertain["constants"] == {}
    assert uncertain["tuning"] == uncertain["confirmation"]
    assert uncertain["tuning"]["gain"] == 0


def test_comparisons_are_made_episode_by_episode(monkeypatch):
    chosen = (("x", 0.5),)
    ratios = {1: (1.0, 0.8), 2: (4.0, 3.6)}
    monkeypatch.setattr(
        tune_rules,
        "relative_latency",
        lambda trial: ratios[trial.seed][trial.constants == chosen],
    )
    with ThreadPoolExecutor(1) as pool:
        latencies = Latencies(pool, TINY)
        latencies.measure("both", {"rule": [PUBLISHED, chosen]}, [1, 2])
        compared = comparison(latencies, "rule", chosen, [1, 2])
    left = np.sqrt(0.8 * 0.9)
    error = left * np.log(0.9 / 0.8) / 2  # deviation of two, over the root of two
    assert compared["published"] == 2.0
    assert compared["chosen"] == pytest.approx(2 * left, abs=1e-4)
    assert compared["gain"] == pytest.approx(1 - left, abs=1e-4)
    assert compared["standard_error"] == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize("rule", RANGES)
def test_candidates_are_the_published_one_and_others_within_the_ranges(rule):
    first, *others = candidates(rule, RANGES[rule], TuneConfig(configurations=200))
    assert first == PUBLISHED
    for constants in others:
        assert list(dict(constants)) == list(RANGES[rule])
        for name, value in constants:
            where = RANGES[rule][name]
            assert where.low <= value <= where.high
            assert isinstance(value, int) == where.whole
    # Both ends of a range are reached, on whichever scale it is drawn.
    for name, where in RANGES[rule].items():
        values = np.array([dict(constants)[name] for constants in others])
        scale = np.log if where.log else np.asarray
        low, high = scale(where.low), scale(where.high)
        assert scale(values).min() < low + 0.1 * (high - low)
        assert scale(values).max() > high - 0.1 * (high - low)


def test_candidates_depend_on_the_seed_and_the_rule_alone():
    drawn = candidates("lookahead", RANGES["lookahead"], TuneConfig())
    assert drawn == candidates("lookahead", RANGES["lookahead"], TuneConfig(episodes=2))
    assert drawn != candidates("lookahead", RANGES["lookahead"], TuneConfig(seed=1))
    assert drawn != candidates("another", RANGES["lookahead"], TuneConfig())


def test_every_constant_of_every_rule_is_looked_for():
    constants = {
        (rule, name)
        for rule in POLICIES
        if rule not in TUNED
        for name in inspect.signature(load("rule", POLICIES, rule)).parameters
        if name not in ("decision", "seed")
    }
    assert {(rule, name) for rule in RANGES for name in RANGES[rule]} == constants - FIXED
    assert constants >= FIXED


def test_rules_are_tuned_on_the_trainers_episodes_and_measured_on_others():
    config, training = TuneConfig(seed=3), TrainConfig(seed=3)
    tuning = config.seeds("tuning")
    assert tuning[: training.tuning] == training.tuning_seeds
    others = {*tuning, *training.test_seeds}
    assert len(set(config.seeds("confirmation")) - others) == config.episodes


def test_fleets_of_the_episodes_hold_requests():
    fleet = draw(TuneConfig().distribution, SeedSequence(0)).fleet
    assert (fleet.can_hold, fleet.hold_order) == (True, "shortest")


def test_latency_is_relative_to_lookahead_and_depends_on_the_constants():
    def latency(rule: str, **constants) -> float:
        return relative_latency(Trial(rule, tuple(constants.items()), 5, TINY))

    assert latency("lookahead") == 1.0
    assert latency("cache_aware") != 1.0
    assert latency("mixing_impact") != latency("mixing_impact", alpha=1.0)
    assert latency("dynamo_kv") == latency("dynamo_kv")


def test_processes_replay_what_this_one_does():
    config = TuneConfig(configurations=2, episodes=2)
    ranges = {rule: RANGES[rule] for rule in ("cache_aware", "dynamo_kv")}
    with ThreadPoolExecutor(1) as here, tune_rules._pool(1) as elsewhere:
        found = [tune(config, Latencies(pool, TINY), ranges) for pool in (here, elsewhere)]
    assert found[0] == found[1]


def test_the_same_seed_writes_the_same_file(replayed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tune_rules, "_pool", lambda processes: ThreadPoolExecutor(processes))
    files = [tmp_path / name for name in ("one.json", "other.json", "seed.json")]
    for file, seed, processes in zip(files, "001", "143", strict=True):
        arguments = ["--episodes", "8", "--seed", seed, "--processes", processes]
        assert main([*arguments, "--out", str(file)]) == 0
    one, other, seed = (file.read_bytes() for file in files)
    assert one == other != seed
    written = json.loads(one)
    assert list(written["rules"]) == list(RANGES)
    assert written["search"]["distribution"]["requests"] == list(tune_rules.REQUESTS)
    assert "lookahead_hold" in capsys.readouterr().out


def test_a_trace_that_is_not_there_is_an_error_in_a_line(capsys):
    assert main(["--traces", "nowhere.csv"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere.csv" in error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes": 1}, "--episodes of at least 2"),
        ({"configurations": 0}, "--configurations of at least 1"),
        ({"seed": -1}, "must not be negative"),
        ({"processes": -1}, "must not be negative"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TuneConfig(**settings)
