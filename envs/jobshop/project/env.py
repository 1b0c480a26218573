"""`makespan/RCPSP-v0`: which task of a project with scarce resources begins next?"""

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.envs.core.environment import SchedulingEnv
from makespan.envs.jobshop.project.episode import EpisodeConfig
from makespan.envs.jobshop.project.observation import (
    LIMIT,
    RESOURCE_FIELDS,
    TASK_FIELDS,
    Encoder,
    Rows,
)
from makespan.envs.jobshop.project.simulation import ProjectRun, TaskDecision
from makespan.traces.jobshop.project import Project


def observation_space(rows: Rows) -> spaces.Space[Any]:
    """The space of what `Encoder.encode` returns."""

    def box(low: float, high: float, *shape: int) -> spaces.Space[Any]:
        return spaces.Box(low, high, shape, np.float32)

    def edges(count: int) -> spaces.Space[Any]:
        return spaces.Box(0, max(rows.tasks - 1, 1), (2, count), np.int64)

    return spaces.Dict(
        {
            "action_mask": box(0, 1, rows.tasks + 1),
            "arcs": edges(rows.arcs),
            "arcs_mask": box(0, 1, rows.arcs),
            "demand": box(0, 1, rows.tasks, rows.resources),
            "pairs": edges(rows.pairs),
            "pairs_mask": box(0, 1, rows.pairs),
            "resource": box(-LIMIT, LIMIT, rows.resources, len(RESOURCE_FIELDS)),
            "resource_mask": box(0, 1, rows.resources),
            "task": box(-LIMIT, LIMIT, rows.tasks, len(TASK_FIELDS)),
            "task_mask": box(0, 1, rows.tasks),
        }
    )


class ProjectEnv(SchedulingEnv[ProjectRun, TaskDecision, dict[str, np.ndarray]], EzPickle):
    """
    ## Description

    A project has tasks that wait for each other and share resources (RCPSP); some resources may be
    down for a time, and some tasks must not be under way at once. Time goes on, and whenever tasks
    can begin the agent says which one does, or that it waits until something happens
    (`makespan.envs.jobshop.project.simulation`). Everything is known beforehand. Without waiting
    the schedules are those of the parallel way (`makespan.envs.jobshop.projects`), among which the
    shortest need not be; with waiting it is.

    ## Action Space

    `Discrete(max_tasks + 1)`:

    | Action               | Meaning                                                             |
    |----------------------|---------------------------------------------------------------------|
    | 0 to `max_tasks` - 1 | that task begins now                                                |
    | `max_tasks`          | nothing more begins until a task ends, is released, or a resource   |
    |                      | is up again                                                         |

    Tasks that cannot begin now are masked, and so is waiting when nothing would happen. The mask is
    in `info["action_mask"]` (int8), `action_masks()` (bool) and the observation; there is always a
    legal action. After a masked action the first task that can begins, and `info["illegal"]` is
    True.

    ## Observation Space

    A `Dict`; T, R, A, P are `max_tasks`, `max_resources`, `max_arcs`, `max_pairs`; float32 but for
    `arcs` and `pairs`, which are int64; all padding is 0:

    | Key             | Shape    | Range     | Content                                             |
    |-----------------|----------|-----------|-----------------------------------------------------|
    | `task`          | (T, 12)  | [-10, 10] | one row per task, see below                         |
    | `task_mask`     | (T,)     | {0, 1}    | 1 where there is a task                             |
    | `demand`        | (T, R)   | [0, 1]    | share of each resource that a task takes            |
    | `resource`      | (R, 5)   | [-10, 10] | one row per resource                                |
    | `resource_mask` | (R,)     | {0, 1}    | 1 where there is a resource                         |
    | `arcs`          | (2, A)   | tasks     | the first has to end before the second begins       |
    | `arcs_mask`     | (A,)     | {0, 1}    | 1 where there is such a pair                        |
    | `pairs`         | (2, P)   | tasks     | must not be under way at once                       |
    | `pairs_mask`    | (P,)     | {0, 1}    | 1 where there is such a pair                        |
    | `action_mask`   | (T + 1,) | {0, 1}    | 1 where an action is legal                          |

    Times are in units of the critical path (`Project.critical_path`, at least 1), and cut to the
    range.

    | Column of `task`  | Content                                                               |
    |-------------------|-----------------------------------------------------------------------|
    | 0 `duration`      | of the task                                                           |
    | 1 `slack`         | latest less earliest start, without limits to resources               |
    | 2 `latest_start`  | time until it would have to begin for the critical path, or a deadline|
    | 3 `released_in`   | time until its release                                                |
    | 4 `deadline_in`   | time until its deadline; 0 without one                                |
    | 5 `has_deadline`  | 1 if it has one                                                       |
    | 6 `waits_for`     | tasks right before it that have not ended, divided by 10              |
    | 7 `successors`    | share of all tasks that wait for it, directly or not                  |
    | 8 `ends_in`       | time until it ends, if it is under way                                |
    | 9 `startable`     | 1 if it can begin now                                                 |
    | 10 `running`      | 1 if it is under way                                                  |
    | 11 `ended`        | 1 if it has ended                                                     |

    | Column of `resource` | Content                                                            |
    |----------------------|--------------------------------------------------------------------|
    | 0 `free`             | share that there is now                                            |
    | 1 `load`             | time for which all of it would be taken by what is left to do      |
    | 2 `down`             | 1 if there is none now                                             |
    | 3 `changes_in`       | time until the next downtime begins or ends                        |
    | 4 `changes`          | 1 if there is such a moment                                        |

    After the last decision everything is 0 but `action_mask`, which stays as it was.

    ## Rewards

    Minus the growth, since the last decision, of the latest end of the tasks that have begun, in
    units of the critical path (at least 1). The undiscounted return is minus the makespan in these
    units: -1 or less where there is a critical path. Deadlines cost nothing; the column `late` of
    the simulation's `log` has who missed one.

    ## Starting State

    Nothing has begun. Each reset draws a project (`makespan.traces.jobshop.layered`) from the
    environment's generator, and another one if so many precedences do not fit;
    `options={"project": ...}` takes a given `makespan.traces.jobshop.project.Project` for which
    there is room.

    ## Episode End

    Terminated when all tasks have ended. Truncated by gymnasium after 1,000,000 decisions.

    ## Arguments

    ```python
    gymnasium.make("makespan/RCPSP-v0", tasks=[20, 40], level=30, downtime=0.5)
    ```

    | Argument        | Default | Meaning                                                        |
    |-----------------|---------|----------------------------------------------------------------|
    | `tasks`         | 30      | number of tasks, or a range `[low, high]` to draw from         |
    | `level`         | 40      | number of precedences, or a range                              |
    | `layers`        | 5       | of tasks; precedences go from one to a later one               |
    | `resources`     | 3       | number of resources                                            |
    | `downtime`      | 0.0     | probability that a resource is down once                       |
    | `pairs`         | 0.0     | probability that a task excludes another                       |
    | `max_tasks`     | 0       | rows of tasks; 0: as many as there are at most                 |
    | `max_resources` | 0       | rows of resources; 0: likewise                                 |
    | `max_arcs`      | 0       | columns of arcs; 0: likewise                                   |
    | `max_pairs`     | 0       | columns of pairs; 0: likewise                                  |
    | `render_mode`   | None    | `"rgb_array"` (a Gantt chart) or `"ansi"` (a few lines)        |

    Raises `ValueError` for an argument out of range.

    ## Version History

    * v0: initial version
    """

    options: ClassVar[dict[str, type]] = {"project": Project}

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        EzPickle.__init__(self, render_mode, **settings)
        super().__init__(render_mode)
        self.config = EpisodeConfig(**settings)
        self.encoder = Encoder(self.config.rows)
        self.observation_space = observation_space(self.config.rows)
        self.action_space = spaces.Discrete(self.config.rows.tasks + 1)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> ProjectRun:
        """A project as configured, or as given in `options`."""
        project = options["project"] if "project" in options else self.config.draw(seed)
        self._bound = max(project.critical_path(), 1)
        return ProjectRun(project)

    def score(self) -> float:
        return -self.simulation.makespan / self._bound

    def encode(self, decision: TaskDecision) -> dict[str, np.ndarray]:
        return self.encoder.encode(decision)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self.encoder.padding(self.mask)

    def legal(self, decision: TaskDecision) -> np.ndarray:
        return self.encoder.mask(decision)

    def answer(self, decision: TaskDecision, action: int) -> int:
        return self.encoder.answer(decision, action)

    def render(self) -> np.ndarray | str | None:
        """The project as the pending decision finds it, in the `render_mode`."""
        from makespan.envs.jobshop.project import render

        if self.render_mode == "rgb_array":
            return render.picture(self.simulation, self.decision)
        if self.render_mode == "ansi":
            return render.table(self.simulation, self.decision)
        return None
