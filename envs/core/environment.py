"""`SchedulingEnv`: a gymnasium environment over any `Simulation`.

The loop of `makespan.envs.core.contract.simulate` turned inside out: here it is the agent that asks
for the next decision, by calling `step`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium
import numpy as np
from numpy.random import SeedSequence

from makespan.envs.core.contract import Decision, Simulation
from makespan.envs.core.registry import unknown_name

S = TypeVar("S", bound=Simulation)
D = TypeVar("D", bound=Decision)
Observation = TypeVar("Observation")

DRAWS = 1000
"""Runs that are drawn at a reset until there is something to decide in one."""


class SchedulingEnv(gymnasium.Env[Observation, np.int64], ABC, Generic[S, D, Observation]):
    """One episode is one run of a simulation, one step the time between two of its decisions.

    A world says how a simulation is built, how a decision is encoded and what the score so far is;
    the reward of a step is the growth of the score, so the undiscounted return is the final score.

    A masked action does no harm: `fallback` is carried out in its place, and `info["illegal"]` is
    True. The mask is in `info["action_mask"]` (int8, as `Discrete.sample` takes it) and the answer
    of `action_masks()` (bool, as sb3-contrib asks for it). After the last decision it is that of
    the last decision, so that there is always a legal action.

    `info` also holds `time`, the clock in seconds.

    Attributes:
        options: name and type of what `reset(options=...)` takes.
        simulation: the run under way, once `reset` was called.
        decision: the decision that is due; None before the first `reset` and after the episode.
        mask: bool (actions,), the actions that are legal now.
    """

    options: ClassVar[dict[str, type]] = {}

    simulation: S
    decision: D | None
    mask: np.ndarray

    def __init__(self, render_mode: str | None = None) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode must be None or one of {modes}, not {render_mode!r}")
        self.render_mode = render_mode
        self.decision = None

    @abstractmethod
    def build(self, seed: SeedSequence, options: dict[str, Any]) -> S:
        """A new simulation; every random number in it comes from `seed`."""

    @abstractmethod
    def encode(self, decision: D) -> Observation:
        """A new observation of `decision`, whose mask is in `self.mask` by now.

        Agents keep observations: it must share no memory with the simulation or another one.
        """

    @abstractmethod
    def encode_end(self) -> Observation:
        """The observation that follows the last decision."""

    @abstractmethod
    def score(self) -> float:
        """The objective so far, to be maximised."""

    def legal(self, decision: D) -> np.ndarray:
        """New bool array (actions,): the mask of `decision`, over the actions of this space."""
        return decision.action_mask.copy()

    def answer(self, decision: D, action: int) -> int:
        """What the simulation calls the legal `action`."""
        return action

    def fallback(self, decision: D) -> int:
        """What the simulation is told when the agent chose a masked action: the first legal one."""
        return int(decision.action_mask.argmax())

    def action_masks(self) -> np.ndarray:
        """bool (actions,): a copy of the mask, by the name that sb3-contrib calls."""
        return self.mask.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a new run; without options another one is drawn if nothing is to be decided in it.

        Raises:
            ValueError: an option is unknown or of another type, or the run ends without a decision.
        """
        self._check(options or {})
        super().reset(seed=seed)
        entropy = int(self.np_random.integers(2**63))
        self.decision = self._begin(SeedSequence(entropy), options or {})
        self._score = self.score()
        return self._observe(self.decision), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out `action` and run to the next decision.

        Raises:
            RuntimeError: the episode is over, or `reset` was never called.
            ValueError: `action` is not in the action space.
        """
        decision = self.decision
        if decision is None:
            raise RuntimeError("no decision is due: call reset() first")
        action = int(action)
        if not 0 <= action < len(self.mask):
            raise ValueError(f"action must be in 0..{len(self.mask) - 1}, not {action}")
        legal = bool(self.mask[action])
        answer = self.answer(decision, action) if legal else self.fallback(decision)
        self.simulation.decide(answer)
        self.decision = due = self.simulation.next_decision()
        observation = self.encode_end() if due is None else self._observe(due)
        before, self._score = self._score, self.score()
        info = self._info()
        info["illegal"] = not legal
        return observation, self._score - before, due is None, False, info

    def _begin(self, seed: SeedSequence, options: dict[str, Any]) -> D:
        """The first decision of a run from `seed`, or else from the first child that has one."""
        child = seed
        for _ in range(1 if options else DRAWS):
            self.simulation = self.build(child, options)
            decision = self.simulation.next_decision()
            if decision is not None:
                return decision
            child = seed.spawn(1)[0]
        raise ValueError("nothing to decide: the simulation ended before its first decision")

    def _check(self, options: dict[str, Any]) -> None:
        for name, value in options.items():
            if name not in self.options:
                raise unknown_name("option", name, self.options)
            kind = self.options[name]
            if not isinstance(value, kind):
                raise ValueError(f"options[{name!r}] must be a {kind.__name__}, not {value!r}")

    def _observe(self, decision: D) -> Observation:
        self.mask = self.legal(decision)
        return self.encode(decision)

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.mask.astype(np.int8), "time": self.simulation.clock.now}
