"""Policies from papers and proposals."""

import math
from typing import Any

import numpy as np

from makespan.baselines.llm.simple import lowest_from
from makespan.envs.core.compiled import kernel
from makespan.envs.llm.decision import RequestView, RoutingDecision

MEAN_OUTPUT_TOKENS = 175.71
"""Stands in for a missing prediction: mean decode length of arXiv 2408.13510, Table 1."""


def lmetric(decision: RoutingDecision) -> int:
    """LMetric: fewest P-tokens times batch size, no parameters.

    P-tokens are the uncached prompt tokens in flight plus those of this request; the batch size
    counts running and queued requests. Between replicas without a request, where the product says
    nothing, the fewer P-tokens win; then the first. Reads own accounting and the prefix index.

    Source: Zhang et al., "Simple is Better: Multiplication May Be All You Need for LLM Request
    Scheduling" (LMetric), arXiv 2603.15202.
    """
    return decision.lowest(lmetric_scores(decision))


def lmetric_scores(decision: RoutingDecision) -> np.ndarray:
    """float64 (N,): what LMetric minimises."""
    p_tokens = decision.prefill_tokens + decision.request.prompt_tokens - decision.prefix_tokens
    return p_tokens * (decision.requests + 1e-9)


class SMetric:
    """SMetric: a session stays with its cached prefix while that can meet the TTFT objective.

    A follow-up turn goes to the replica with the longest match, if the match exceeds `hit_ratio`
    of the session's history and that replica meets the objective, or none does. Every other
    request goes to the lowest (pending work + own work) * requests in flight. Ties go to the first
    after a start that moves on with each request.

    Work of n uncached of L prompt tokens is c_lin * n + c_att * n * (L - n / 2). A replica meets
    the objective if (pending + own work) / rate <= slack * (base + per_token * L). Its rate is the
    90th percentile of work / TTFT over its last 64 requests; with fewer than 8 it is unknown, and
    the objective counts as met.

    Source: arXiv 2607.08565; vllm-project/router `src/policies/smetric.rs` (hit ratio 0.5, slack
    1.0, 1 s + 0.0625 s per 1,000 tokens, colocated prefill and decode). Tokens stand for
    characters; the history of a session is its previous prompt. The published values of `c_lin`
    and `c_att` depend on the model: the defaults here make work equal to uncached tokens.
    """

    MIN_SAMPLES = 8

    def __init__(
        self,
        hit_ratio: float = 0.5,
        slack: float = 1.0,
        base_s: float = 1.0,
        per_token_s: float = 0.0625 / 1000,
        c_lin: float = 1.0,
        c_att: float = 0.0,
    ) -> None:
        self._hit_ratio = hit_ratio
        self._slack, self._base_s, self._per_token_s = slack, base_s, per_token_s
        self._c_lin, self._c_att = c_lin, c_att
        self._history: dict[int, int] = {}
        self._start = 0

    def __call__(self, decision: RoutingDecision) -> int:
        request, matched = decision.request, decision.prefix_tokens
        own = self._work(request.prompt_tokens - matched, request.prompt_tokens)
        queued = self._pending(decision) + own
        choice = self._with_cached_history(decision, request, matched, queued)
        if choice is None:
            choice = lowest_from(decision, queued * decision.requests, self._start)
        self._start += 1
        if request.session >= 0:
            self._history[request.session] = request.prompt_tokens
        return choice

    def _with_cached_history(
        self,
        decision: RoutingDecision,
        request: RequestView,
        matched: np.ndarray,
        queued: np.ndarray,
    ) -> int | None:
        """The replica that a follow-up turn should stay with, if any."""
        history = self._history.get(request.session)
        longest = lowest_from(decision, -matched, self._start)
        if history is None or longest == decision.replicas:
            return None
        if matched[longest] <= self._hit_ratio * history:
            return None
        limit_s = self._slack * (self._base_s + self._per_token_s * request.prompt_tokens)

        def in_time(replica: int) -> bool:
            rate = self._rate(decision.recent(replica))
            return rate is None or queued[replica] / rate <= limit_s

        if in_time(longest) or not any(map(in_time, np.flatnonzero(decision.healthy).tolist())):
            return longest
        return None

    def _rate(self, recent: np.ndarray) -> float | None:
        """Work per second until the first token, from rows of `RECENT`; None: too few."""
        work = self._work(recent["uncached_tokens"], recent["prompt_tokens"])
        counted = (work > 0) & (recent["ttft_s"] > 0)
        rates = np.sort(work[counted] / recent["ttft_s"][counted])
        if len(rates) < self.MIN_SAMPLES:
            return None
        return float(rates[round((len(rates) - 1) * 0.9)])

    def _work(self, uncached: Any, prompt: Any) -> Any:
        return self._c_lin * uncached + self._c_att * uncached * (prompt - uncached / 2)

    def _pending(self, decision: RoutingDecision) -> np.ndarray:
        """float64 (N,): work of the requests in flight without a first token."""
        if self._c_att == 0:
            return self._c_lin * decision.prefill_tokens
        rows = [decision.in_flight(i) for i in range(decision.replicas)]
        rows = [r[r["streamed_tokens"] == 0] for r in rows]
        return np.array([self._work(r["uncached_tokens"], r["prompt_tokens"]).sum() for r in rows])


class TtftEstimate:
    """Shortest estimated time to the first token: queue time plus uncached blocks times block time.

    The queue time is that of the uncached prompt tokens in flight. The time per token is that of a
    full prefill step by the replica's step-time model, so unequal replicas are told apart. Cached
    blocks of other replicas cannot be fetched, so the transfer time of the proposal is zero. Of
    equals, such as idle replicas, the one with fewer requests in flight; then the first. Reads own
    accounting and the prefix index.

    Source: TTFT routing RFC, vLLM issue 20962 (production-stack pull requests 566 and 670).
    """

    def __init__(self) -> None:
        self._token_s: np.ndarray | None = None

    def __call__(self, decision: RoutingDecision) -> int:
        if self._token_s is None:
            self._token_s = prompt_token_seconds(decision)
        uncached = decision.request.prompt_tokens - decision.prefix_tokens
        seconds = (decision.prefill_tokens + uncached) * self._token_s
        return decision.lowest(seconds + 1e-9 * decision.requests)


class MixingImpact:
    """Jain et al.'s workload-aware heuristic: least harm from mixing prompts and decodes.

    impact = alpha * r_p + (1 - alpha) * r_d, highest wins, the first of equals.

    r_p in [-1, 0] is the prompt's harm to those who decode: with T = grad1 * prompt + grad2 *
    tokens in decode on the replica, it is 0 up to `heavy_prompt_s` and falls to -1 as T grows
    (heavy_prompt_s / T - 1). r_d in [-1, 1] is the crowding of decodes: 1 - 2 * (prompt and
    predicted output tokens of the requests in flight and this one / KV capacity). The paper prints
    its two penalties as images; this reading keeps their inputs, ranges and direction.

    Without a prediction an output counts as 175.71 tokens, the mean of the paper's data. Reads own
    accounting and predictions.

    Source: Jain et al., "Intelligent Router for LLM Workloads", arXiv 2408.13510 (alpha 0.5; a
    prompt is heavy from 0.5 s).

    Args:
        alpha: weight of the prompt's part.
        heavy_prompt_s: step time from which a prompt does harm.
        grad1: seconds per prompt token; None: by each replica's step-time model (V100 with
            Llama-2-7B in the paper: 3.2e-4).
        grad2: seconds per token in decode; None: likewise (in the paper: 3.3e-5).
    """

    def __init__(
        self,
        alpha: float = 0.5,
        heavy_prompt_s: float = 0.5,
        grad1: float | None = None,
        grad2: float | None = None,
    ) -> None:
        self._alpha = alpha
        self._heavy_prompt_s = heavy_prompt_s
        self._grad1: Any = grad1
        self._grad2: Any = grad2

    def __call__(self, decision: RoutingDecision) -> int:
        if self._grad1 is None:
            self._grad1 = prompt_token_seconds(decision)
        if self._grad2 is None:
            self._grad2 = decode_token_seconds(decision)
        request = decision.request
        prompt = self._prompt_impact(decision, request)
        decode = self._decode_impact(decision, request)
        return decision.lowest(-self._alpha * prompt - (1 - self._alpha) * decode)

    def _prompt_impact(self, decision: RoutingDecision, request: RequestView) -> np.ndarray:
        seconds = self._grad1 * request.prompt_tokens + self._grad2 * decision.decode_tokens
        return np.minimum(self._heavy_prompt_s / seconds - 1, 0)

    @staticmethod
    def _decode_impact(decision: RoutingDecision, request: RequestView) -> np.ndarray:
        capacity = (decision.kv_blocks - 1) * decision.block_size
        rows = [decision.in_flight(i) for i in range(decision.replicas)]
        held = np.array([_peak_tokens(r, MEAN_OUTPUT_TOKENS) for r in rows])
        output = request.predicted_tokens
        own = request.prompt_tokens + (MEAN_OUTPUT_TOKENS if math.isnan(output) else output)
        return 1 - 2 * np.minimum((held + own) / capacity, 1)


@kernel
def _peak_tokens(in_flight, missing_output):
    """Prompt and output tokens that rows of `IN_FLIGHT` will hold when they finish."""
    total = 0.0
    for row in in_flight:
        output = row["predicted_tokens"]
        if math.isnan(output):
            output = missing_output
        total += row["prompt_tokens"] + max(output, row["streamed_tokens"])
    return total


def prompt_token_seconds(decision: RoutingDecision) -> np.ndarray:
    """float64 (N,): seconds per prompt token in a step full of one prompt, by step-time model."""
    seconds = []
    for model, engine in zip(decision.step_time, decision.engines, strict=True):
        tokens = engine.max_num_batched_tokens
        full = model.step(prefill_sequences=1, prefill_tokens=tokens, prefill_work=tokens**2 / 2)
        seconds.append(full / tokens)
    return np.array(seconds)


def decode_token_seconds(decision: RoutingDecision) -> np.ndarray:
    """float64 (N,): seconds that one more token of context adds to a decode step.

    The slope between contexts of 1,024 and 2,048 tokens in a batch of 16.
    """
    batch, low, high = 16, 16 * 1024, 16 * 2048
    return np.array(
        [(m.step(batch, high) - m.step(batch, low)) / (high - low) for m in decision.step_time]
    )
