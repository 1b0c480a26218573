"""`lookahead`: simulate every candidate to the end with what the router knows, and choose.

The small simulation follows the engine's step rules (decodes first, then prompts in order, chunked
to the token budget) without its block pool: prompts are admitted while their tokens fit in the KV
capacity, and nothing is preempted. It steps only while prompts are computed; a run of pure decode
steps is jumped to its next completion in closed form.
"""

import math

import numpy as np

from makespan.baselines.llm.simple import may_hold
from makespan.envs.core.compiled import kernel
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.observation import prefill_token_s
from makespan.envs.llm.step_kernels import decode_run_seconds, step_seconds

MEAN_OUTPUT_TOKENS = 211.1
"""Stands in for a missing prediction: mean output of the Azure 2023 conversation trace."""


@kernel
def _output_left(row, missing_output):
    """Tokens a request in flight has still to generate, at least 1."""
    predicted = row["predicted_tokens"]
    if math.isnan(predicted):
        predicted = missing_output
    return max(round(predicted) - row["streamed_tokens"], 1)


@kernel
def _insert(ends, bases, count, end, base):
    """Put a request into the first `count` decoding ones, which are sorted by falling end."""
    i = count
    while i > 0 and ends[i - 1] < end:
        ends[i] = ends[i - 1]
        bases[i] = bases[i - 1]
        i -= 1
    ends[i] = end
    bases[i] = base


@kernel
def _admit(lefts, prompts, head, started, decoding, held, budget, max_sequences, kv_tokens):
    """Share the token budget among the prompts from `head` on; what `lefts` loses is computed.

    Returns: first prompt that is not complete; tokens, sequences, attention work (sum of chunk *
    (computed + chunk / 2)) and computed tokens of the prompts in this step.
    """
    tokens, sequences, work, computed = 0, 0, 0.0, 0
    while head < len(lefts) and tokens < budget - decoding:
        if not (started and sequences == 0):
            alone = decoding + sequences == 0
            full = decoding + sequences >= max_sequences or held + prompts[head] > kv_tokens
            if full and not alone:
                break
        held += prompts[head]
        chunk = min(budget - decoding - tokens, lefts[head])
        done = prompts[head] - lefts[head]
        tokens += chunk
        sequences += 1
        work += chunk * (done + 0.5 * chunk)
        computed += done
        lefts[head] -= chunk
        if lefts[head] > 0:
            break
        head += 1
    return head, tokens, sequences, work, computed


@kernel
def _run(model, ends, bases, decoding, prompts, lefts, outputs, budget, max_sequences, kv_tokens):
    """Seconds from now until each request finishes, summed.

    A tick is one step. A decoding request finishes at its end tick and holds base + tick tokens.

    Args:
        ends, bases: int64, room for every request; the first `decoding` are filled.
        prompts, lefts, outputs: int64, the prompts in order: all tokens, tokens to be computed,
            output tokens.
    """
    now, total = 0.0, 0.0
    tick, head = 0, 0
    started = False
    base_sum = bases[:decoding].sum()
    while decoding > 0 or head < len(prompts):
        context = base_sum + decoding * tick
        first = head
        head, tokens, sequences, work, computed = _admit(
            lefts, prompts, head, started, decoding, context, budget, max_sequences, kv_tokens
        )
        if tokens > 0:
            now += step_seconds(
                model,
                decoding + tokens,
                decoding + sequences,
                decoding,
                context,
                sequences,
                tokens,
                work,
                computed,
            )
            tick += 1
            started = sequences > head - first
        else:
            steps = ends[decoding - 1] - tick
            now += decode_run_seconds(model, decoding, context, steps)
            tick += steps
        while decoding > 0 and ends[decoding - 1] == tick:
            decoding -= 1
            base_sum -= bases[decoding]
            total += now
        for i in range(first, head):
            if outputs[i] == 1:
                total += now
                continue
            base = prompts[i] + 1 - tick
            _insert(ends, bases, decoding, tick + outputs[i] - 1, base)
            decoding += 1
            base_sum += base
    return total


@kernel
def added_seconds(
    model, rows, prompt, uncached, output, missing_output, budget, max_sequences, kv_tokens
):
    """Growth of the total latency of a replica if it takes one more request.

    Args:
        model: packed step-time model.
        rows: rows of `IN_FLIGHT`, what the replica holds.
        prompt, uncached, output: tokens of the new request; uncached at least 1.
        missing_output: output tokens where there is no prediction.
        budget, max_sequences: of a step.
        kv_tokens: KV capacity.

    Returns: latency of the new request plus what it adds to that of the others, in seconds.
    """
    n = len(rows)
    ends = np.empty((2, n + 1), np.int64)
    bases = np.empty((2, n + 1), np.int64)
    prompts = np.empty(n + 1, np.int64)
    lefts = np.empty((2, n + 1), np.int64)
    outputs = np.empty(n + 1, np.int64)
    decoding, queued = 0, 0
    for i in range(n):
        left = _output_left(rows[i], missing_output)
        if rows[i]["streamed_tokens"] > 0:
            base = rows[i]["prompt_tokens"] + rows[i]["streamed_tokens"]
            _insert(ends[0], bases[0], decoding, left, base)
            decoding += 1
        else:
            prompts[queued] = rows[i]["prompt_tokens"]
            lefts[0, queued] = max(rows[i]["uncached_tokens"], 1)
            outputs[queued] = left
            queued += 1
    prompts[queued], lefts[0, queued], outputs[queued] = prompt, uncached, output
    ends[1], bases[1], lefts[1] = ends[0], bases[0], lefts[0]
    totals = np.empty(2)
    for new in range(2):
        stop = queued + new
        totals[new] = _run(
            model,
            ends[new],
            bases[new],
            decoding,
            prompts[:stop],
            lefts[new, :stop],
            outputs[:stop],
            budget,
            max_sequences,
            kv_tokens,
        )
    return totals[1] - totals[0]


class Lookahead:
    """Simulate each candidate with the step-time model; take the smallest added total latency.

    Added total latency is the new request's own plus what it adds to the requests in flight, if
    every output has its predicted length and nothing else arrives. A request that has outlived its
    prediction counts as one token from its end. Reads own accounting, predictions, the prefix
    index, the step-time models and the engine configurations; no gauges. The first of equals.

    Source: this project. Simulating candidates before dispatch is also the idea of the min-min
    heuristic (Ibarra and Kim, JACM 1977) and of llm-d's predicted-latency scheduling.

    Args:
        missing_output: output tokens where there is no prediction.
    """

    def __init__(self, missing_output: float = MEAN_OUTPUT_TOKENS) -> None:
        self._missing_output = missing_output
        self._replicas: list[tuple[np.ndarray, int, int, int]] = []

    def __call__(self, decision: RoutingDecision) -> int:
        return decision.lowest(self.added_seconds(decision))

    def added_seconds(self, decision: RoutingDecision) -> np.ndarray:
        """float64 (N,): added total latency of each candidate; inf for those that are down."""
        self._replicas = self._replicas or profiles(decision)
        request, healthy = decision.request, decision.healthy
        output = self._missing_output
        if not math.isnan(request.predicted_tokens):
            output = request.predicted_tokens
        uncached = np.maximum(request.prompt_tokens - decision.prefix_tokens, 1).tolist()
        added = np.full(decision.replicas, np.inf)
        for replica in np.flatnonzero(healthy).tolist():
            model, *limits = self._replicas[replica]
            added[replica] = added_seconds(
                model,
                decision.in_flight(replica),
                request.prompt_tokens,
                uncached[replica],
                max(round(output), 1),
                self._missing_output,
                *limits,
            )
        return added


class LookaheadHold(Lookahead):
    """`lookahead`'s choice, unless prompts are queued there: then the router holds the request.

    An engine serves prompts in the order in which they came. What the router keeps can still be
    overtaken by shorter requests (`FleetConfig.hold_order`), and can still go elsewhere. Sending
    while some backlog is left keeps the replica busy until the router looks again. Does not hold
    where the fleet gives no such choice.

    Source: this project. Queueing in the router is also what Dynamo's `--router-queue-threshold`
    does, by tokens and in the order of arrival.

    Args:
        limit_s: backlog, in seconds of prompts to be computed, above which a request is held.
        missing_output: see `Lookahead`.
    """

    def __init__(self, limit_s: float = 0.4, missing_output: float = MEAN_OUTPUT_TOKENS) -> None:
        super().__init__(missing_output)
        self.limit_s = limit_s
        self._prefill_token_s: list[float] = []

    def __call__(self, decision: RoutingDecision) -> int:
        replica = super().__call__(decision)
        down = replica == decision.replicas
        if may_hold(decision) and not down and self.is_full(decision, replica):
            return decision.replicas
        return replica

    def is_full(self, decision: RoutingDecision, replica: int) -> bool:
        """Whether the backlog of `replica` is above the limit."""
        return self.backlog_s(decision, replica) > self.limit_s

    def backlog_s(self, decision: RoutingDecision, replica: int) -> float:
        """Seconds that `replica` takes to compute the prompts that it has not computed yet."""
        if not self._prefill_token_s:
            self._prefill_token_s = [prefill_token_s(model) for model in decision.step_time]
        return decision.prefill_tokens.item(replica) * self._prefill_token_s[replica]


def profiles(decision: RoutingDecision) -> list[tuple[np.ndarray, int, int, int]]:
    """Per replica: packed step-time model, token budget, longest batch, KV capacity in tokens."""
    capacities = ((decision.kv_blocks - 1) * decision.block_size).tolist()
    profiles = []
    for model, engine, capacity in zip(
        decision.step_time, decision.engines, capacities, strict=True
    ):
        budget, sequences = engine.max_num_batched_tokens, engine.max_num_seqs
        if budget < 1 or sequences < 1:
            raise ValueError(
                "lookahead needs max_num_batched_tokens and max_num_seqs of every engine "
                "(makespan.envs.llm.replica.resolve fills them in)"
            )
        profiles.append((model.pack(), budget, sequences, capacity))
    return profiles
