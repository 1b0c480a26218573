"""`makespan/BlockingJobShop-v0`: who enters a free machine of a job shop without buffers?"""

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.envs.core.environment import SchedulingEnv
from makespan.envs.jobshop.blocking.decision import EntryDecision
from makespan.envs.jobshop.blocking.episode import EpisodeConfig
from makespan.envs.jobshop.blocking.observation import (
    EDGES,
    JOB_FIELDS,
    LIMIT,
    MACHINE_FIELDS,
    SHOP_FIELDS,
    Encoder,
)
from makespan.envs.jobshop.blocking.shutdowns import Shutdowns
from makespan.envs.jobshop.blocking.simulation import BlockingShop
from makespan.traces.jobshop.instance import JobShop


def observation_space(max_jobs: int, max_machines: int) -> spaces.Space[Any]:
    """The space of what `Encoder.encode` returns."""

    def box(low: float, high: float, *shape: int) -> spaces.Space[Any]:
        return spaces.Box(low, high, shape, np.float32)

    entries = {
        "action_mask": box(0, 1, max_jobs + 1),
        "job": box(-LIMIT, LIMIT, max_jobs, len(JOB_FIELDS)),
        "job_mask": box(0, 1, max_jobs),
        "machine": box(-LIMIT, LIMIT, max_machines, len(MACHINE_FIELDS)),
        "machine_mask": box(0, 1, max_machines),
        "shop": box(-LIMIT, LIMIT, len(SHOP_FIELDS)),
    }
    last = max(max_jobs, max_machines) - 1
    for name in EDGES:
        entries[name] = spaces.Box(0, max(last, 1), (2, max_jobs), np.int64)
        entries[f"{name}_mask"] = box(0, 1, max_jobs)
    return spaces.Dict(entries)


class BlockingJobShopEnv(
    SchedulingEnv[BlockingShop, EntryDecision, dict[str, np.ndarray]], EzPickle
):
    """
    ## Description

    A job shop without buffers: a job whose operation has ended stays on its machine, and blocks it,
    until its next machine takes it. Jobs that wait for each other in a circle swap: all move in the
    same moment. Before an operation the machine may be shut down for a random time, in which the
    job waits on it (`makespan.envs.jobshop.blocking.shutdowns`). The agent is asked whenever a
    machine is free while jobs wait for it: which one enters, or none for now? To let new jobs in is
    to have machines blocked. The problem is that of Wong et al. (ISBJSSP, arXiv 2302.02506), the
    protocol is this project's.

    ## Action Space

    `Discrete(max_jobs + 1)`:

    | Action              | Meaning                                                     |
    |---------------------|-------------------------------------------------------------|
    | 0 to `max_jobs` - 1 | that job enters the machine                                 |
    | `max_jobs`          | the machine is left empty until something happens           |

    Jobs that cannot enter now are masked, and so is leaving the machine empty when nothing else
    would ever happen. The mask is in `info["action_mask"]` (int8), `action_masks()` (bool) and the
    observation; there is always a legal action. After a masked action the job that has waited
    longest enters, and `info["illegal"]` is True.

    ## Observation Space

    A `Dict`, J = `max_jobs`, M = `max_machines`; float32 but for the edges, which are int64:

    | Key                         | Shape    | Range     | Content                         |
    |-----------------------------|----------|-----------|---------------------------------|
    | `job`                       | (J, 19)  | [-10, 10] | one row per job, see below      |
    | `job_mask`                  | (J,)     | {0, 1}    | 1 where a job is not done       |
    | `machine`                   | (M, 8)   | [-10, 10] | one row per machine             |
    | `machine_mask`              | (M,)     | {0, 1}    | 1 where a machine exists        |
    | `shop`                      | (8,)     | [-10, 10] | what concerns all of it         |
    | `stands_on`                 | (2, J)   | rows      | job, and the machine it is on   |
    | `goes_to`                   | (2, J)   | rows      | job, and its next machine       |
    | `goes_then_to`              | (2, J)   | rows      | job, and the machine after that |
    | the last three with `_mask` | (J,)     | {0, 1}    | 1 where there is an edge        |
    | `action_mask`               | (J + 1,) | {0, 1}    | 1 where an action is legal      |

    A raw value x is shown as sign(x) * log1p(|x|) / log1p(reference), cut to the range; what is
    unknown is shown as 0, and so is padding. Times are in mean durations of the shop. "Next" means
    behind the operation that the job does, or would do if it entered its machine.

    | Column of `job`     | Raw value                                               | Reference |
    |---------------------|---------------------------------------------------------|-----------|
    | 0 `candidate`       | 1 if it could enter the machine                         | 1         |
    | 1 `in_shop`         | 1 if it is on a machine                                 | 1         |
    | 2 `worked_on`       | 1 if it is at work, or waits for its machine to be up   | 1         |
    | 3 `ended`           | 1 if it blocks its machine                              | 1         |
    | 4 `duration`        | of the operation                                        | 4         |
    | 5 `tail`            | work of the job behind it                               | 20        |
    | 6 `operations_left` | of the job, this one included                           | 20        |
    | 7 `waited`          | time it could have gone on                              | 10        |
    | 8 `ends_in`         | time until the operation ends                           | 4         |
    | 9 `end_known`       | 1 if that is known                                      | 1         |
    | 10 `holds_up`       | jobs that wait for the machine it is on                 | 4         |
    | 11 `last`           | 1 if it leaves the shop next                            | 1         |
    | 12 `next_free`      | 1 if its next machine is free                           | 1         |
    | 13 `next_busy`      | 1 if that is at work                                    | 1         |
    | 14 `next_blocked`   | 1 if that is blocked                                    | 1         |
    | 15 `next_down`      | 1 if that is shut down                                  | 1         |
    | 16 `next_free_in`   | time until its work ends, if known                      | 4         |
    | 17 `next_wanted_by` | jobs that wait for it                                   | 4         |
    | 18 `would_swap`     | 1 if the job there goes next to where this one would be | 1         |

    | Column of `machine` | Raw value                                               | Reference |
    |---------------------|---------------------------------------------------------|-----------|
    | 0 `asked`           | 1 for the machine that is to be decided about           | 1         |
    | 1 `free`            | 1 if nobody is on it                                    | 1         |
    | 2 `busy`            | 1 if it is at work                                      | 1         |
    | 3 `blocked`         | 1 if the job there cannot go on                         | 1         |
    | 4 `down`            | 1 if it is shut down                                    | 1         |
    | 5 `free_in`         | time until its work ends, if known                      | 4         |
    | 6 `wanted_by`       | jobs that wait for it                                   | 4         |
    | 7 `load`            | work still to be done there                             | 20        |

    | Entry of `shop`          | Raw value                                          | Reference |
    |--------------------------|----------------------------------------------------|-----------|
    | 0 `in_shop`              | jobs on machines, per machine                      | 1         |
    | 1 `outside`              | jobs that have not begun, per machine              | 1         |
    | 2 `machines`             | their number                                       | 20        |
    | 3 `work_left`            | of all jobs, per machine                           | 20        |
    | 4 `longest_left`         | of the job that has most                           | 20        |
    | 5 `can_wait`             | 1 if the machine may be left empty                 | 1         |
    | 6 `shutdown_probability` | of each operation                                  | 0.1       |
    | 7 `shutdown_mean`        | mean length                                        | 1         |

    After the last decision everything is 0 but the rows of jobs in the edges, and `action_mask`,
    which stays as it was.

    ## Rewards

    Minus the time since the last decision, in units of the shop's lower bound
    (`JobShop.lower_bound`: its longest job or busiest machine, without blocking or shutdowns). The
    undiscounted return is minus the makespan in these units.

    ## Starting State

    All machines are up and empty, and all jobs wait outside. Each reset draws the shop, the
    probability of shutdowns and these from the environment's generator. `options` replaces what is
    drawn: `"shop"` by a given `makespan.traces.jobshop.JobShop`, `"shutdowns"` by given
    `makespan.envs.jobshop.blocking.shutdowns.Shutdowns` of the same shop.

    ## Episode End

    Terminated when all jobs are done. Truncated by gymnasium after 1,000,000 decisions.

    ## Arguments

    ```python
    gymnasium.make("makespan/BlockingJobShop-v0", jobs=[8, 15], machines=10, shutdown=0.1)
    ```

    | Argument        | Default    | Meaning                                                      |
    |-----------------|------------|--------------------------------------------------------------|
    | `jobs`          | 10         | number of jobs, or a range `[low, high]` to draw from        |
    | `machines`      | 10         | number of machines, or a range                               |
    | `shutdown`      | (0.0, 0.2) | probability of a shutdown before an operation, or a range    |
    | `shutdown_mean` | 1.0        | mean length of shutdowns, in mean durations                  |
    | `max_jobs`      | 0          | rows of jobs; 0: as many as there are at most                |
    | `max_machines`  | 0          | rows of machines; 0: as many as there are at most            |
    | `render_mode`   | None       | `"rgb_array"` (a Gantt chart) or `"ansi"` (a table)          |

    Durations are whole and uniform in 1 to 99; every job visits every machine once, in random
    order. Raises `ValueError` for an argument out of range.

    ## Version History

    * v0: initial version
    """

    options: ClassVar[dict[str, type]] = {"shop": JobShop, "shutdowns": Shutdowns}

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        EzPickle.__init__(self, render_mode, **settings)
        super().__init__(render_mode)
        self.config = EpisodeConfig(**settings)
        jobs, machines = self.config.rows
        self.encoder = Encoder(jobs, machines)
        self.observation_space = observation_space(jobs, machines)
        self.action_space = spaces.Discrete(jobs + 1)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> BlockingShop:
        """A shop and shutdowns as configured, or as given in `options`."""
        sizes, downs = seed.spawn(2)
        shop = options["shop"] if "shop" in options else self.config.draw_shop(sizes)
        shutdowns = options.get("shutdowns") or self.config.draw_shutdowns(shop, downs)
        self._bound = max(shop.lower_bound(), 1)
        return BlockingShop(shop, shutdowns)

    def score(self) -> float:
        return -self.simulation.clock.now / self._bound

    def encode(self, decision: EntryDecision) -> dict[str, np.ndarray]:
        return self.encoder.encode(decision)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self.encoder.padding(self.mask)

    def legal(self, decision: EntryDecision) -> np.ndarray:
        return self.encoder.mask(decision)

    def answer(self, decision: EntryDecision, action: int) -> int:
        return decision.wait if action == self.encoder.max_jobs else action

    def fallback(self, decision: EntryDecision) -> int:
        return decision.lowest(decision.since)

    def render(self) -> np.ndarray | str | None:
        """The shop as the pending decision finds it, in the `render_mode`."""
        from makespan.envs.jobshop.blocking import render

        if self.render_mode == "rgb_array":
            return render.picture(self.simulation, self.decision)
        if self.render_mode == "ansi":
            return render.table(self.simulation, self.decision)
        return None
