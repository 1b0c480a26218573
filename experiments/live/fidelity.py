"""The simulator against a real vLLM on this machine: calibrate it, then predict it.

A server with a tiny model is started and measured (`makespan.experiments.calibrate`). Then three
workloads that the calibration has not seen are replayed against it over HTTP, and the simulator
predicts each from the calibration alone: nothing is fitted to a replay. Every workload is replayed
twice, minutes apart and with other words in its prompts: the prediction is held against both
together, and how far they are from each other is the machine's noise.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
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
"""Of the words of the prompts, in each replay."""

CAPACITY_REQUESTS = 2000

MEAN_AIM = 0.05
P99_AIM = 0.10
"""For the end-to-end latency; the others are shown."""

LIVE = "vLLM on this machine's CPU, a tiny model with random weights"
NOISE = "the first of two replays of the same requests, held against the second"

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A workload that is replayed.

    Attributes:
        what: what kind it is, in words.
        shape: its requests; the rate is set by `load`.
        load: arrivals over what the engine could serve, as simulated.
    """

    what: str
    shape: SyntheticConfig
    load: float


@dataclass(frozen=True)
class Replay:
    """What a replay gave.

    Attributes:
        latencies: by name, see `recorded_run.latencies`.
        preemptions: how many there were.
    """

    latencies: Columns
    preemptions: float


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
        return await compare(client, found, TRIALS)


async def compare(client: Client, found: Calibration, trials: Sequence[Trial]) -> list[Row]:
    """Replay all trials, then all of them again; the rows of each."""
    fleet = fleet_of(found.hardware)
    workloads = [workload_of(trial, fleet) for trial in trials]
    passes = [
        [
            await _replay(client, trial.what, workload, seed)
            for trial, workload in zip(trials, workloads, strict=True)
        ]
        for seed in PROMPT_SEEDS
    ]
    rows: list[Row] = []
    for trial, workload, *replays in zip(trials, workloads, *passes, strict=True):
        predicted = predict(workload, fleet, found.outside_s)
        rows += latency_rows(trial.what, replays, predicted)
        rows += preemption_rows(trial.what, replays, predicted)
        rows += noise_rows(trial.what, *replays)
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


async def _replay(client: Client, what: str, workload: Workload, seed: int) -> Replay:
    before = await client.metrics()
    with progress() as bars:
        task = bars.add_task(what, total=len(workload))
        log = await replay(
            client, workload, seed, lambda answered: bars.update(task, completed=answered)
        )
    after = await client.metrics()
    return Replay(_latencies(log), after[PREEMPTIONS] - before[PREEMPTIONS])


def latency_rows(what: str, replays: Sequence[Replay], predicted: Columns) -> list[Row]:
    """Mean of every latency, and the 99th percentile of the end-to-end latency."""
    ours = _latencies(predicted)
    rows = [
        Row(
            f"{what}: {LATENCIES[name]}, mean",
            LIVE,
            _mean(replay.latencies[name].mean() for replay in replays),
            float(ours[name].mean()),
            MEAN_AIM if name == "E2E" else None,
            unit=UNITS[name],
        )
        for name in LATENCIES
    ]
    theirs = _mean(np.percentile(replay.latencies["E2E"], 99) for replay in replays)
    p99 = float(np.percentile(ours["E2E"], 99))
    return [*rows, Row(f"{what}: {LATENCIES['E2E']}, p99", LIVE, theirs, p99, P99_AIM, unit="s")]


def preemption_rows(what: str, replays: Sequence[Replay], predicted: Columns) -> list[Row]:
    """How often requests were preempted, where any were."""
    theirs = _mean(replay.preemptions for replay in replays)
    ours = float(predicted["preemptions"].sum())
    if not (theirs or ours):
        return []
    return [Row(f"{what}: preemptions", LIVE, theirs, ours, None, "absolute")]


def noise_rows(what: str, first: Replay, second: Replay) -> list[Row]:
    """How far two replays of one workload are apart."""
    one, other = first.latencies["E2E"], second.latencies["E2E"]
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


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _latencies(log: Columns) -> Columns:
    return latencies(log["arrival_s"], log["first_token_s"], log["finish_s"], log["output_tokens"])
