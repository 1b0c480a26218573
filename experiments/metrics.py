"""From what happened to each request to the numbers people compare policies by.

Everything here works on a *log*: the plain columns that a fleet leaves behind, one row per request
(see `makespan.envs.llm.fleet.Fleet.log`). Times are seconds from the start of the workload.

Definitions (vLLM's `benchmarks/serve` uses the same for the three latencies):

- TTFT, time to first token: from arrival at the router to the first token.
- TPOT, time per output token: from the first token to the last, over the tokens after the first;
  a one-token answer has none.
- E2E: from arrival to the last token.

Latencies are those of finished requests; a request that was rejected, failed or never finished has
none, and counts as a miss in the SLO goodput.
"""

from collections.abc import Callable, Mapping

import numpy as np

from makespan.envs.llm.fleet import STATUS
from makespan.envs.llm.slo import within_slo

Log = Mapping[str, np.ndarray]

LEVEL = 0.95
"""Confidence level of every interval."""

RESAMPLES = 1000
"""Bootstrap resamples per interval."""

BLOCK_RESAMPLES = 200
"""Resamples of blocks; each recomputes every metric."""

BLOCKS = 20
"""Contiguous blocks of requests that one seed's log is cut into to be resampled."""


def ttft_s(log: Log) -> np.ndarray:
    """float64 (n,): time to first token in seconds, nan unless the request finished."""
    return np.where(_finished(log), log["first_token_s"] - log["arrival_s"], np.nan)


def e2e_s(log: Log) -> np.ndarray:
    """float64 (n,): end-to-end latency in seconds, nan unless the request finished."""
    return np.where(_finished(log), log["finish_s"] - log["arrival_s"], np.nan)


def tpot_s(log: Log) -> np.ndarray:
    """float64 (n,): seconds per output token after the first; nan for one-token answers."""
    later = log["output_tokens"] - 1
    span = log["finish_s"] - log["first_token_s"]
    return np.where(_finished(log) & (later > 0), span / np.maximum(later, 1), np.nan)


LATENCIES: dict[str, Callable[[Log], np.ndarray]] = {
    "ttft_s": ttft_s,
    "tpot_s": tpot_s,
    "e2e_s": e2e_s,
}
"""Name of a latency -> the column of it."""


def meets_slo(log: Log) -> np.ndarray:
    """bool (n,): finished within the latency targets (`makespan.envs.llm.slo`)."""
    return within_slo(log["prompt_tokens"], log["output_tokens"], ttft_s(log), e2e_s(log))


def served_tokens(log: Log, replicas: int) -> np.ndarray:
    """int64 (N,): prompt tokens computed (not found in the cache) and generated, by replica."""
    done = _finished(log)
    work = (log["prompt_tokens"] - log["cached_tokens"] + log["output_tokens"])[done]
    return np.bincount(log["replica"][done], work, minlength=replicas).astype(np.int64)


def load_imbalance(log: Log, replicas: int) -> float:
    """Coefficient of variation of `served_tokens` over the replicas; 0 is an even split.

    A fleet of mixed hardware should not be split evenly, so compare it between policies only.
    """
    tokens = served_tokens(log, replicas)
    return float(tokens.std() / tokens.mean()) if tokens.any() else 0.0


def summarise(log: Log, replicas: int) -> dict[str, float]:
    """Every metric of one run. Latencies in seconds, shares from 0 to 1, counts as floats.

    A metric without a single request to speak of (no request finished) is nan.
    """
    summary = {}
    for name, column in LATENCIES.items():
        summary |= _distribution(name.removesuffix("_s"), column(log))
    return summary | {
        "slo_goodput": _mean(meets_slo(log)),
        "prefix_hit_rate": _hit_rate(log),
        "load_imbalance": load_imbalance(log, replicas),
        "tokens_per_s": _tokens_per_s(log),
        "preemptions": float(log["preemptions"].sum()),
        "rejected": _count(log, "rejected"),
        "failed": _count(log, "failed"),
        "unfinished": _count(log, "pending"),
    }


def over_seeds(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, shape (seeds,), resampling seeds.

    With a handful of seeds such an interval is too narrow rather than too wide (Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 13): use ten or more for a close call.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan, np.nan
    draws = _generator().integers(len(values), size=(RESAMPLES, len(values)))
    return _interval(values[draws].mean(axis=1))


def over_blocks(log: Log, replicas: int) -> dict[str, tuple[float, float]]:
    """Intervals of every metric from one run, resampling contiguous blocks of its requests.

    Neighbouring requests share a queue, so their latencies are not independent; blocks keep that
    together (Kuensch, The jackknife and the bootstrap for general stationary observations, 1989).
    It says how far the requests of this run carry the figure, not what another run would give.
    Throughput has no such interval: a resample has no duration.
    """
    n = len(log["status"])
    blocks = np.array_split(np.arange(n), min(BLOCKS, n))
    samples: dict[str, list[float]] = {}
    for picks in _generator().integers(len(blocks), size=(BLOCK_RESAMPLES, len(blocks))):
        rows = np.concatenate([blocks[k] for k in picks])
        for name, value in summarise({c: log[c][rows] for c in log}, replicas).items():
            samples.setdefault(name, []).append(value)
    samples["tokens_per_s"] = [np.nan]
    return {name: _interval(np.array(values)) for name, values in samples.items()}


def _generator() -> np.random.Generator:
    """The same resamples for every metric and policy, so that intervals are reproducible."""
    return np.random.default_rng(0)


def _interval(samples: np.ndarray) -> tuple[float, float]:
    samples = samples[np.isfinite(samples)]
    if len(samples) == 0:
        return np.nan, np.nan
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _finished(log: Log) -> np.ndarray:
    return log["status"] == STATUS.index("finished")


def _count(log: Log, status: str) -> float:
    return float((log["status"] == STATUS.index(status)).sum())


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _distribution(name: str, values: np.ndarray) -> dict[str, float]:
    values = values[np.isfinite(values)]
    names = [f"{name}_mean_s", f"{name}_p50_s", f"{name}_p95_s", f"{name}_p99_s"]
    if len(values) == 0:
        return dict.fromkeys(names, np.nan)
    figures = [values.mean(), *np.percentile(values, [50, 95, 99])]
    return dict(zip(names, map(float, figures), strict=True))


def _hit_rate(log: Log) -> float:
    done = _finished(log)
    prompt = log["prompt_tokens"][done].sum()
    return float(log["cached_tokens"][done].sum() / prompt) if prompt else np.nan


def _tokens_per_s(log: Log) -> float:
    done = _finished(log)
    if not done.any():
        return np.nan
    span = log["finish_s"][done].max() - log["arrival_s"].min()
    return float(log["output_tokens"][done].sum() / span) if span > 0 else np.nan
