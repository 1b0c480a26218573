"""The simulator against a real vLLM on this machine: calibrate it, then predict it.

A server with a tiny model is started and measured (`makespan.experiments.calibrate`). Then three
workloads that the calibration has not seen are replayed against it over HTTP, and the simulator
predicts each from the calibration alone: nothing is fitted to a replay. One workload is replayed
twice with other words in its prompts, which tells how much of a difference is the machine's noise.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.envs.llm.hardware_file import MeasuredHardware
from makespan.experiments.calibrate import Calibration, calibrate, progress_in_seconds
from makespan.experiments.fidelity.recorded_run import LATENCIES, UNITS, latencies
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.scheduler.real_vllm import ABSENT
from makespan.experiments.live.client import Client
from makespan.experiments.live.replay import replay, without_answers
from makespan.experiments.live.tiny_server import serving
from makespan.experiments.scenario import capacity
from makespan.experiments.watching import progress
from makespan.traces.arrivals import MarkovModulated, Poisson
from makespan.traces.lengths import LogNormal
from makespan.traces.synthetic import SyntheticConfig, SystemPromptConfig, generate
from makespan.traces.workload import Workload

CALIBRATION_S = 150.0
PREEMPTIONS = "vllm:num_preemptions_total"

CALIBRATION_SEED = 0
WORKLOAD_SEED = 1
PROMPT_SEEDS = (2, 3)
"""Of the words of the prompts, in the first replay and in the second."""

CAPACITY_REQUESTS = 2000

MEAN_AIM = 0.05
P99_AIM = 0.10
"""For the end-to-end latency; the others are shown."""

LIVE = "vLLM on this machine's CPU, a tiny model with random weights"
NOISE = "the same requests with other words, after the first replay"

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A workload that is replayed.

    Attributes:
        what: what kind it is, in words.
        shape: its requests; the rate is set by `load`.
        load: arrivals over what the engine could serve, as simulated.
        twice: replayed again, for the noise.
    """

    what: str
    shape: SyntheticConfig
    load: float
    twice: bool = False


TRIALS = (
    Trial(
        "steady",
        SyntheticConfig(
            requests=300,
            arrivals=Poisson(),
            prompt=LogNormal(mean=120, median=100, longest=400),
            output=LogNormal(mean=60, median=48, longest=200),
        ),
        load=0.6,
        twice=True,
    ),
    Trial(
        "bursty, shared prefixes",
        SyntheticConfig(
            requests=300,
            arrivals=MarkovModulated(burst=4.0, calm_s=8.0, busy_s=4.0),
            prompt=LogNormal(mean=60, median=50, longest=200),
            output=LogNormal(mean=60, median=48, longest=200),
            system_prompts=SystemPromptConfig(
                count=4, tokens=LogNormal(mean=256, median=224, longest=512)
            ),
        ),
        # A burst, at twice the mean rate, then comes up to what the engine can serve.
        load=0.5,
    ),
    Trial(
        "overloaded, with preemptions",
        SyntheticConfig(
            requests=120,
            arrivals=Poisson(),
            prompt=LogNormal(mean=150, median=130, longest=500),
            output=LogNormal(mean=350, median=320, longest=900),
        ),
        # Far above 1, since the queue multiplies an error of the step time by 1 / (1 - 1 / load).
        load=3.0,
    ),
)


def rows(vllm: Path | None) -> Iterator[Row | Missing]:
    """Start the server, calibrate, replay and compare; the server is stopped in any case.

    Args:
        vllm: the environment that has vLLM.

    Raises:
        ServerError: the server does not start, or refuses something.
        TooFewPointsError: the machine is so slow that the calibration measured too little.
    """
    if vllm is None:
        yield Missing("latencies of a real vLLM, live", LIVE, ABSENT)
        return
    with serving(vllm) as url:
        found = asyncio.run(_rows(url))
    yield from found


async def _rows(url: str) -> list[Row]:
    async with Client(url) as client:
        with progress_in_seconds(CALIBRATION_S) as show:
            found = await calibrate(client, CALIBRATION_S, CALIBRATION_SEED, show)
        return [row for trial in TRIALS for row in await _compare(client, trial, found)]


async def _compare(client: Client, trial: Trial, found: Calibration) -> list[Row]:
    """The rows of one workload: measured, and predicted."""
    fleet = fleet_of(found.hardware)
    workload = workload_of(trial, fleet)
    predicted = predict(workload, fleet, found.outside_s)
    before = await client.metrics()
    measured = await _replay(client, trial.what, workload, PROMPT_SEEDS[0])
    after = await client.metrics()
    rows = latency_rows(trial.what, measured, predicted)
    preempted = after[PREEMPTIONS] - before[PREEMPTIONS]
    ours = float(predicted["preemptions"].sum())
    if preempted or ours:
        rows.append(Row(f"{trial.what}: preemptions", LIVE, preempted, ours, None, "absolute"))
    if trial.twice:
        again = await _replay(client, f"{trial.what}, again", workload, PROMPT_SEEDS[1])
        rows += noise_rows(trial.what, measured, again)
    return rows


def predict(workload: Workload, fleet: FleetConfig, outside_s: float) -> Columns:
    """The simulated log, with what each request spends outside the engine.

    Its way in and out takes every request the same time, so it only shifts what the engine sees.
    """
    log = simulate(Fleet(workload, fleet), lambda decision: 0).log
    late = {name: log[name] + outside_s for name in ("first_token_s", "finish_s")}
    return log | late


def fleet_of(hardware: MeasuredHardware) -> FleetConfig:
    """One engine as it was measured."""
    return FleetConfig((ReplicaConfig(engine=hardware.engine, step_model=hardware.step_time),))


def workload_of(trial: Trial, fleet: FleetConfig) -> Workload:
    """The requests of a trial, at the load that it asks for."""
    many = generate(replace(trial.shape, requests=CAPACITY_REQUESTS), WORKLOAD_SEED)
    rate = trial.load * capacity(without_answers(many), fleet)
    shape = replace(trial.shape, arrivals=trial.shape.arrivals.at_rate(rate))
    return without_answers(generate(shape, WORKLOAD_SEED))


async def _replay(client: Client, what: str, workload: Workload, seed: int) -> Columns:
    with progress() as bars:
        task = bars.add_task(what, total=len(workload))
        return await replay(
            client, workload, seed, lambda answered: bars.update(task, completed=answered)
        )


def latency_rows(what: str, measured: Columns, predicted: Columns) -> list[Row]:
    """Mean of every latency, and the 99th percentile of the end-to-end latency."""
    theirs, ours = _latencies(measured), _latencies(predicted)
    found = [
        Row(
            f"{what}: {LATENCIES[name]}, mean",
            LIVE,
            float(theirs[name].mean()),
            float(ours[name].mean()),
            MEAN_AIM if name == "E2E" else None,
            unit=UNITS[name],
        )
        for name in LATENCIES
    ]
    p99 = [float(np.percentile(each["E2E"], 99)) for each in (theirs, ours)]
    return [*found, Row(f"{what}: {LATENCIES['E2E']}, p99", LIVE, *p99, P99_AIM, unit="s")]


def noise_rows(what: str, first: Columns, second: Columns) -> list[Row]:
    """How far two replays of one workload are apart."""
    one, other = _latencies(first)["E2E"], _latencies(second)["E2E"]
    figures = {
        "mean": (one.mean(), other.mean()),
        "p99": (np.percentile(one, 99), np.percentile(other, 99)),
    }
    return [
        Row(
            f"{what}: noise of {LATENCIES['E2E']}, {name}", NOISE, *map(float, pair), None, unit="s"
        )
        for name, pair in figures.items()
    ]


def _latencies(log: Columns) -> Columns:
    return latencies(log["arrival_s"], log["first_token_s"], log["finish_s"], log["output_tokens"])
