"""The state of the paper's router: 3 numbers and 6 per replica, 27 for four."""

import numpy as np

from makespan.agents.llm.guided.survey import Survey
from makespan.envs.llm.decision import RoutingDecision

VERSION = 1
"""Goes up whenever an agent trained before would see something else."""

BUCKETS = (256, 2048)
"""Upper edges of the first and the second of the paper's three buckets of tokens."""

LONGEST_QUEUE = 512
"""Length at which the router's queue is cut off: 4 instances times a batch of 128."""

BATCH = 128
"""Requests in a bucket are counted in batches of the paper."""


def size(replicas: int) -> int:
    """Entries of a state."""
    return 3 + 6 * replicas


def encode(decision: RoutingDecision, seen: Survey) -> np.ndarray:
    """float32 (3 + 6 N,), every entry of the order of 1.

    | entry     | content                                                                  |
    |-----------|--------------------------------------------------------------------------|
    | 0         | requests in the router, with this one, over 512; at most 1               |
    | 1         | prompt tokens, log1p over log1p(2048)                                    |
    | 2         | bucket of the expected output: 0, 0.5 or 1                               |
    | then per replica:                                                                    |
    | 0, 1      | prompts in flight in the second and in the third bucket, over 128        |
    | 2, 3      | the same of their expected outputs                                       |
    | 4         | free capacity, 1 - log2(1 + `Survey.load`): 1 if empty, 0 if all is used |
    | 5         | log1p of the seconds until the first request in flight is done, 0: none  |

    The paper counts 27 entries and three buckets each of prompts and outputs per instance, which
    with capacity and time would be 35. Here the first bucket is left out: what its requests hold is
    part of the capacity in use.
    """
    head = [
        min(seen.held / LONGEST_QUEUE, 1.0),
        np.log1p(seen.own_prompt) / np.log1p(BUCKETS[1]),
        np.searchsorted(BUCKETS, seen.own_output, side="right") / 2,
    ]
    columns = [*_counts(seen, seen.prompt), *_counts(seen, seen.output)]
    columns.append(1 - np.log2(1 + seen.load))
    columns.append(np.log1p(first_done_s(decision, seen)))
    return np.concatenate([head, np.stack(columns, axis=1).ravel()]).astype(np.float32)


def _counts(seen: Survey, tokens: np.ndarray) -> list[np.ndarray]:
    """Requests per replica in the second and in the third bucket, in batches."""
    bucket = np.searchsorted(BUCKETS, tokens, side="right")
    return [seen.per_replica((bucket == number) / BATCH) for number in (1, 2)]


def first_done_s(decision: RoutingDecision, seen: Survey) -> np.ndarray:
    """float64 (N,): estimated seconds until a request of each replica is done; 0: none streams.

    The fewest expected tokens left of those that stream, times the step that decodes all of them.
    """
    streams = seen.streamed > 0
    left = np.full(decision.replicas, np.inf)
    np.minimum.at(left, seen.replica[streams], (seen.output - seen.streamed)[streams])
    steps = zip(decision.step_time, decision.decoding, decision.decode_tokens, strict=True)
    step_s = np.array([model.step(int(count), int(tokens)) for model, count, tokens in steps])
    return np.where(np.isfinite(left), np.maximum(left, 1), 0) * step_s
