"""`makespan/JobShopImprove-v0`: make a schedule of a job shop shorter, swap by swap."""

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.envs.core.environment import DRAWS, SchedulingEnv
from makespan.envs.jobshop.improve.episode import EpisodeConfig, first_schedule
from makespan.envs.jobshop.improve.observation import LIMIT, Encoder
from makespan.envs.jobshop.improve.search import LocalSearch, SwapDecision
from makespan.traces.jobshop.instance import JobShop


def observation_space(encoder: Encoder) -> spaces.Space[Any]:
    """The space of what `Encoder.encode` returns."""
    high = {"move": LIMIT, "operation": LIMIT, "search": LIMIT}
    high |= {"job_arcs": encoder.rows, "machine_arcs": encoder.rows}
    most = max(encoder.rows, encoder.max_moves)
    high |= {"move_first": most, "move_second": most}
    low = {"move": -LIMIT}
    entries = encoder.padding(np.zeros(encoder.max_moves, np.bool_))
    return spaces.Dict(
        {
            name: spaces.Box(low.get(name, 0), high.get(name, 1), entry.shape, np.float32)
            for name, entry in entries.items()
        }
    )


class JobShopImproveEnv(SchedulingEnv[LocalSearch, SwapDecision, dict[str, np.ndarray]], EzPickle):
    """
    ## Description

    A job shop has a complete schedule, made by a rule. At every step two operations that follow
    each other on a machine and on a critical path change places, and everything then begins as
    early as the new order permits. The agent looks for a schedule that is as short as can be; on
    the way there it may have to pass through longer ones. This is the task of L2S (Zhang et al.,
    Deep reinforcement learning guided improvement heuristic for job shop scheduling, ICLR 2024).

    ## Action Space

    `Discrete(max_moves)`: which of the listed pairs changes places. These are the moves N5 of
    Nowicki and Smutnicki (1996) on one critical path, along it: the first two and the last two
    operations of every block of operations on one machine, of the first block only the last two,
    and of the last only the first two (`makespan.envs.jobshop.critical`). Of several critical paths
    a random one is taken.

    Numbers without a pair are masked, and so is the pair that would undo the last swap, unless it
    is the only one (a tabu list of size 1). If there are more than `max_moves` pairs, those further
    along the path are left out. The mask is in `info["action_mask"]` (int8), `action_masks()`
    (bool) and the observation; there is always a legal action. In place of a masked action the
    first legal one is carried out, and `info["illegal"]` is True.

    ## Observation Space

    A `Dict` of float32 arrays, N = `max_operations`, M = `max_moves`. Operations are numbered
    through all jobs, and an arc stands in the column of the operation that it leads from:

    | Key                | Shape  | Range     | Content                                          |
    |--------------------|--------|-----------|--------------------------------------------------|
    | `operation`        | (N, 4) | [0, 10]   | one row per operation, see below                 |
    | `operation_mask`   | (N,)   | {0, 1}    | 1 where an operation exists                      |
    | `job_arcs`         | (2, N) | [0, N]    | an operation, and the next one of its job        |
    | `job_arc_mask`     | (N,)   | {0, 1}    | 1 where there is a next one                      |
    | `machine_arcs`     | (2, N) | [0, N]    | an operation, and the next one on its machine    |
    | `machine_arc_mask` | (N,)   | {0, 1}    | 1 where there is a next one                      |
    | `move`             | (M, 5) | [-10, 10] | one row per pair, see below                      |
    | `move_first`       | (2, M) | [0, max]  | of a pair the operation in front, and the pair   |
    | `move_second`      | (2, M) | [0, max]  | of a pair the operation behind, and the pair     |
    | `move_mask`        | (M,)   | {0, 1}    | 1 where a pair exists, tabu or not               |
    | `search`           | (4,)   | [0, 10]   | the search so far                                |
    | `action_mask`      | (M,)   | {0, 1}    | 1 where an action is legal                       |

    Padding is 0 everywhere. The upper bound of `move_first` and `move_second` is the greater of N
    and M. Times are shares of the makespan at the start, cut to the range:

    | Column of `operation` | Meaning                                                             |
    |-----------------------|---------------------------------------------------------------------|
    | 0 `duration`          | its duration, as a share of the longest in the shop                 |
    | 1 `earliest_start`    | when it begins                                                      |
    | 2 `latest_start`      | when it could begin with the makespan staying what it is            |
    | 3 `on_path`           | 1 on the critical path that the pairs are from                      |

    | Column of `move`      | Meaning                                                             |
    |-----------------------|---------------------------------------------------------------------|
    | 0 `change`            | estimate of the change of the makespan, never above it              |
    | 1 `is_first_pair`     | 1 if these are the first two of a block; they may also be the last  |
    | 2 `tabu`              | 1 if it would undo the last swap and others are there               |
    | 3 `recency`           | exp(-k / 10) if the two changed places last k steps ago; 0 if never |
    | 4 `times`             | log(1 + k) if they did k times                                      |

    | Entry of `search`     | Meaning                                                             |
    |-----------------------|---------------------------------------------------------------------|
    | 0 `makespan`          | of the schedule                                                     |
    | 1 `best`              | the shortest so far                                                 |
    | 2 `left`              | share of the steps that is left                                     |
    | 3 `idle`              | steps since the shortest was found, in hundreds                     |

    The change is that of the longest path through either of the two. After the last decision
    everything is 0 but `action_mask`, which stays as it was.

    ## Rewards

    By how much the shortest makespan so far became shorter in this step, in the instance's unit of
    time; 0 if it did not. The undiscounted return is the makespan at the start less the best.

    ## Starting State

    A random shop: every job visits every machine once, in a random order, and durations are uniform
    from 1 to 99 (as Taillard's); another is drawn if the rule's schedule is optimal. The rule takes
    of all jobs' next operations the one with the least flow due date per work remaining (FDD/MWKR),
    and puts it into the first gap that is long enough. `options={"shop": ...}` replaces the shop by
    a given `makespan.traces.jobshop.JobShop`, with `max_operations` operations at most.

    ## Episode End

    Terminated after `steps` steps, or when there is no pair: then the path is one job or one
    machine's work, and no schedule is shorter, if jobs visit no machine twice and operations take
    time. `info["time"]` counts steps. Raises `ValueError` at the reset if the first schedule of a
    given shop leaves no pair.

    ## Arguments

    ```python
    gymnasium.make("makespan/JobShopImprove-v0", jobs=[10, 20], machines=10, steps=1000)
    ```

    | Argument         | Default | Meaning                                                         |
    |------------------|---------|-----------------------------------------------------------------|
    | `jobs`           | 15      | of random shops; a number, or a range `[low, high]` to draw     |
    | `machines`       | 15      | the same                                                        |
    | `instance`       | `""`    | a published one instead, such as `"ta01"`                       |
    | `steps`          | 500     | of an episode                                                   |
    | `max_operations` | 0       | rows of the observation; 0: as many as the above can ask for    |
    | `max_moves`      | 32      | pairs that can be chosen from                                   |
    | `render_mode`    | None    | `"ansi"` (the orders of the machines, as text)                  |

    Raises `ValueError` for an argument out of range.

    ## Version History

    * v0: initial version
    """

    options: ClassVar[dict[str, type]] = {"shop": JobShop}

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        EzPickle.__init__(self, render_mode, **settings)
        super().__init__(render_mode)
        self.config = EpisodeConfig(**settings)
        self.encoder = Encoder(self.config.rows, self.config.max_moves)
        self.observation_space = observation_space(self.encoder)
        self.action_space = spaces.Discrete(self.config.max_moves)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> LocalSearch:
        """A search in a shop as configured, or in that of `options`.

        Other random shops are drawn here, not by `reset`: training begins searches without it.
        """
        shops, paths = (np.random.default_rng(stream) for stream in seed.spawn(2))
        for _ in range(1 if options or self.config.instance else DRAWS):
            shop = options["shop"] if options else self.config.shop(shops)
            search = LocalSearch(first_schedule(shop), self.config.steps, paths)
            if search.next_decision() is not None:
                return search
        raise ValueError("nothing to decide: the rule's schedule leaves no swap")

    def score(self) -> float:
        return -float(self.simulation.best.makespan)

    def encode(self, decision: SwapDecision) -> dict[str, np.ndarray]:
        return self.encoder.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self.encoder.padding(self.mask)

    def legal(self, decision: SwapDecision) -> np.ndarray:
        return self.encoder.mask(decision)

    def render(self) -> str | None:
        """The order of the jobs on each machine, in the `render_mode`."""
        if self.render_mode != "ansi":
            return None
        search, selection = self.simulation, self.simulation.selection
        lines = [
            f"step {search.clock.now}: makespan {selection.makespan}, best {search.best.makespan}"
        ]
        for machine, sequence in enumerate(selection.sequences):
            jobs = " ".join(str(selection.shop.job[operation]) for operation in sequence)
            lines.append(f"machine {machine}: {jobs}")
        return "\n".join(lines)
