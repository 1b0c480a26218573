"""Predicted output lengths: the only knowledge of an answer's length that a policy may have."""

import numpy as np

from makespan.envs.llm.config import PredictorConfig
from makespan.traces.workload import Workload

BUCKET_EDGES = np.array([0, 256, 1024, 4096])
"""Lower edges of the length buckets in tokens (arXiv 2408.13510, section on the predictor:
0-250, 250-1000, 1000-4000 tokens, rounded here to powers of two)."""


def predict(workload: Workload, config: PredictorConfig, rng: np.random.Generator) -> np.ndarray:
    """Predicted output tokens of every request, float64 (n,); nan where nothing is predicted."""
    truth = workload.output_tokens.astype(np.float64)
    if config.kind == "none" or len(truth) == 0:
        return np.full(len(truth), np.nan)
    if config.kind == "oracle":
        return truth * np.exp(rng.normal(0.0, config.error, len(truth)))
    if config.kind == "class_mean":
        return _mean_by(workload.slo_class, truth)
    return _bucketed(truth, config.accuracy, rng)


def _mean_by(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    sizes = np.bincount(group)
    sums = np.bincount(group, values)
    return (sums / np.maximum(sizes, 1))[group]


def _bucketed(truth: np.ndarray, accuracy: float, rng: np.random.Generator) -> np.ndarray:
    """The mean of each request's bucket; a wrong, other non-empty bucket with 1 - `accuracy`."""
    bucket = np.searchsorted(BUCKET_EDGES, truth, side="right") - 1
    filled, bucket = np.unique(bucket, return_inverse=True)
    means = np.bincount(bucket, truth) / np.bincount(bucket)
    wrong = rng.random(len(truth)) >= accuracy
    if len(filled) > 1:
        shift = rng.integers(1, len(filled), len(truth))
        bucket = np.where(wrong, (bucket + shift) % len(filled), bucket)
    return means[bucket]
