"""`makespan/JobShop-v0`: schedule a static job shop."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.envs.core.environment import SchedulingEnv
from makespan.envs.jobshop.core import Way, way_number
from makespan.envs.jobshop.observation import Encoder
from makespan.envs.jobshop.ranges import Size, bounds
from makespan.envs.jobshop.simulation import ShopDecision, ShopSimulation
from makespan.traces.jobshop.benchmarks import benchmark
from makespan.traces.jobshop.instance import JobShop
from makespan.traces.jobshop.uniform import uniform_shop


@dataclass(frozen=True)
class ShopConfig:
    """Settings of `JobShopEnv`, all of them JSON; see there.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    jobs: Size = 15
    machines: Size = 15
    instance: str = ""
    way: Way = "nondelay"

    def __post_init__(self) -> None:
        way_number(self.way)
        for name in ("jobs", "machines"):
            bounds(name, getattr(self, name), 1)
        if self.instance:
            benchmark(self.instance)

    @property
    def most(self) -> tuple[int, int, int]:
        """Jobs, machines and operations of the largest shop."""
        if self.instance:
            shop = benchmark(self.instance)
            return shop.jobs, shop.machines, shop.operations
        jobs, machines = bounds("jobs", self.jobs, 1)[1], bounds("machines", self.machines, 1)[1]
        return jobs, machines, jobs * machines

    def draw(self, seed: SeedSequence) -> JobShop:
        """The shop of an episode."""
        if self.instance:
            return benchmark(self.instance)
        rng = np.random.default_rng(seed)
        jobs, machines = (
            int(rng.integers(*bounds(name, getattr(self, name), 1), endpoint=True))
            for name in ("jobs", "machines")
        )
        return uniform_shop(jobs, machines, rng)


class JobShopEnv(SchedulingEnv[ShopSimulation, ShopDecision, dict[str, np.ndarray]], EzPickle):
    """
    ## Description

    Jobs visit machines, each in its own order, and a machine does one operation at a time. Wherever
    several operations could be next, the agent says which; what needs no choice is done at once.
    The aim is to be done with all as early as can be.

    What a choice is between is the `way` (`makespan.envs.jobshop.core.Way`): `"nondelay"`, the jobs
    that wait for an idle machine; `"active"`, those that Giffler and Thompson's conflict set has;
    `"append"`, all unfinished jobs, whose operation is put behind what its machine has; `"insert"`,
    the same, put into the first gap that is long enough.

    ## Action Space

    `Discrete(max_jobs)`: the next operation of that job. Jobs that are no candidates are masked.
    The mask is in `info["action_mask"]` (int8), `action_masks()` (bool) and the observation; there
    is always a legal action. In place of a masked action the first legal one is carried out, and
    `info["illegal"]` is True.

    ## Observation Space

    A `Dict`; J, M and O are the most jobs, machines and operations. float32 cut to [-100, 100],
    masks in {0, 1}, arcs int64 rows of their two ends. Padding is 0.

    | Key              | Shape   | Content                                                        |
    |------------------|---------|----------------------------------------------------------------|
    | `action_mask`    | (J,)    | 1 where an action is legal                                     |
    | `candidate`      | (J, 24) | row per candidate, `features.FEATURES`; 0 for other jobs       |
    | `operation`      | (O, 8)  | `features.OPERATION_FEATURES`, then 1 if placed and how long   |
    |                  |         | until its end (squashed, in mean durations)                    |
    | `operation_mask` | (O,)    | 1 where an operation exists                                    |
    | `machine`        | (M, 5)  | `features.MACHINE_FEATURES`, then work that is not placed, by  |
    |                  |         | the lower bound, and how long until it is idle (squashed)      |
    | `machine_mask`   | (M,)    | 1 where a machine exists                                       |
    | `job_arc`        | (2, O)  | operation, the next one of its job                             |
    | `job_arc_mask`   | (O,)    | 1 where such an arc exists                                     |
    | `machine_arc`    | (2, O)  | operation, its machine; masked by `operation_mask`             |
    | `next_arc`       | (2, J)  | operation, the job that would go on with it                    |

    Times are in mean durations of the shop, so nothing depends on its unit of time. After the last
    decision everything is 0 but `action_mask`, which stays as it was.

    ## Rewards

    Minus the growth of a lower bound on the makespan (the longest job, or the busiest machine,
    given what is placed), in units of the bound at the beginning. The undiscounted return is
    therefore 1 - makespan / bound, at most 0.

    ## Starting State

    Nothing is placed. Each reset draws a shop, `jobs` by `machines` with durations from 1 to 99 and
    every job visiting every machine once, from the environment's generator, and another one if that
    leaves no choice; or it is always the benchmark `instance`, or `options["shop"]`, a
    `makespan.traces.jobshop.JobShop`.

    ## Episode End

    Terminated when all is placed. Truncated by gymnasium after 1,000,000 choices.

    ## Arguments

    ```python
    gymnasium.make("makespan/JobShop-v0", jobs=[10, 20], machines=10)
    ```

    | Argument      | Default      | Meaning                                                       |
    |---------------|--------------|---------------------------------------------------------------|
    | `jobs`        | 15           | number of jobs, or a range `[low, high]`                      |
    | `machines`    | 15           | number of machines, or a range                                |
    | `instance`    | `""`         | name of a benchmark, `"ta01"`, in place of random shops       |
    | `way`         | `"nondelay"` | what a choice is between                                      |
    | `render_mode` | None         | `"rgb_array"` (a Gantt chart) or `"ansi"` (a table)           |

    `max_jobs`, `max_machines` and `max_operations` are those of the largest shop that these give.
    Raises `ValueError` for an argument out of range, and from `reset` for a given shop that leaves
    no choice or is larger, or if none of 1000 that are drawn leaves one.

    ## Version History

    * v0: initial version
    """

    options: ClassVar[dict[str, type]] = {"shop": JobShop}

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        EzPickle.__init__(self, render_mode, **settings)
        super().__init__(render_mode)
        self.config = ShopConfig(**settings)
        self.encoder = Encoder(*self.config.most)
        self.observation_space: spaces.Space[Any] = self.encoder.space
        self.action_space = spaces.Discrete(self.encoder.jobs)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> ShopSimulation:
        """The shop as configured, or as given in `options`."""
        shop = options["shop"] if "shop" in options else self.config.draw(seed)
        simulation = ShopSimulation(shop, self.config.way)
        self.encoder.check(shop)
        self._bound = max(shop.lower_bound(), 1)
        return simulation

    def score(self) -> float:
        return -self.simulation.bound / self._bound

    def encode(self, decision: ShopDecision) -> dict[str, np.ndarray]:
        return self.encoder.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self.encoder.padding(self.mask)

    def legal(self, decision: ShopDecision) -> np.ndarray:
        mask = np.zeros(self.encoder.jobs, bool)
        mask[decision.jobs] = True
        return mask

    def render(self) -> np.ndarray | str | None:
        """What is placed, in the `render_mode`."""
        if self.render_mode == "rgb_array":
            from makespan.envs.jobshop.render import picture

            return picture(self.simulation.schedule, self.simulation.placed)
        if self.render_mode == "ansi":
            return _table(self.simulation)
        return None


def _table(simulation: ShopSimulation) -> str:
    """The starts of what is placed, a line per job."""
    shop, placed = simulation.shop, simulation.placed
    lines = [f"time {simulation.clock.now:g}, bound {simulation.bound}"]
    for job in range(shop.jobs):
        operations = range(shop.first_operation[job], shop.first_operation[job + 1])
        starts = [simulation.state.start[o] if placed[o] else "-" for o in operations]
        lines.append(f"job {job:>3}: " + " ".join(f"{start!s:>5}" for start in starts))
    return "\n".join(lines)
