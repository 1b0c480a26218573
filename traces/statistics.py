"""The figures by which traces are compared."""

from dataclasses import dataclass

import numpy as np

from makespan.traces.prefixes import infinite_cache_hits
from makespan.traces.workload import Workload


@dataclass(frozen=True)
class Lengths:
    """Mean and percentiles of a token count (percentiles interpolate linearly)."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: int

    @classmethod
    def of(cls, tokens: np.ndarray) -> "Lengths":
        """Those of an int array that is not empty."""
        p50, p95, p99 = np.percentile(tokens, (50, 95, 99)).tolist()
        return cls(float(tokens.mean()), p50, p95, p99, int(tokens.max()))


@dataclass(frozen=True)
class Statistics:
    """What `makespan traces describe` prints.

    Attributes:
        requests: number of requests.
        span_s: seconds from the first arrival to the last.
        rate: mean requests per second.
        iat_cv: coefficient of variation of the gaps between arrivals: standard deviation (over n)
            by mean; nan where all requests arrive at once.
        prompt, output: token counts.
        sessions: number of conversations; requests without one are not counted.
        prefix_hit: share of prompt tokens that an endless prefix cache would serve; nan where the
            workload has no prefix hashes.
    """

    requests: int
    span_s: float
    rate: float
    iat_cv: float
    prompt: Lengths
    output: Lengths
    sessions: int
    prefix_hit: float


def describe(workload: Workload) -> Statistics:
    """The statistics of a workload.

    Raises:
        ValueError: it is empty.
    """
    if not len(workload):
        raise ValueError("an empty workload has no statistics")
    gaps = np.diff(workload.arrival_s)
    hit = infinite_cache_hits(workload).sum() / workload.prompt_tokens.sum()
    return Statistics(
        requests=len(workload),
        span_s=workload.duration_s,
        rate=workload.rate,
        iat_cv=float(gaps.std() / gaps.mean()) if workload.duration_s > 0 else float("nan"),
        prompt=Lengths.of(workload.prompt_tokens),
        output=Lengths.of(workload.output_tokens),
        sessions=len(np.unique(workload.session[workload.session >= 0])),
        prefix_hit=float(hit) if len(workload.hashes) else float("nan"),
    )
