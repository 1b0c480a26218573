"""`makespan/DynamicJobShop-v0`: choose what an idle machine does next, in a shop that runs."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.envs.core.environment import SchedulingEnv
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.envs.jobshop.dynamic.episode import DynamicEpisode, Objective, whole_number
from makespan.envs.jobshop.dynamic.observation import (
    CANDIDATE_FIELDS,
    LIMIT,
    MACHINE_FIELDS,
    SHOP_FIELDS,
    Encoder,
)
from makespan.envs.jobshop.dynamic.simulation import DynamicJobShop
from makespan.traces.jobshop.instance import JobShop


def observation_space(max_candidates: int, max_machines: int) -> spaces.Space[Any]:
    """The space of what `Encoder.encode` returns."""

    def box(low: float, high: float, *shape: int) -> spaces.Box:
        return spaces.Box(low, high, shape, np.float32)

    rows = max(max_candidates, max_machines) - 1
    return spaces.Dict(
        {
            "action_mask": box(0, 1, max_candidates),
            "candidate": box(-LIMIT, LIMIT, max_candidates, len(CANDIDATE_FIELDS)),
            "candidate_mask": box(0, 1, max_candidates),
            "machine": box(0, LIMIT, max_machines, len(MACHINE_FIELDS)),
            "machine_mask": box(0, 1, max_machines),
            "next_edge": spaces.Box(0, rows, (2, max_candidates), np.int64),
            "next_edge_mask": box(0, 1, max_candidates),
            "shop": box(0, LIMIT, len(SHOP_FIELDS)),
        }
    )


def _objective(run: DynamicJobShop, objective: Objective) -> Callable[[], float]:
    """What gives the objective so far, in the instance's unit of time."""
    if objective == "makespan":
        return lambda: run.clock.now
    return run.time_in_system if objective == "flow" else run.tardiness


class DynamicJobShopEnv(
    SchedulingEnv[DynamicJobShop, DispatchDecision, dict[str, np.ndarray]], EzPickle
):
    """
    ## Description

    Jobs come into a shop, at once or over time, and go from machine to machine, each in its own
    order. Machines break down and are repaired, and an operation takes longer or shorter than was
    planned. Whenever a machine is idle and at least two jobs wait for it, the agent chooses the one
    that it does next; a single job is begun at once. The agent sees plans, queues, due dates and
    which machines are down (`makespan.envs.jobshop.dynamic.decision`); it does not see true
    durations, nor breakdowns and arrivals to come. These do not depend on what it does.

    ## Action Space

    `Discrete(max_candidates)`: action i begins the job in row i of `candidate`. Rows without a job
    are masked. The mask is in `info["action_mask"]` (int8), `action_masks()` (bool) and the
    observation; there is always a legal action. A masked action begins the job that has waited
    longest, and `info["illegal"]` is True.

    ## Observation Space

    A `Dict` of arrays, float32 but for `next_edge` (int64), K = `max_candidates`, M =
    `max_machines`:

    | Key             | Shape   | Range     | Content                                    | Padding |
    |-----------------|---------|-----------|--------------------------------------------|---------|
    | `candidate`     | (K, 22) | [-10, 10] | a row per job that waits for the machine   | 0       |
    | `candidate_mask`| (K,)    | {0, 1}    | 1 where a candidate exists                 | 0       |
    | `machine`       | (M, 10) | [0, 10]   | a row per machine                          | 0       |
    | `machine_mask`  | (M,)    | {0, 1}    | 1 where a machine exists                   | 0       |
    | `next_edge`     | (2, K)  | rows      | candidate, and its next machine            | 0       |
    | `next_edge_mask`| (K,)    | {0, 1}    | 1 where there is such an edge              | 0       |
    | `shop`          | (10,)   | [0, 10]   | the shop as a whole                        |         |
    | `action_mask`   | (K,)    | {0, 1}    | 1 where an action is legal                 | 0       |

    Candidates are in the order of their numbers; of more than K, those that have waited longest
    have a row. Times are divided by the mean planned duration of an operation. A raw value x is
    shown as sign(x) * log1p(|x|) / log1p(reference), cut to the range.

    | Column of `candidate` | Raw value                                              | Reference |
    |-----------------------|--------------------------------------------------------|-----------|
    | 0 `duration`          | planned duration on this machine                       | 1         |
    | 1 `tail`              | planned work of the job after the operation            | 20        |
    | 2 `through`           | planned work of the job up to the operation's end      | 20        |
    | 3 `operations_left`   | operations of the job that are not done                | 20        |
    | 4 `waited`            | time that it waits here                                | 20        |
    | 5 `in_system`         | time since its release                                 | 40        |
    | 6 `slack`             | time until its due date less its work; 0 without one   | 40        |
    | 7 `has_due`           | 1 if it has a due date                                 | 1         |
    | 8 `weight`            | what a unit of its tardiness costs                     | 1         |
    | 9 `has_next`          | 1 if the operation is not its last                     | 1         |
    | 10 `next_work`        | planned work that waits for or is on its next machine  | 20        |
    | 11 `next_up`          | 1 if that machine is not broken                        | 1         |
    | 12 `tail_per_duration`| `tail` per `duration`                                  | 20        |
    | 13 `slack_to_horizon` | horizon less the job's work                            | 20        |
    | 14 `excess_if_first`  | by how much another job would exceed the horizon if it |           |
    |                       | had to wait for this one; of the others the greatest   | 20        |
    | 15 `tail_lead`        | `tail` less the longest of the others                  | 20        |
    | 16 `duration_lead`    | `duration` less the shortest of the others             | 1         |
    | 17 `next_duration`    | planned duration of the job's next operation           | 1         |
    | 18 `next_free_after`  | until its next machine is free, less `duration`        | 4         |
    | 19 `next_share`       | `share` of its next machine                            | 1         |
    | 20 `comes_tail_lead`  | tail of the job that comes to this machine next, less  |           |
    |                       | `tail`; 0 if nothing comes                             | 20        |
    | 21 `comes_after`      | until that job comes, less `duration`; 0 likewise      | 4         |

    | Column of `machine` | Raw value                                                | Reference |
    |---------------------|----------------------------------------------------------|-----------|
    | 0 `up`              | 1 if it is not broken                                    | 1         |
    | 1 `down_for`        | time since it failed                                     | 4         |
    | 2 `left`            | planned work left of what it has begun                   | 1         |
    | 3 `queue_work`      | planned work of what waits for it                        | 20        |
    | 4 `queue_length`    | jobs that wait for it                                    | 20        |
    | 5 `deciding`        | 1 if it is the one that chooses                          | 1         |
    | 6 `load`            | planned work of the jobs in the shop that it may begin   | 20        |
    | 7 `share`           | what it needs for them and to be free, per horizon       | 1         |
    | 8 `comes`           | 1 if a job under way elsewhere goes to it afterwards     | 1         |
    | 9 `comes_in`        | until the first of these comes; 0 if none does           | 4         |

    | Entry of `shop`      | Raw value                                               | Reference |
    |----------------------|---------------------------------------------------------|-----------|
    | 0 `candidates`       | jobs that wait for the machine, shown or not            | 20        |
    | 1 `jobs_in_system`   | jobs that were released and are not done                | 40        |
    | 2 `work_per_machine` | planned work of their operations that are not done      | 40        |
    | 3 `share_up`         | share of machines that are not broken                   | 1         |
    | 4 `horizon`          | time that the jobs in the shop need at least, by plan   | 40        |
    | 5 `work_share`       | `work_per_machine` per horizon                          | 1         |
    | 6 `load`             | of the machine that chooses                             | 20        |
    | 7 `load_share`       | the same per horizon                                    | 1         |
    | 8 `comes`            | of the machine that chooses                             | 1         |
    | 9 `comes_in`         | of the machine that chooses                             | 4         |

    The horizon is the longest job's work or the busiest machine's, whichever is more. Until a
    machine is free or a job comes is what is planned; if a machine is down, plus the mean time of a
    repair.

    After the last decision everything is 0 but `action_mask`, which stays as it was.

    ## Rewards

    Minus the growth, since the last decision, of the objective, in mean planned durations:

    - `objective="makespan"` (default): of the time. The undiscounted return is minus the time from
      the first decision until the last job is done.
    - `objective="flow"`: of the total time that jobs have spent in the system.
    - `objective="tardiness"`: of the total time that jobs are late, which grows from the moment at
      which a job becomes late. Jobs weigh the same.

    ## Starting State

    The first moment at which there is a choice. Each reset draws durations (uniform from 1 to 99,
    as Taillard's), orders of machines, arrivals, true durations and breakdowns from the
    environment's generator, and all of it anew if there never is a choice. `options` replaces what
    is drawn: `"shop"` by a given
    `makespan.traces.jobshop.JobShop`, with its release and due dates, whose operations may have a
    choice of machines. Its breakdowns and true durations are drawn as configured.

    ## Episode End

    Terminated when all jobs are done. Truncated by gymnasium after 1,000,000 decisions.

    ## Arguments

    ```python
    gymnasium.make("makespan/DynamicJobShop-v0", utilisation=0.9, objective="tardiness")
    ```

    | Argument         | Default      | Meaning                                                    |
    |------------------|--------------|------------------------------------------------------------|
    | `jobs`           | 20           | jobs per episode                                           |
    | `machines`       | 10           | machines, each of which every job visits once              |
    | `utilisation`    | 0.0          | load of the machines by arriving jobs; 0: all at the start |
    | `availability`   | 0.9          | share of its time that a machine is up                     |
    | `mean_repair`    | 2.0          | mean time of a repair, in mean durations                   |
    | `after_repair`   | `"resume"`   | interrupted operations go on, or begin anew (`"repeat"`)   |
    | `spread`         | 0.2          | coefficient of variation of true durations (lognormal)     |
    | `tightness`      | 2.0          | due dates, as a multiple of a job's work; 0: none          |
    | `objective`      | `"makespan"` | `"makespan"`, `"flow"` or `"tardiness"`                    |
    | `max_candidates` | 20           | rows of `candidate`, and actions                           |
    | `max_machines`   | 10           | rows of `machine`                                          |
    | `render_mode`    | None         | `"rgb_array"` (a Gantt chart) or `"ansi"` (a table)        |

    Raises `ValueError` for an argument out of range, a shop with too many machines, and a reset to
    a given shop in which there never is a choice, or if there is none in 1000 that are drawn.

    ## Version History

    * v0: initial version
    """

    options: ClassVar[dict[str, type]] = {"shop": JobShop}

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        EzPickle.__init__(self, render_mode, **settings)
        super().__init__(render_mode)
        self.config = config = DynamicEpisode(**settings)
        self.encoder = Encoder(config.max_candidates, config.max_machines)
        self.observation_space = observation_space(config.max_candidates, config.max_machines)
        self.action_space = spaces.Discrete(config.max_candidates)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> DynamicJobShop:
        """A shop as configured, or as given in `options`."""
        jobs, chance = seed.spawn(2)
        shop = options["shop"] if "shop" in options else self.config.shop(jobs)
        run = DynamicJobShop(shop, self.config.conditions(shop), whole_number(chance))
        self._cost = _objective(run, self.config.objective)
        return run

    def score(self) -> float:
        return -self._cost() / self.simulation.mean_duration

    def encode(self, decision: DispatchDecision) -> dict[str, np.ndarray]:
        return self.encoder.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self.encoder.padding(self.mask)

    def legal(self, decision: DispatchDecision) -> np.ndarray:
        return self.encoder.mask(decision)

    def answer(self, decision: DispatchDecision, action: int) -> int:
        return self.encoder.answer(decision, action)

    def fallback(self, decision: DispatchDecision) -> int:
        return int(decision.ready.argmin())

    def render(self) -> np.ndarray | str | None:
        """The shop as the pending decision finds it, in the `render_mode`."""
        from makespan.envs.jobshop.dynamic import render

        if self.render_mode == "rgb_array":
            return render.picture(self.simulation, self.decision)
        if self.render_mode == "ansi":
            return render.table(self.simulation, self.decision)
        return None
