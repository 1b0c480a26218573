"""Find the constants of router rules on the episodes that agents are trained on.

    makespan tune-rules --traces azure.csv --out tuned.json

Rules get what agents get: the shapes of workloads and fleets that the trainer draws, its tuning
seeds, and routers that may hold requests. Episodes have 150 to 450 requests per replica, and the
file that is shipped was found with the first half of the Azure conversation trace among them. Of
every rule `configurations` are drawn at random, the published one among them, and halved three
times while episodes double (successive halving: Jamieson and Talwalkar, AISTATS 2016); the
published one stays in. It is replaced where another one's gain on all tuning episodes is above its
standard error. What that is worth is measured on other episodes.

The objective is the geometric mean over episodes of the mean end-to-end latency relative to that of
`lookahead` on the same episode. The file that is shipped is `baselines/llm/tuned.json`.
"""

import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.random import Generator, SeedSequence

from makespan.agents.config import stream
from makespan.agents.llm.episodes import Episode, EpisodeDistribution, draw
from makespan.agents.whole_file import write_text
from makespan.baselines.llm import policy
from makespan.envs.core.contract import Policy, simulate
from makespan.envs.llm.fleet import Fleet
from makespan.experiments.regimes.cells import cores
from makespan.experiments.run_folder import to_json
from makespan.experiments.watching import progress, warnings_in_a_line
from makespan.traces import TraceWarning
from makespan.traces.catalogue import load

Constants = tuple[tuple[str, float], ...]
"""Names and values; empty: the published ones."""

PUBLISHED: Constants = ()

REQUESTS = (150, 450)
"""Requests per replica: enough for queues to build up at 1.2 times the capacity."""

HALVINGS = 3


@dataclass(frozen=True)
class Range:
    """Where a constant is looked for.

    Attributes:
        low, high: bounds, both included.
        reason: why there.
        log: draw its logarithm uniformly.
        whole: whole numbers only.
    """

    low: float
    high: float
    reason: str
    log: bool = False
    whole: bool = False

    def draw(self, rng: Generator) -> float:
        """A value, to three digits."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = rng.uniform(low, high)
        value = math.exp(value) if self.log else value
        return round(value) if self.whole else float(f"{value:.3g}")


_SHARE = Range(0.0, 0.95, "a share of the prompt")
_REQUESTS = Range(
    1, 64, "1 balances always; a replica seldom has 64 requests more", log=True, whole=True
)
_OUTPUT = Range(50, 1000, "mean outputs of training episodes: about 30 to 500 tokens", log=True)
_PREFILL_SCALE = Range(0.1, 30, "both sides of 1: decode load and prefill load alone", log=True)
_OVERLAP_CREDIT = Range(0.0, 1.5, "0 ignores the cache; Dynamo allows more than 1")

RANGES: dict[str, dict[str, Range]] = {
    "session_hash": {
        "virtual_nodes": Range(
            16, 1024, "splits the ring to within 25 % to 3 %", log=True, whole=True
        ),
    },
    "vllm_dp": {
        "client_count": Range(
            1, 16, "from gauges as good as own count to own count only", log=True, whole=True
        ),
    },
    "production_loadaware": {
        "beta": Range(0.05, 20, "from hits alone to load alone", log=True),
    },
    "cache_aware": {
        "cache_threshold": _SHARE,
        "balance_abs": _REQUESTS,
        "balance_rel": Range(1.0, 3.0, "1: the difference alone counts; 3: seldom out of balance"),
    },
    "aibrix_prefix_cache": {
        "imbalance": _REQUESTS,
        "deviations": Range(0.0, 3.0, "0: the mean; of 12 replicas the fullest is 3 away at most"),
    },
    "aibrix_least_latency": {
        "refresh_s": Range(0.01, 5, "from every request to a dozen of them", log=True),
    },
    "llmd_epp": {
        "queue": Range(0.2, 20, "only ratios count: each may outweigh the others", log=True),
        "kv": Range(0.2, 20, "as queue", log=True),
        "prefix": Range(0.2, 20, "as queue", log=True),
        "max_prefix_blocks": Range(
            64, 4096, "prompts of 1,000 to 65,000 tokens", log=True, whole=True
        ),
    },
    "dynamo_kv": {
        "prefill_load_scale": _PREFILL_SCALE,
        "overlap_credit": _OVERLAP_CREDIT,
    },
    "dynamo_kv_queue": {
        "prefill_load_scale": _PREFILL_SCALE,
        "overlap_credit": _OVERLAP_CREDIT,
        "queue_threshold": Range(0.05, 32, "from 100 tokens to never, in steps' budgets", log=True),
    },
    "ray_prefix_affinity": {
        "imbalanced_threshold": _REQUESTS,
        "match_rate_threshold": _SHARE,
    },
    "smetric": {
        "hit_ratio": Range(0.0, 0.95, "a share of the previous prompt"),
        "base_s": Range(0.02, 5, "from one step to what nobody waits for", log=True),
        "per_token_s": Range(1e-6, 1e-3, "a prompt token takes 2e-5 to 2e-4 s", log=True),
        "c_att": Range(1e-6, 1e-3, "by operations 3e-5 in Llama-3.1-8B", log=True),
    },
    "mixing_impact": {
        "alpha": Range(0.0, 1.0, "a weight"),
        "heavy_prompt_s": Range(0.02, 5, "from one step to the longest prompts", log=True),
    },
    "lookahead": {
        "missing_output": _OUTPUT,
    },
    "lookahead_hold": {
        "limit_s": Range(0.02, 2, "from one step to many prompts", log=True),
        "missing_output": _OUTPUT,
    },
}
"""Rule -> its constants, and where each is looked for."""


@dataclass(frozen=True)
class TuneConfig:
    """Find constants of the router rules on training episodes.

    Attributes:
        seed: of the configurations and episodes; the same seed gives the same file.
        configurations: tried of every rule, the published one included.
        episodes: on which the last of them are compared, and as many others for the gain.
        traces: files or catalogue names; of the first half of each a third of the episodes are
            windows.
        processes: replay episodes at the same time; 0: one per core.
        out: the file that is written.
    """

    seed: int = 0
    configurations: int = 24
    episodes: int = 48
    traces: tuple[str, ...] = ()
    processes: int = 0
    out: Path = Path("runs/tuned.json")

    def __post_init__(self) -> None:
        if self.seed < 0 or self.processes < 0:
            raise ValueError("--seed and --processes must not be negative")
        if self.configurations < 1 or self.episodes < 2:
            raise ValueError("needs --configurations of at least 1 and --episodes of at least 2")

    @property
    def distribution(self) -> EpisodeDistribution:
        """What episodes are drawn from: what agents are trained on, only longer."""
        return EpisodeDistribution(requests=REQUESTS, traces=self.traces)

    def seeds(self, use: str) -> list[int]:
        """Of the episodes for one use: `tuning`, the trainer's and more, or `confirmation`."""
        return [int(word) for word in stream(self.seed, use).generate_state(self.episodes)]


@dataclass(frozen=True)
class Trial:
    """A rule with its constants on the episode of one seed; what a process needs to replay it."""

    rule: str
    constants: Constants
    seed: int
    distribution: EpisodeDistribution


class Latencies:
    """Latency relative to `lookahead` of every trial, replayed once, when it is first asked for.

    Args:
        pool: replays them.
        distribution: what episodes are drawn from.
    """

    def __init__(self, pool: Executor, distribution: EpisodeDistribution) -> None:
        self._pool = pool
        self._distribution = distribution
        self._known: dict[Trial, float] = {}

    def measure(
        self, what: str, configurations: Mapping[str, Sequence[Constants]], seeds: Sequence[int]
    ) -> None:
        """Replay all configurations, rule by rule, on the episodes of all seeds."""
        trials = (
            Trial(rule, constants, seed, self._distribution)
            for seed in seeds  # the episodes in turn: a process keeps the last it has drawn
            for rule in configurations
            for constants in configurations[rule]
        )
        missing = dict.fromkeys(trial for trial in trials if trial not in self._known)
        with progress() as bars:
            self._replay(missing, partial(bars.advance, bars.add_task(what, total=len(missing))))

    def _replay(self, trials: Iterable[Trial], advance: Callable[[], None]) -> None:
        futures = {self._pool.submit(relative_latency, trial): trial for trial in trials}
        try:
            for future in as_completed(futures):
                self._known[futures[future]] = future.result()
                advance()
        finally:  # whoever interrupts does not wait for the others
            for future in futures:
                future.cancel()

    def of(self, rule: str, constants: Constants, seeds: Sequence[int]) -> np.ndarray:
        """float64 (len(seeds),): what was measured."""
        trials = (Trial(rule, constants, seed, self._distribution) for seed in seeds)
        return np.array([self._known[trial] for trial in trials])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        config = tyro.cli(TuneConfig, args=argv, prog="makespan tune-rules")
        if config.out.is_dir():
            raise ValueError(f"--out: {config.out} is a folder")
        with warnings_in_a_line(TraceWarning):
            for trace in config.traces:
                load(trace)
        with _pool(config.processes or cores()) as pool:
            found = tune(config, Latencies(pool, config.distribution))
        write_text(config.out, to_json({"search": described(config), "rules": found}))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing is written", file=sys.stderr)
        return 130
    _print(found)
    print(f"written to {config.out}")
    return 0


def tune(
    config: TuneConfig, latencies: Latencies, ranges: Mapping[str, Mapping[str, Range]] = RANGES
) -> dict[str, Any]:
    """Rule -> `constants` (empty: the published ones stay), and what they are worth.

    `tuning` and `confirmation` are `comparison`s on the episodes that chose them and on others.
    """
    tuning, confirmation = config.seeds("tuning"), config.seeds("confirmation")
    finalists = halved(config, latencies, ranges, tuning)
    chosen = {rule: choose(latencies, rule, finalists[rule], tuning) for rule in ranges}
    compared = {rule: [PUBLISHED, constants] for rule, constants in chosen.items()}
    latencies.measure("confirmation", compared, confirmation)
    return {
        rule: {
            "constants": dict(constants),
            "tuning": comparison(latencies, rule, constants, tuning),
            "confirmation": comparison(latencies, rule, constants, confirmation),
        }
        for rule, constants in chosen.items()
    }


def candidates(rule: str, ranges: Mapping[str, Range], config: TuneConfig) -> list[Constants]:
    """The published configuration, and others at random; a rule's do not depend on the others."""
    rng = np.random.default_rng(stream(config.seed, "configurations", rule))
    others = (
        tuple((name, ranges[name].draw(rng)) for name in ranges)
        for _ in range(config.configurations - 1)
    )
    return list(dict.fromkeys([PUBLISHED, *others]))


def halved(
    config: TuneConfig,
    latencies: Latencies,
    ranges: Mapping[str, Mapping[str, Range]],
    seeds: Sequence[int],
) -> dict[str, list[Constants]]:
    """Rule -> the configurations that were measured on all `seeds`."""
    left = {rule: candidates(rule, ranges[rule], config) for rule in ranges}
    for halving in range(HALVINGS + 1):
        some = seeds[: max(2, len(seeds) >> (HALVINGS - halving))]
        latencies.measure(f"tuning, round {halving + 1} of {HALVINGS + 1}", left, some)
        if halving < HALVINGS:
            left = {rule: better_half(latencies, rule, left[rule], some) for rule in left}
    return left


def better_half(
    latencies: Latencies, rule: str, configurations: Sequence[Constants], seeds: Sequence[int]
) -> list[Constants]:
    """The published configuration, which comes first, and the best of the others, one at least."""
    others = sorted(configurations[1:], key=lambda c: geometric(latencies.of(rule, c, seeds)))
    return [PUBLISHED, *others[: max(1, (len(configurations) + 1) // 2 - 1)]]


def choose(
    latencies: Latencies, rule: str, configurations: Sequence[Constants], seeds: Sequence[int]
) -> Constants:
    """The best; the published one unless the best gains more than its standard error."""
    best = min(configurations, key=lambda c: geometric(latencies.of(rule, c, seeds)))
    compared = comparison(latencies, rule, best, seeds)
    return best if compared["gain"] > compared["standard_error"] else PUBLISHED


def comparison(
    latencies: Latencies, rule: str, constants: Constants, seeds: Sequence[int]
) -> dict[str, float]:
    """Relative latency of the `published` and of the `chosen` constants, in the geometric mean;
    the `gain`, a share of the former, and its `standard_error`, episode by episode.
    """
    published, chosen = (latencies.of(rule, c, seeds) for c in (PUBLISHED, constants))
    logs = np.log(chosen / published)
    left = math.exp(logs.mean())
    return {
        "published": round(geometric(published), 4),
        "chosen": round(geometric(chosen), 4),
        "gain": round(1 - left, 4),
        "standard_error": round(left * logs.std(ddof=1) / math.sqrt(len(logs)), 4),
    }


def geometric(values: np.ndarray) -> float:
    """Geometric mean of positive numbers."""
    return math.exp(np.log(values).mean())


def relative_latency(trial: Trial) -> float:
    """Mean end-to-end latency of the requests of an episode, over that with `lookahead`."""
    episode, reference_s = _episode(trial.distribution, trial.seed)
    rule = policy(trial.rule, episode.noise, **dict(trial.constants))
    return _latency_s(episode, rule) / reference_s


# Trials come rule after rule on the same episode.
@lru_cache(maxsize=1)
def _episode(distribution: EpisodeDistribution, seed: int) -> tuple[Episode, float]:
    episode = draw(distribution, SeedSequence(seed))
    return episode, _latency_s(episode, policy("lookahead"))


def _latency_s(episode: Episode, rule: Policy) -> float:
    fleet = Fleet(episode.workload, episode.fleet, episode.noise)
    return simulate(fleet, rule).latency_s()


def _pool(processes: int) -> ProcessPoolExecutor:
    # Forking copies whatever threads and locks the caller has; spawning works everywhere.
    return ProcessPoolExecutor(processes, get_context("spawn"), _start_process)


def _start_process() -> None:
    # Ctrl-C reaches every process of the terminal; the one that started the others tidies up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The process that started this one has read the same traces, and said so.
    warnings.simplefilter("ignore", TraceWarning)


def described(config: TuneConfig) -> dict[str, Any]:
    """How the constants were found: all that the result depends on, traces by their names."""
    names = [Path(trace).name for trace in config.traces]
    return {
        "seed": config.seed,
        "configurations": config.configurations,
        "episodes": config.episodes,
        "distribution": asdict(config.distribution) | {"traces": names},
    }


def _print(found: Mapping[str, Any]) -> None:
    from rich.table import Table

    from makespan.experiments.summary_tables import console

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("rule", "constants", "gain in tuning", "gain on other episodes"):
        table.add_column(column)
    for rule, row in found.items():
        constants = ", ".join(f"{name} {value:g}" for name, value in row["constants"].items())
        gains = (
            f"{100 * row[use]['gain']:.1f} % +- {100 * row[use]['standard_error']:.1f}"
            for use in ("tuning", "confirmation")
        )
        table.add_row(rule, constants or "as published", *gains)
    console(sys.stdout).print(table)
