"""Policies of routers that run in production, one section per system.

Constants are the defaults of the named version. Where a router matches prefixes in characters,
tokens stand for them here at four characters a token, and the router's approximate prefix index
(blocks of tokens, bounded) stands for its radix tree or hash trie. "Own accounting" is what the
router itself sent and saw stream back; "gauges" are polled and stale, and read as 0 before the
first scrape.
"""

import math

import numpy as np

from makespan.baselines.llm.simple import draw, draw_lowest, lowest_from, may_hold
from makespan.envs.core.compiled import kernel
from makespan.envs.llm.decision import RoutingDecision

CHARACTERS_PER_TOKEN = 4
"""`averageCharactersPerToken` of llm-d's approximate prefix plugin."""


def known(gauge: np.ndarray) -> np.ndarray:
    """The gauge with 0 where it was never scraped (gauges are not negative)."""
    return np.fmax(gauge, 0)


# vLLM ---------------------------------------------------------------------------------------


class VllmDataParallel:
    """vLLM's own balancer between data-parallel engines: in flight against waiting + running.

    score = max(client_count * own in flight, waiting + running)
            + 6 * waiting * max(0, kv_usage - 0.5)

    Lowest wins. The chosen engine's waiting count is raised by `client_count` until the next
    scrape of it, and the engine that the scan starts at (it wins ties) moves on by one with each
    request. Reads own accounting and gauges.

    Source: vLLM 0.32, `vllm/v1/engine/core_client.py`, `get_core_engine_for_request`.

    Args:
        client_count: API servers in front of the same engines.
    """

    def __init__(self, client_count: int = 1) -> None:
        self._client_count = client_count
        self._start = 0
        self._sent = np.zeros(0)
        self._scraped = np.zeros(0)

    def _forget_before_scrape(self, now: float, age_s: np.ndarray) -> None:
        if len(self._sent) != len(age_s):
            self._sent, self._scraped = np.zeros(len(age_s)), np.full(len(age_s), -np.inf)
        scraped = now - age_s
        fresh = scraped > self._scraped + 1e-9
        self._sent[fresh] = 0
        self._scraped = np.where(fresh, scraped, self._scraped)

    def __call__(self, decision: RoutingDecision) -> int:
        gauges = decision.gauges
        self._forget_before_scrape(decision.time, gauges.age_s)
        waiting = known(gauges.waiting) + self._sent
        pressure = np.maximum(known(gauges.kv_usage) - 0.5, 0)
        inflight = self._client_count * decision.requests
        load = np.maximum(inflight, waiting + known(gauges.running))
        choice = lowest_from(decision, load + 6 * waiting * pressure, self._start)
        if choice < decision.replicas:
            self._sent[choice] += self._client_count
            self._start += 1
        return choice


# vLLM production-stack ----------------------------------------------------------------------


class ProductionPrefixAware:
    """production-stack `prefixaware`: the longest cached prefix, whatever the load.

    Matches count in chunks of 128 characters (32 tokens); equals are drawn at random, so a prompt
    that matches nowhere goes anywhere. Reads the prefix index alone.

    Source: vLLM production-stack a6c01db0, `src/vllm_router/routers/routing_logic.py`
    (`PrefixAwareRouter`, minimum match 0) and `src/vllm_router/prefix/hashtrie.py` (no eviction
    there; the index here is bounded).
    """

    CHUNK_TOKENS = 128 // CHARACTERS_PER_TOKEN

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, decision: RoutingDecision) -> int:
        chunks = decision.prefix_tokens // self.CHUNK_TOKENS
        return draw_lowest(decision, -chunks, self._random)


def production_loadaware(decision: RoutingDecision, beta: float = 1.0) -> int:
    """production-stack `loadaware`: cached share of the prompt minus relative load.

    score = matched / prompt - beta * (load - mean) / max(1, mean), highest wins, the first of
    equals. Load is the router's own count of requests in flight; its mean is over the replicas
    that are up.

    Source: vLLM production-stack, pull request 1035 (`LoadAwareRouter`).

    Args:
        beta: how much of a full hit an excess load of 100 % costs.
    """
    load, healthy = decision.requests, decision.healthy
    mean = float(load @ healthy) / max(1, np.count_nonzero(healthy))
    matched = decision.prefix_tokens / decision.request.prompt_tokens
    return decision.lowest(beta * (load - mean) / max(1.0, mean) - matched)


# vllm-project/router and the SGLang gateway -------------------------------------------------


def cache_aware(
    decision: RoutingDecision,
    cache_threshold: float = 0.5,
    balance_abs: int = 32,
    balance_rel: float = 1.1,
) -> int:
    """vllm-router and SGLang `cache_aware`: longest prefix, unless load is out of balance.

    If max - min > `balance_abs` and max > `balance_rel` * min, the least loaded replica; else the
    replica with the longest match if that is more than `cache_threshold` of the prompt; else the
    least loaded one. The first of equals. Load is the router's own count of requests in flight,
    its extremes over all replicas, also those that are down, as in the source.

    Source: vllm-project/router `src/policies/cache_aware.rs`; SGLang
    `sgl-model-gateway/src/policies/cache_aware.rs`. (Earlier versions sent a cold prompt to the
    replica with the smallest tree.)
    """
    load = decision.requests
    high, low = load[load.argmax()], load[load.argmin()]
    if high - low > balance_abs and high > balance_rel * low:
        return decision.lowest(load)
    matched = decision.prefix_tokens
    best = decision.lowest(-matched)
    if best < len(matched) and matched[best] > cache_threshold * decision.request.prompt_tokens:
        return best
    return decision.lowest(load)


# AIBrix -------------------------------------------------------------------------------------


class AibrixPrefixCache:
    """AIBrix `prefix-cache`: longest prefix among replicas that are not overloaded.

    If max - min requests exceeds `imbalance`, only the least loaded replicas may match. Of the
    replicas with a match and at most mean + `deviations` * sigma requests, the longest match (in
    whole percent of the prompt) wins, then the fewest requests, then a draw; if there is none, a
    replica with the fewest requests, drawn. Load is the gateway's own count; sigma is the sample
    deviation.

    Source: AIBrix e3e10f9e, `pkg/plugins/gateway/algorithms/prefix_cache.go` and `util.go` (the
    code's defaults; its README says 16 and 2).
    """

    def __init__(self, imbalance: int = 8, deviations: float = 1.0, seed: int = 0) -> None:
        self._imbalance = imbalance
        self._deviations = deviations
        self._random = np.random.default_rng(seed)

    def __call__(self, decision: RoutingDecision) -> int:
        load, healthy = decision.requests, decision.healthy
        ready = load[healthy]
        if len(ready) == 0:
            return decision.replicas
        mean = ready.sum() / len(ready)
        sigma = math.sqrt(((ready - mean) ** 2).sum() / max(1, len(ready) - 1))
        percent = 100 * decision.prefix_tokens // decision.request.prompt_tokens
        allowed = healthy & (percent > 0) & (load <= mean + self._deviations * sigma)
        if ready.max() - ready.min() > self._imbalance:
            allowed &= load == ready.min()
        if not allowed.any():
            return draw_lowest(decision, load, self._random)
        longest = allowed & (percent == percent[allowed].max())
        fewest = longest & (load == load[longest].min())
        return draw(decision, np.flatnonzero(fewest), self._random)


class AibrixLeastLatency:
    """AIBrix `least-latency`: lowest mean queue, prefill and decode time of past requests.

    score = queue + prefill / own mean prompt * mean prompt + decode / own mean output * mean
    output, where the means without "own" are over replicas (10 and 100 tokens until something
    finished). A replica with no history scores 0, as an empty histogram does; the first of equals.

    AIBrix reads these means from engine histograms every 50 ms. Here they come from what the
    router saw of the last requests of each replica: the time to the first token is divided
    between queue and prefill in proportion to the tokens ahead of the request and its own.

    Source: AIBrix e3e10f9e, `pkg/plugins/gateway/algorithms/least_latency.go`; refresh interval
    `pkg/cache/cache_metrics.go`. (In that version the queue term of a histogram reads 0, since
    `GetSimpleValue` of a histogram does, `pkg/metrics/types.go`; here it counts, as intended.)

    Args:
        refresh_s: seconds for which the means are kept.
    """

    def __init__(self, refresh_s: float = 0.05) -> None:
        self._refresh_s = refresh_s
        self._refreshed_s = -np.inf
        self._scores = np.zeros(0)

    def __call__(self, decision: RoutingDecision) -> int:
        if decision.time >= self._refreshed_s + self._refresh_s:
            self._refreshed_s = decision.time
            self._scores = self._expected_seconds(decision)
        return decision.lowest(self._scores)

    @staticmethod
    def _expected_seconds(decision: RoutingDecision) -> np.ndarray:
        means = np.array([_history_means(decision.recent(i)) for i in range(decision.replicas)])
        queue, prefill, decode, prompt, output = means.T
        guess_prompt = prompt[prompt > 0].mean() if prompt.any() else 10.0
        guess_output = output[output > 0].mean() if output.any() else 100.0
        prefill = prefill * guess_prompt / np.where(prompt > 0, prompt, guess_prompt)
        decode = decode * guess_output / np.where(output > 0, output, guess_output)
        return queue + prefill + decode


@kernel
def _history_means(recent):
    """Means of rows of `RECENT`: queue, prefill, decode seconds; prompt and output tokens.

    All 0 where nothing has finished.
    """
    queue, prefill, decode, prompt, output = 0.0, 0.0, 0.0, 0.0, 0.0
    for row in recent:
        own = max(row["uncached_tokens"], 1)
        share = own / (own + row["queued_tokens"])
        prefill += row["ttft_s"] * share
        queue += row["ttft_s"] * (1 - share)
        if row["output_tokens"] > 1:
            decode += row["tpot_s"] * (row["output_tokens"] - 1)
        prompt += row["prompt_tokens"]
        output += row["output_tokens"]
    n = max(len(recent), 1)
    return queue / n, prefill / n, decode / n, prompt / n, output / n


# llm-d --------------------------------------------------------------------------------------


class LlmdEpp:
    """llm-d endpoint picker, default profile: queue 2, KV-cache utilization 2, prefix cache 3.

    score = queue * (max - waiting) / (max - min) + kv * (1 - kv_usage)
            + prefix * matched blocks / prompt blocks

    Highest wins, equals are drawn. The queue term is 1 when all queues are equal; extremes are
    over the replicas that are up. Prompts count up to 256 blocks, a partial last block included.
    Reads gauges (waiting, KV usage) and the prefix index.

    Source: llm-d endpoint picker, `config/charts/*/templates/_config.yaml` (weights), the scorers
    `queuedepth`, `kvcacheutilization` and `prefix`, the picker `maxscore`, and
    `approximateprefix/types.go` (`defaultMaxPrefixBlocks`).
    """

    def __init__(
        self,
        queue: float = 2.0,
        kv: float = 2.0,
        prefix: float = 3.0,
        max_prefix_blocks: int = 256,
        seed: int = 0,
    ) -> None:
        self._queue, self._kv, self._prefix = queue, kv, prefix
        self._max_prefix_blocks = max_prefix_blocks
        self._random = np.random.default_rng(seed)

    def __call__(self, decision: RoutingDecision) -> int:
        gauges = decision.gauges
        score = (
            self._queue * _shortness(known(gauges.waiting), decision.healthy)
            + self._kv * (1 - known(gauges.kv_usage))
            + self._prefix * self._match(decision)
        )
        return draw_lowest(decision, -score, self._random)

    def _match(self, decision: RoutingDecision) -> np.ndarray:
        """Matched share of the prompt's blocks, float64 (N,)."""
        size, limit = decision.block_size, self._max_prefix_blocks
        blocks = np.minimum(-(-decision.request.prompt_tokens // size), limit)
        return np.minimum(decision.prefix_tokens // size, limit) / blocks


def _shortness(waiting: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """1 for the shortest queue, 0 for the longest, 1 for all if they are equal; shape (N,)."""
    low = np.where(healthy, waiting, np.inf).min()
    high = np.where(healthy, waiting, -np.inf).max()
    return (high - waiting) / (high - low) if high > low else np.ones(len(waiting))


# NVIDIA Dynamo ------------------------------------------------------------------------------


class DynamoKv:
    """NVIDIA Dynamo KV router: prefill blocks to compute plus blocks in use.

    cost = prefill_load_scale * max(active prefill blocks + prompt blocks - overlap_credit *
    matched blocks, 0) + decode blocks

    Lowest wins, equals are drawn (temperature 0). Decode blocks are those of all requests in
    flight, in prefill too; the new request's own are the same everywhere and left out. Reads own
    accounting and the prefix index, all in the KV blocks of each replica.

    Source: Dynamo `lib/kv-router/src/scheduling/selector/default.rs` and
    `docs/components/router/router-configuration.md`; GPU-resident overlap only.

    Args:
        prefill_load_scale: `--router-prefill-load-scale`.
        overlap_credit: `--router-kv-overlap-score-credit`.
        queue_threshold: `--router-queue-threshold`, see `DynamoKvQueue`; inf: never hold.
    """

    def __init__(
        self,
        prefill_load_scale: float = 1.0,
        overlap_credit: float = 1.0,
        queue_threshold: float = np.inf,
        seed: int = 0,
    ) -> None:
        self._prefill_load_scale = prefill_load_scale
        self._overlap_credit = overlap_credit
        self._queue_threshold = queue_threshold
        self._random = np.random.default_rng(seed)

    def __call__(self, decision: RoutingDecision) -> int:
        if may_hold(decision) and self._all_busy(decision):
            return decision.replicas
        pending = decision.prefill_tokens
        prefill = pending + decision.request.prompt_tokens
        prefill = np.maximum(prefill - self._overlap_credit * decision.prefix_tokens, 0)
        cost = self._prefill_load_scale * prefill + pending + decision.decode_tokens
        return draw_lowest(decision, cost / decision.block_size, self._random)

    def _all_busy(self, decision: RoutingDecision) -> bool:
        """Whether every healthy replica has more prompt tokens in flight than the threshold."""
        budgets = np.array([engine.max_num_batched_tokens for engine in decision.engines])
        busy = decision.prefill_tokens > self._queue_threshold * budgets
        return bool(busy[decision.healthy].all())


class DynamoKvQueue(DynamoKv):
    """NVIDIA Dynamo KV router with its queue: requests wait while all replicas have prompts to do.

    A request is held while the active prefill tokens of every replica that is up exceed
    queue_threshold * max_num_batched_tokens. Which of those held goes first is the fleet's
    (`FleetConfig.hold_order`, Dynamo's `fcfs` and `wspt`). Dynamo looks at its queue whenever
    prefill tokens are freed; here a held request is due again when a request finishes. Does not
    hold where the fleet gives no such choice. All else is `DynamoKv`.

    Source: Dynamo `docs/components/router/router-configuration.md` (`--router-queue-threshold`;
    off unless given) and `lib/kv-router/src/scheduling/queue.rs` (`all_workers_busy`). The
    threshold is the last default before the queue became optional, 16 (it had been 2 and 4).
    """

    def __init__(
        self,
        prefill_load_scale: float = 1.0,
        overlap_credit: float = 1.0,
        queue_threshold: float = 16.0,
        seed: int = 0,
    ) -> None:
        super().__init__(prefill_load_scale, overlap_credit, queue_threshold, seed)


# Ray Serve LLM ------------------------------------------------------------------------------


class RayPrefixAffinity:
    """Ray Serve LLM `PrefixCacheAffinityRouter`: longest prefix, else the smallest prefix tree.

    If max - min requests exceeds `imbalanced_threshold` (never, by default), the shorter queue of
    two replicas drawn at random. Else the replicas with the longest match if it is at least
    `match_rate_threshold` of the prompt, otherwise those with the fewest tokens in the prefix tree;
    among these the shortest queue, equals drawn. Reads own accounting and the prefix index; tree
    sizes are the prompt tokens sent to a replica and not matched there (no eviction, Ray's
    default).

    Source: Ray, `python/ray/llm/_internal/serve/routing_policies/prefix_aware/
    prefix_aware_router.py`.
    """

    def __init__(
        self,
        imbalanced_threshold: float = np.inf,
        match_rate_threshold: float = 0.1,
        seed: int = 0,
    ) -> None:
        self._imbalanced_threshold = imbalanced_threshold
        self._match_rate_threshold = match_rate_threshold
        self._random = np.random.default_rng(seed)
        self._tree_tokens = np.zeros(0, np.int64)

    def __call__(self, decision: RoutingDecision) -> int:
        if len(self._tree_tokens) != decision.replicas:
            self._tree_tokens = np.zeros(decision.replicas, np.int64)
        prompt, matched = decision.request.prompt_tokens, decision.prefix_tokens
        candidates = self._candidates(decision, prompt, matched)
        load = np.where(candidates, decision.requests, np.inf)
        choice = draw_lowest(decision, load, self._random)
        if choice < decision.replicas:
            self._tree_tokens[choice] += prompt - matched[choice]
        return choice

    def _candidates(
        self, decision: RoutingDecision, prompt: int, matched: np.ndarray
    ) -> np.ndarray:
        """bool (N,): the replicas of which the shortest queue is to be taken."""
        healthy = decision.healthy
        load = decision.requests[healthy]
        if len(load) == 0:
            return healthy
        if load.max() - load.min() > self._imbalanced_threshold:
            pair = self._random.permutation(np.flatnonzero(healthy))[:2]
            return np.isin(np.arange(decision.replicas), pair)
        longest = matched[healthy].max()
        if longest < self._match_rate_threshold * prompt:
            return self._tree_tokens == self._tree_tokens[healthy].min()
        return matched == longest
