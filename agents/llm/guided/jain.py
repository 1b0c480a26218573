"""The setting of Jain et al.: four V100 with Llama-2-7B, and a mix of five tasks (Table 1).

The lengths themselves are not published, only their means per task and the share of answers whose
decode phase takes 5 s or more. Each task's answers are lognormal with both; its prompts are
lognormal with the published mean and a spread that is assumed (`PROMPT_SIGMA`).
"""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.random import Generator, SeedSequence

from makespan.agents.llm.episodes import Episode
from makespan.envs.llm.config import EngineConfig, FleetConfig, PredictorConfig, ReplicaConfig
from makespan.envs.llm.episode import whole_number
from makespan.envs.llm.hardware import GIB, HARDWARE, MODELS, kv_blocks
from makespan.traces.arrivals import Poisson
from makespan.traces.workload import Workload


@dataclass(frozen=True)
class Task:
    """A row of Table 1: samples, mean tokens, and the share of answers with a heavy decode."""

    samples: int
    prompt_tokens: float
    output_tokens: float
    heavy: float


TASKS = {
    "books": Task(7351, 29.09, 61.76, 0.0918),
    "eli5": Task(6988, 29.83, 334.40, 0.5818),
    "imdb": Task(6564, 211.54, 142.53, 0.4101),
    "squad": Task(7122, 125.16, 220.02, 0.4795),
    "wnut": Task(3304, 26.41, 64.10, 0.0871),
}

HEAVY_TOKENS = 125
"""A decode is heavy from 5 s. A step of a V100 with 128 sequences takes 0.04 s by its roofline: 125
tokens. (By the 0.02 s of the shortest step, 250, no lognormal has the published means and shares.)
"""

PROMPT_SIGMA = 0.8
"""Standard deviation of the logarithm of prompt lengths; assumed."""

LONGEST_PROMPT, LONGEST_OUTPUT = 1000, 2048
"""Prompts of the paper have at most 1,000 tokens. The limit on answers is assumed."""

REQUESTS, RATE = 2000, 20.0
"""Of a run: requests, and requests per second (Poisson)."""

ACCURACY = 0.79
"""Of the predicted buckets: 79.15 % over all tasks (Table 1)."""

MEMORY_16 = int(15.78 * GIB)
"""The V100 with 16 GB, which the paper does not exclude. Its KV cache holds a few requests at once,
and 20 requests per second overload it, as the paper's latencies of 150 s and more say."""


def fleet(memory_gb: int = 16) -> FleetConfig:
    """Four V100 with 16 or 32 GB, and a router that may hold requests."""
    engine = EngineConfig(kv_blocks=_blocks_16() if memory_gb == 16 else 0)
    return FleetConfig(
        replicas=(ReplicaConfig("V100", "Llama-2-7B", engine=engine),) * 4,
        predictor=PredictorConfig("bucket", accuracy=ACCURACY),
        can_hold=True,
    )


def _blocks_16() -> int:
    return kv_blocks(replace(HARDWARE["V100"], memory_bytes=MEMORY_16), MODELS["Llama-2-7B"])


def draw(seed: SeedSequence, config: FleetConfig, rate: float = RATE) -> Episode:
    """A run of the setting; the same seed gives the same one."""
    lengths, noise = seed.spawn(2)
    return Episode(workload(np.random.default_rng(lengths), rate), config, whole_number(noise))


def workload(rng: Generator, rate: float = RATE, requests: int = REQUESTS) -> Workload:
    """Requests of the five tasks, mixed as often as Table 1 has samples of them."""
    samples = np.array([task.samples for task in TASKS.values()])
    task = rng.choice(len(TASKS), requests, p=samples / samples.sum())
    normal = rng.standard_normal((2, requests))
    prompts = np.array([[mu, PROMPT_SIGMA] for mu in map(_prompt_mu, TASKS.values())])
    outputs = np.array([lognormal(task) for task in TASKS.values()])
    return Workload(
        arrival_s=Poisson(rate).times(rng, requests),
        prompt_tokens=_tokens(prompts[task], normal[0], LONGEST_PROMPT),
        output_tokens=_tokens(outputs[task], normal[1], LONGEST_OUTPUT),
        name="jain",
    )


def lognormal(task: Task) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of answer lengths.

    With mean m and share s of at least t tokens: sigma**2 / 2 + z sigma = log(m / t) for the normal
    quantile z of s. Where two solutions exist, the narrower is taken.
    """
    z, excess = NormalDist().inv_cdf(task.heavy), np.log(task.output_tokens / HEAVY_TOKENS)
    root = np.sqrt(z**2 + 2 * excess)
    sigma = -z - root if excess < 0 else -z + root
    return float(np.log(task.output_tokens) - sigma**2 / 2), float(sigma)


def _prompt_mu(task: Task) -> float:
    return float(np.log(task.prompt_tokens) - PROMPT_SIGMA**2 / 2)


def _tokens(shape: np.ndarray, normal: np.ndarray, longest: int) -> np.ndarray:
    """int64 (n,): lognormal counts, `shape` (n, 2) holding mean and deviation of the logarithm."""
    drawn = np.exp(shape[:, 0] + shape[:, 1] * normal)
    return np.clip(np.rint(drawn), 1, longest).astype(np.int64)
