"""`makespan/LLMRouter-v0`: route requests to the replicas of an LLM serving fleet."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.random import SeedSequence

from makespan.envs.core.environment import SchedulingEnv
from makespan.envs.llm.config import FleetConfig
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.episode import EpisodeConfig, whole_number
from makespan.envs.llm.fleet import Fleet
from makespan.envs.llm.observation import LIMIT, REPLICA_FIELDS, REQUEST_FIELDS, Encoder
from makespan.envs.llm.slo import GoodputCounter
from makespan.traces.workload import Workload


def observation_space(max_replicas: int, hold: bool) -> spaces.Space[Any]:
    """The space of what `Encoder.encode` returns."""

    def box(low: float, high: float, *shape: int) -> spaces.Box:
        return spaces.Box(low, high, shape, np.float32)

    return spaces.Dict(
        {
            "action_mask": box(0, 1, max_replicas + hold),
            "replica": box(0, LIMIT, max_replicas, len(REPLICA_FIELDS)),
            "replica_mask": box(0, 1, max_replicas),
            "request": box(-LIMIT, LIMIT, len(REQUEST_FIELDS)),
        }
    )


def _objective(fleet: Fleet, reward: str) -> Callable[[], float]:
    """What gives the score so far, of which `reward` is the growth."""
    if reward == "goodput":
        counter = GoodputCounter(fleet)
        return lambda: float(counter.count())
    return lambda: -fleet.latency_s()


class LLMRouterEnv(SchedulingEnv[Fleet, RoutingDecision, dict[str, np.ndarray]], EzPickle):
    """
    ## Description

    A fleet of vLLM engines serves a stream of requests. Each request is sent to one replica when it
    arrives and stays there. The agent is the router: it sees its own accounting of what it sent and
    what streamed back, gauges that are polled and stale, and a guess at the length of the answer,
    all of it known to a real proxy as well (`makespan.envs.llm.decision`). Between two decisions
    the fleet is simulated (`makespan.envs.llm.fleet`): batching, chunked prefill, KV blocks, prefix
    caching and preemption follow vLLM, step times are those of the named hardware.

    ## Action Space

    `Discrete(max_replicas)`, or `Discrete(max_replicas + 1)` with `hold`:

    | Action                     | Meaning                                                      |
    |----------------------------|--------------------------------------------------------------|
    | 0 to `max_replicas` - 1    | send the request to that replica                             |
    | `max_replicas` (if `hold`) | keep it in the router until something finishes or recovers   |

    Replicas that do not exist or are down are masked, and so is holding when there is nothing to
    wait for. The mask is in `info["action_mask"]` (int8), `action_masks()` (bool) and the
    observation; there is always a legal action. A masked action sends the request to the healthy
    replica with the fewest requests in flight (or holds, if none is healthy), and
    `info["illegal"]` is True.

    ## Observation Space

    A `Dict` of float32 arrays, R = `max_replicas`:

    | Key            | Shape            | Range     | Content                           | Padding |
    |----------------|------------------|-----------|-----------------------------------|---------|
    | `replica`      | (R, 16)          | [0, 10]   | one row per replica, see below    | 0       |
    | `replica_mask` | (R,)             | {0, 1}    | 1 where a replica exists          | 0       |
    | `request`      | (6,)             | [-10, 10] | the request to be routed          |         |
    | `action_mask`  | (R,) or (R + 1,) | {0, 1}    | 1 where an action is legal        | 0       |

    A raw value x is shown as sign(x) * log1p(|x|) / log1p(reference), cut to the range; what is
    unknown is shown as 0.

    | Column of `replica` | Raw value                                                | Reference |
    |---------------------|----------------------------------------------------------|-----------|
    | 0 `requests`        | requests in flight, by the router's count                | 256       |
    | 1 `prefill_tokens`  | uncached prompt tokens in flight without a first token   | 65,536    |
    | 2 `decoding`        | requests in flight that are streaming                    | 256       |
    | 3 `decode_tokens`   | prompt and streamed tokens of those                      | 262,144   |
    | 4 `prefix_tokens`   | tokens of this prompt expected in the replica's cache    | 8,192     |
    | 5 `uncached_tokens` | tokens of this prompt not expected there                 | 8,192     |
    | 6 `kv_load`         | tokens in flight with this prompt, share of the KV cache | 1         |
    | 7 `prefill_s`       | seconds to compute the prefill tokens and this prompt's  | 1         |
    | 8 `running`         | requests in the running batch, polled                    | 256       |
    | 9 `waiting`         | requests in the engine's queue, polled                   | 256       |
    | 10 `kv_usage`       | share of KV blocks in use, polled                        | 1         |
    | 11 `gauge_age_s`    | seconds since the polled values were true                | 10        |
    | 12 `gauge_known`    | 1 if the replica has been polled                         | 1         |
    | 13 `kv_tokens`      | tokens that fit the KV cache                             | 262,144   |
    | 14 `decode_step_s`  | seconds of a decode step of one sequence                 | 0.1       |
    | 15 `prefill_token_s`| seconds per prompt token in a step of 1,024              | 0.001     |

    | Entry of `request`   | Raw value                                               | Reference |
    |----------------------|---------------------------------------------------------|-----------|
    | 0 `prompt_tokens`    | length of the prompt                                    | 8,192     |
    | 1 `predicted_tokens` | predicted length of the answer                          | 2,048     |
    | 2 `prediction_known` | 1 if there is a prediction                              | 1         |
    | 3 `in_session`       | 1 if the request belongs to a conversation              | 1         |
    | 4 `priority`         | as in vLLM, lower is more urgent                        | 10        |
    | 5 `attempt`          | times it was sent to a replica that failed              | 3         |

    After the last decision everything is 0 but `action_mask`, which stays as it was.

    ## Rewards

    - `reward="latency"` (default): minus the growth, since the last decision, of the total time in
      seconds that requests have spent in the system. The undiscounted return is minus the sum of
      end-to-end latencies. A request that fails, or that an engine rejects (its prompt exceeds
      the model's context, say), counts up to then.
    - `reward="goodput"`: the number of requests that finished since the last decision within the
      service level objective: TTFT of at most 1 s plus 62.5 ms per 1,000 prompt tokens, TPOT of at
      most 50 ms (`makespan.envs.llm.slo`). Rejected and failed requests earn nothing.

    ## Starting State

    All replicas are up and empty, and the first request has arrived. Each reset draws the workload
    (of a trace: a window of it), the number of replicas if that is a range, and the noise of gauges
    and predictions, all from the environment's generator. `options` replaces what is drawn:
    `"workload"` by a given `makespan.traces.workload.Workload`, `"fleet"` by a given
    `makespan.envs.llm.config.FleetConfig` (its `can_hold` must equal `hold`).

    ## Episode End

    Terminated when every request has finished, was rejected or failed. Truncated by gymnasium after
    1,000,000 decisions.

    ## Arguments

    ```python
    gymnasium.make("makespan/LLMRouter-v0", replicas=8, hardware=["A100", "H100"], rate=20.0)
    ```

    | Argument       | Default        | Meaning                                                    |
    |----------------|----------------|------------------------------------------------------------|
    | `replicas`     | 4              | number of replicas, or a range `[low, high]` to draw from  |
    | `hardware`     | `"A100"`       | of all replicas, or a list that they take in turn          |
    | `model`        | `""`           | model that is served; empty: Llama-2-7B                    |
    | `workload`     | `"azure_conv"` | name of a synthetic workload, or path of a trace           |
    | `rate`         | 12.0           | requests per second; 0: that of the workload               |
    | `requests`     | 1000           | requests per episode                                       |
    | `max_replicas` | 8              | rows of the observation                                    |
    | `hold`         | False          | whether requests can be held                               |
    | `reward`       | `"latency"`    | `"latency"` or `"goodput"`                                 |
    | `predictor`    | `"bucket"`     | kind of output-length prediction (`PredictorConfig`)       |
    | `outages`      | ()             | `[replica, start_s, duration_s]` of each failure           |
    | `render_mode`  | None           | `"rgb_array"` (a picture) or `"ansi"` (a table)            |

    Raises `ValueError` for an argument out of range.

    ## Version History

    * v0: initial version
    """

    options: ClassVar[dict[str, type]] = {"workload": Workload, "fleet": FleetConfig}

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        EzPickle.__init__(self, render_mode, **settings)
        super().__init__(render_mode)
        self.config = EpisodeConfig(**settings)
        self.encoder = Encoder(self.config.max_replicas, self.config.hold)
        self.observation_space = observation_space(self.config.max_replicas, self.config.hold)
        self.action_space = spaces.Discrete(self.config.max_replicas + self.config.hold)

    def build(self, seed: SeedSequence, options: dict[str, Any]) -> Fleet:
        """A fleet and a workload as configured, or as given in `options`."""
        workload, fleet, noise = seed.spawn(3)
        config = options["fleet"] if "fleet" in options else self.config.fleet(fleet)
        if config.can_hold != self.config.hold:
            raise ValueError(f"options['fleet'].can_hold must be hold, which is {self.config.hold}")
        requests = options["workload"] if "workload" in options else self.config.draw(workload)
        simulation = Fleet(requests, config, whole_number(noise))
        self._objective = _objective(simulation, self.config.reward)
        return simulation

    def score(self) -> float:
        return self._objective()

    def encode(self, decision: RoutingDecision) -> dict[str, np.ndarray]:
        return self.encoder.encode(decision, self.mask)

    def encode_end(self) -> dict[str, np.ndarray]:
        return self.encoder.padding(self.mask)

    def legal(self, decision: RoutingDecision) -> np.ndarray:
        return self.encoder.mask(decision)

    def answer(self, decision: RoutingDecision, action: int) -> int:
        return self.encoder.answer(decision, action)

    def fallback(self, decision: RoutingDecision) -> int:
        return decision.lowest(decision.requests)

    def render(self) -> np.ndarray | str | None:
        """The fleet as the pending decision finds it, in the `render_mode`."""
        from makespan.envs.llm import render

        if self.render_mode == "rgb_array":
            return render.picture(self.simulation, self.decision)
        if self.render_mode == "ansi":
            return render.table(self.simulation, self.decision)
        return None
