"""`makespan/SingleMachine-v0`: which job one machine works on next."""

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.envs.core.environment import SchedulingEnv
from makespan.envs.jobshop.single.decision import MachineDecision, Service
from makespan.envs.jobshop.single.episode import EpisodeConfig
from makespan.envs.jobshop.single.observation import JOB_COLUMNS, LIMIT, TYPE_COLUMNS, Encoder
from makespan.envs.jobshop.single.simulator import SingleMachine
from makespan.traces.jobshop.single_machine import MachineJobs


def observation_space(jobs: int, types: int) -> spaces.Space[Any]:
    """The space of what `Encoder.encode` returns."""

    def box(low: float, high: float, *shape: int) -> spaces.Box:
        return spaces.Box(low, high, shape, np.float32)

    return spaces.Dict(
        {
            "action_mask": box(0, 1, jobs),
            "job": box(-LIMIT, LIMIT, jobs, len(JOB_COLUMNS)),
            "job_type": box(0, 1, jobs, types),
            "type": box(0, LIMIT, types, len(TYPE_COLUMNS)),
        }
    )


class SingleMachineEnv(
    SchedulingEnv[SingleMachine, MachineDecision, dict[str, np.ndarray]], EzPickle
):
    """
    ## Description

    One machine does jobs of several types. Sizes of a type are exponential around a mean that is
    not known, so an agent has to learn within the episode which type is shorter while it does the
    jobs (On Preemption and Learning in Stochastic Scheduling, ICML 2023). Jobs may come over time,
    and may have operations whose sizes are revealed one by one (arXiv 2602.12716). With
    `objective="tardiness"` sizes are whole numbers, and jobs have due dates (arXiv 2510.24013).

    ## Action Space

    `Discrete(types * jobs)`: the job to work on. Jobs that are not there yet or are finished are
    masked. The mask is in `info["action_mask"]` (int8), `action_masks()` (bool) and the
    observation; there is always a legal action. For a masked action, the first job that is there is
    taken, and `info["illegal"]` is True.

    A decision is due when an operation ends. With `preemptive`, one is also due when a job comes,
    and `review` after the last decision, if there is a review; preemption costs nothing. The
    machine waits only when there is no job.

    ## Observation Space

    A `Dict` of float32 arrays, J = `types * jobs`, K = `types`:

    | Key           | Shape  | Range     | Content                             | Padding |
    |---------------|--------|-----------|-------------------------------------|---------|
    | `job`         | (J, 8) | [-20, 20] | one row per job, see below          | 0       |
    | `job_type`    | (J, K) | {0, 1}    | 1 in the column of the job's type   | 0       |
    | `type`        | (K, 5) | [0, 20]   | one row per type, see below         | 0       |
    | `action_mask` | (J,)   | {0, 1}    | 1 where a job is there              | 0       |

    A raw value x is shown as sign(x) * log1p(|x|), cut to the range. Times are in the unit of
    sizes. Jobs that are not there, or are finished, are rows of zeros.

    | Column of `job`     | Raw value                                                       |
    |---------------------|-----------------------------------------------------------------|
    | 0 `waited`          | time since the job came                                         |
    | 1 `received`        | time that it had of the machine                                 |
    | 2 `operation_left`  | what its present operation still needs; 0 if that is not known  |
    | 3 `operation_known` | 1 if it is known                                                |
    | 4 `job_left`        | what the job still needs; 0 if that is not known                |
    | 5 `job_known`       | 1 if it is known                                                |
    | 6 `slack`           | time until its due date, negative after it; 0 if it has none    |
    | 7 `has_due`         | 1 if it has one                                                 |

    | Column of `type` | Raw value                                             |
    |------------------|-------------------------------------------------------|
    | 0 `there`        | jobs that are there                                   |
    | 1 `to_come`      | jobs that are not there yet                           |
    | 2 `finished`     | jobs that are finished                                |
    | 3 `work`         | sum of the sizes of those                             |
    | 4 `mean`         | their mean size; 0 if there are none                  |

    After the last decision everything is 0 but `action_mask`, which stays as it was.

    ## Rewards

    - `objective="flow"` (default): minus the growth, since the last decision, of the total time
      that jobs have been there. The undiscounted return is minus the total flow time.
    - `objective="tardiness"`: minus the time by which jobs that ended since the last decision were
      late. The undiscounted return is minus the total tardiness.

    ## Starting State

    The first job has come; with `rate=0` all of them have. Each reset draws the mean of each type
    from `means`, uniform in its logarithm, and then sizes and releases; with
    `objective="tardiness"`, one of the 20 classes of the generator
    (`makespan.traces.jobshop.tardiness`), sizes and due dates. `options={"jobs": ...}` gives a
    `makespan.traces.jobshop.single_machine.MachineJobs` instead, with at most as many jobs and
    types.

    ## Episode End

    Terminated when all jobs are finished. Truncated by gymnasium after 1,000,000 decisions.

    ## Arguments

    ```python
    gymnasium.make("makespan/SingleMachine-v0", types=3, jobs=20, preemptive=True, review=0.1)
    ```

    | Argument      | Default      | Meaning                                                       |
    |---------------|--------------|---------------------------------------------------------------|
    | `types`       | 2            | number of types                                               |
    | `jobs`        | 10           | jobs of each type                                             |
    | `means`       | (0.1, 1.0)   | range of the mean sizes of types                              |
    | `operations`  | 1            | of each job                                                   |
    | `rate`        | 0.0          | jobs that come per unit of time; 0: all are there at once     |
    | `reveals`     | `"nothing"`  | what is known of sizes: also `"operation"`, `"job"`           |
    | `preemptive`  | False        | whether operations can be interrupted                         |
    | `review`      | 0.0          | time after which it is decided again; 0: no review            |
    | `objective`   | `"flow"`     | `"flow"` or `"tardiness"`                                     |
    | `render_mode` | None         | `"ansi"` (a table)                                            |

    Raises `ValueError` for an argument out of range.

    ## Version History

    * v0: initial version
    """

    options: ClassVar[dict[str, type]] = {"jobs": MachineJobs}

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        EzPickle.__init__(self, render_mode, **settings)
        super().__init__(render_mode)
        self.config = EpisodeConfig(**settings)
        self.encoder = Encoder(self.config.rows, self.config.types)
        self.observation_space = observation_space(self.config.rows, self.config.types)
        self.action_space = spaces.Discrete(self.config.rows)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> SingleMachine:
        """A machine, and jobs that are drawn or given in `options`."""
        jobs = options["jobs"] if options else self.config.draw(seed)
        rows, types = self.config.rows, self.config.types
        if jobs.jobs > rows or jobs.types > types:
            raise ValueError(f"options['jobs'] must be at most {rows} jobs of {types} types")
        return SingleMachine(jobs, self.config.reveals, self.config.preemptive)

    def score(self) -> float:
        if self.config.objective == "flow":
            return -self.simulation.flow_time()
        return -self.simulation.tardiness()

    def encode(self, decision: MachineDecision) -> dict[str, np.ndarray]:
        return self.encoder.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self.encoder.padding(self.mask)

    def legal(self, decision: MachineDecision) -> np.ndarray:
        return self.encoder.mask(decision)

    def answer(self, decision: MachineDecision, action: int) -> Any:
        return Service((action,), self.config.review) if self.config.review else action

    def fallback(self, decision: MachineDecision) -> Any:
        return self.answer(decision, super().fallback(decision))

    def render(self) -> str | None:
        """The jobs that are there, one per line, if `render_mode` is "ansi"."""
        if self.render_mode != "ansi":
            return None
        if self.decision is None:
            return f"{self.simulation.clock.now:.3f}: all jobs are finished"
        return _table(self.decision)


def _table(decision: MachineDecision) -> str:
    lines = [f"{decision.time:.3f}: job, type, received, left (nan: not known), due"]
    for job in np.flatnonzero(decision.action_mask).tolist():
        times = (decision.received[job], decision.job_left[job], decision.due[job])
        lines.append(f"{job:4d} {decision.type[job]:4d} " + " ".join(f"{t:9.3f}" for t in times))
    return "\n".join(lines)
