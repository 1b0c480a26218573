"""`SchedulingEnv` over a simulation small enough to compute by hand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import simpy
from gymnasium import spaces
from numpy.random import SeedSequence

from makespan.envs.core.contract import simulate
from makespan.envs.core.environment import SchedulingEnv


@dataclass(frozen=True)
class Placement:
    """Put the next job on one of three machines; machine 2 is open for every other job only."""

    time: float
    action_mask: np.ndarray
    load: tuple[float, ...]


class Machines:
    """Jobs arrive a second apart; each keeps its machine busy for its own duration."""

    def __init__(self, durations: np.ndarray) -> None:
        self.clock = simpy.Environment()
        self.durations = durations
        self.load = [0.0, 0.0, 0.0]
        self.placed: list[int] = []

    @property
    def log(self) -> dict[str, np.ndarray]:
        return {"machine": np.array(self.placed), "duration": self.durations}

    def next_decision(self) -> Placement | None:
        n = len(self.placed)
        if n == len(self.durations):
            return None
        self.clock.run(until=n + 1.0)
        return Placement(self.clock.now, np.array([True, True, n % 2 == 0]), tuple(self.load))

    def decide(self, action: int) -> None:
        self.load[action] += self.durations[len(self.placed)]
        self.placed.append(action)


class MachinesEnv(SchedulingEnv[Machines, Placement, np.ndarray]):
    """The score is minus the longest load."""

    options = {"durations": np.ndarray}  # noqa: RUF012
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    def __init__(self, jobs: int = 4, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.jobs = jobs
        self.observation_space = spaces.Box(-1.0, 100.0, (3,), np.float64)
        self.action_space = spaces.Discrete(3)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> Machines:
        drawn = np.random.default_rng(seed).integers(1, 9, self.jobs).astype(float)
        return Machines(options.get("durations", drawn))

    def encode(self, decision: Placement) -> np.ndarray:
        return np.array(decision.load)

    def encode_end(self) -> np.ndarray:
        return np.full(3, -1.0)

    def score(self) -> float:
        return -max(self.simulation.load)

    def render(self) -> str:
        return str(self.simulation.load)


DURATIONS = {"durations": np.array([3.0, 1.0, 2.0, 5.0])}


def test_the_rewards_are_the_growth_of_the_score():
    env = MachinesEnv()
    observation, info = env.reset(seed=0, options=DURATIONS)
    assert observation.tolist() == [0, 0, 0]
    assert info["time"] == 1.0
    rewards, ends, observations = [], [], []
    for action in (0, 1, 1, 0):
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation.tolist())
        rewards.append(reward)
        ends.append((terminated, truncated))
    assert rewards == [-3.0, 0.0, 0.0, -5.0]
    assert ends == [(False, False)] * 3 + [(True, False)]
    assert observations == [[3, 0, 0], [3, 1, 0], [3, 3, 0], [-1, -1, -1]]
    assert env.simulation.log["machine"].tolist() == [0, 1, 1, 0]
    assert env.decision is None


def test_an_episode_is_the_run_that_simulate_makes():
    env = MachinesEnv(jobs=20)
    env.reset(seed=3)
    durations = env.simulation.durations
    terminated = False
    while not terminated:
        assert env.decision is not None
        action = int(np.argmin(env.decision.load[:2]))
        terminated = env.step(action)[2]
    reference = simulate(Machines(durations), lambda d: int(np.argmin(d.load[:2])))
    assert env.simulation.placed == reference.placed


def test_masks_come_in_both_conventions_and_as_copies():
    env = MachinesEnv()
    _, info = env.reset(seed=0)
    assert info["action_mask"].dtype == np.int8
    assert info["action_mask"].tolist() == [1, 1, 1]
    mask = env.action_masks()
    assert mask.dtype == np.bool_
    mask[:] = False
    assert env.action_masks().all()
    _, _, _, _, info = env.step(2)
    assert info["action_mask"].tolist() == [1, 1, 0]
    assert env.action_masks().tolist() == [True, True, False]


def test_the_mask_of_the_last_decision_outlives_it():
    env = MachinesEnv(jobs=2)
    env.reset(seed=0)
    env.step(0)
    *_, terminated, _, info = env.step(0)
    assert terminated
    assert info["action_mask"].tolist() == [1, 1, 0]


def test_a_masked_action_falls_back_to_the_first_legal_one():
    env = MachinesEnv()
    env.reset(seed=0)
    assert env.step(2)[4]["illegal"] is False
    assert env.step(2)[4]["illegal"] is True
    assert env.simulation.placed == [2, 0]


@pytest.mark.parametrize("action", [-1, 3])
def test_an_action_outside_the_space_is_an_error(action: int):
    env = MachinesEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"0\.\.2, not {action}"):
        env.step(action)


def test_steps_need_an_episode():
    env = MachinesEnv(jobs=1)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    env.reset()
    assert env.step(1)[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": np.ones(3)}, "unknown option 'duration'. Did you mean 'durations'"),
        ({"durations": [1.0]}, r"options\['durations'\] must be a ndarray, not \[1.0\]"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        MachinesEnv().reset(options=options)


def test_a_run_without_decisions_is_an_error():
    with pytest.raises(ValueError, match="nothing to decide"):
        MachinesEnv().reset(options={"durations": np.zeros(0)})
    with pytest.raises(ValueError, match="nothing to decide"):
        MachinesEnv(jobs=0).reset(seed=0)


class SometimesEmpty(MachinesEnv):
    """Three of four runs have no job."""

    seeds: list[tuple[int, ...]]

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> Machines:
        self.seeds.append(seed.spawn_key)
        durations = np.random.default_rng(seed).integers(1, 9, 4).astype(float)
        return Machines(durations if durations[0] > 6 else durations[:0])


def test_another_run_is_drawn_where_nothing_is_to_be_decided():
    env = SometimesEmpty()
    tries = []
    for seed in range(40):
        env.seeds = []
        env.reset(seed=seed)
        assert env.decision is not None
        assert env.seeds == [(), *((k,) for k in range(len(env.seeds) - 1))]
        tries.append(len(env.seeds))
    assert min(tries) == 1
    assert max(tries) > 4


def test_the_seed_decides_what_is_drawn_and_resets_go_on_from_there():
    env = MachinesEnv(jobs=50)

    def drawn(seed: int | None) -> list[float]:
        env.reset(seed=seed)
        return env.simulation.durations.tolist()

    first, second = drawn(5), drawn(None)
    assert first != second
    assert [drawn(5), drawn(None)] == [first, second]
    assert drawn(6) != first


def test_an_unknown_render_mode_is_an_error():
    assert MachinesEnv(render_mode="ansi").render_mode == "ansi"
    with pytest.raises(ValueError, match="'human'"):
        MachinesEnv(render_mode="human")
