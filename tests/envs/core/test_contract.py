"""The loop between a simulation and a policy."""

import numpy as np
import simpy

from makespan.envs.core.contract import simulate


class Countdown:
    """Decides `decisions` times, one second apart, and notes what was chosen."""

    def __init__(self, decisions: int) -> None:
        self.clock = simpy.Environment()
        self.left = decisions
        self.chosen: list[int] = []

    @property
    def log(self) -> dict[str, np.ndarray]:
        return {"chosen": np.array(self.chosen)}

    def next_decision(self) -> float | None:
        if self.left == 0:
            return None
        self.left -= 1
        self.clock.run(until=self.clock.now + 1.0)
        return self.clock.now

    def decide(self, action: int) -> None:
        self.chosen.append(action)


def test_the_policy_decides_every_decision_in_order():
    simulation = simulate(Countdown(3), lambda time: int(10 * time))
    assert simulation.log["chosen"].tolist() == [10, 20, 30]
    assert simulation.clock.now == 3.0


def test_a_run_without_decisions_does_not_ask_the_policy():
    def never(decision: float) -> int:
        raise AssertionError("asked")

    simulation = Countdown(0)
    assert simulate(simulation, never) is simulation
    assert simulation.chosen == []


def test_a_policy_may_be_an_object_with_a_memory():
    class Alternate:
        turn = 0

        def __call__(self, decision: float) -> int:
            self.turn += 1
            return self.turn % 2

    assert simulate(Countdown(4), Alternate()).chosen == [1, 0, 1, 0]
