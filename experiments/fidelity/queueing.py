"""An engine made into a queue whose mean wait theory knows.

Where every step takes the same time, prompts have one token and answers a geometric number of them,
an engine of c sequences is a queue with c servers, Poisson arrivals and memoryless service: M/M/c.
"""

import math
from collections.abc import Iterator

import numpy as np

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import EngineConfig, FleetConfig, GaugeConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.envs.llm.step_time import ClosedForm
from makespan.experiments.fidelity.row import Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.workload import Workload

STEP_S = 0.01
CONSTANT = ClosedForm(
    linear=((1000 * STEP_S, 0.0), (0.0, 0.0)),
    decode=(0.0, 0.0, 0.0),
    prefill=(0.0, 0.0, 0.0),
    mixed=None,
    lm_head=(0.0, 0.0),
)
"""Every step takes 10 ms, whatever is in it."""

QUEUES = ((1, 0.5), (1, 0.8), (3, 0.8), (8, 0.8))
"""Servers and utilisation."""

MEAN_TOKENS = 300
REQUESTS = 50_000
WARM_UP = REQUESTS // 10
"""Requests at the start, when the queue is still short, that do not count."""

RUNS = 16
T_99 = 2.947
"""Half a two-sided 99 % confidence interval in standard errors: Student's t, 15 degrees of freedom
(`RUNS` less one)."""


def erlang_wait(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Mean wait in an M/M/c queue, in s, of rates in 1/s (Erlang C)."""
    load = arrival_rate / service_rate
    queued = load**servers / math.factorial(servers) * servers / (servers - load)
    empty = sum(load**k / math.factorial(k) for k in range(servers)) + queued
    return queued / empty / (servers * service_rate - arrival_rate)


def waits(_: Sources) -> Iterator[Row]:
    """Mean waits of M/M/1 and M/M/c queues."""
    for servers, utilisation in QUEUES:
        yield mean_wait(servers, utilisation)


def mean_wait(servers: int, utilisation: float) -> Row:
    """The mean wait of one queue, inside the confidence interval of independent runs.

    An arrival at a busy engine also waits for the step under way, so that one step is allowed for.
    """
    service_rate = 1 / (MEAN_TOKENS * STEP_S)
    rate = utilisation * servers * service_rate
    expected = erlang_wait(rate, service_rate, servers)
    means = [_run(seed, rate, servers) for seed in range(RUNS)]
    error = float(np.std(means, ddof=1)) / math.sqrt(RUNS)
    return Row(
        f"mean wait in an M/M/{servers} queue, {100 * utilisation:.0f} % busy",
        f"queueing theory: Erlang's formula for M/M/c, inside the 99 % interval of {RUNS} runs",
        expected,
        float(np.mean(means)),
        (T_99 * error + STEP_S) / expected,
        "interval",
        "s",
    )


def littles_law(_: Sources) -> Iterator[Row]:
    """Requests inside as arrivals find them, against arrival rate times mean latency.

    Poisson arrivals see what holds on average over time.
    """
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.exponential(0.05, 4000))
    workload = Workload(arrivals, np.full(4000, 50), rng.integers(1, 60, 4000))
    engine = EngineConfig(kv_blocks=1000, max_num_seqs=8, max_num_batched_tokens=64)
    fleet = FleetConfig((ReplicaConfig(engine=engine, step_model=CONSTANT),) * 2)
    inside: list[int] = []

    def fewest_requests(decision):
        inside.append(decision.requests.sum())
        return decision.lowest(decision.requests)

    log = simulate(Fleet(workload, fleet), fewest_requests).log
    latency = float((log["finish_s"] - log["arrival_s"]).mean())
    yield Row(
        "requests inside 2 engines, mean over arrivals",
        "queueing theory: Little's law, arrival rate times mean latency",
        workload.rate * latency,
        float(np.mean(inside)),
        0.05,
    )


def _run(seed: int, rate: float, servers: int) -> float:
    """Mean wait of one run, in s."""
    rng = np.random.default_rng([seed, servers])
    arrivals = np.cumsum(rng.exponential(1 / rate, REQUESTS))
    tokens = rng.geometric(1 / MEAN_TOKENS, REQUESTS)
    engine = EngineConfig(
        max_num_seqs=servers, max_num_batched_tokens=64, kv_blocks=4000, max_model_len=30_000
    )
    replica = ReplicaConfig(engine=engine, step_model=CONSTANT)
    fleet = FleetConfig((replica,), gauges=GaugeConfig(period_s=1e6))
    workload = Workload(arrivals, np.ones(REQUESTS), tokens)
    log = simulate(Fleet(workload, fleet), lambda decision: 0).log
    wait = log["first_token_s"] - log["arrival_s"] - STEP_S
    return float(wait[WARM_UP:].mean())
