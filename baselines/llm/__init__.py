"""Router policies of the LLM serving world, published and simple, under one name each.

A policy maps a `RoutingDecision` (`makespan.envs.llm.decision`) to the index of a replica. A
stateless rule is a function; a rule with memory or randomness is a class whose instances are
called. A policy object belongs to one run: make a fresh one for every run.

    >>> from makespan.baselines.llm import make
    >>> rule = make("cache_aware", balance_abs=16)

`<rule>_tuned` is that rule with other constants: those that `makespan tune-rules` found best
on the episodes that agents are trained on.
"""

import functools
import inspect
import json
from pathlib import Path
from typing import Any

from makespan.envs.core.contract import Policy
from makespan.envs.core.registry import load

POLICIES = {
    "random": "makespan.baselines.llm.simple:Random",
    "round_robin": "makespan.baselines.llm.simple:RoundRobin",
    "power_of_two": "makespan.baselines.llm.simple:PowerOfTwo",
    "least_requests": "makespan.baselines.llm.simple:least_requests",
    "least_tokens": "makespan.baselines.llm.simple:least_tokens",
    "session_hash": "makespan.baselines.llm.simple:SessionHash",
    "vllm_dp": "makespan.baselines.llm.production:VllmDataParallel",
    "production_prefixaware": "makespan.baselines.llm.production:ProductionPrefixAware",
    "production_loadaware": "makespan.baselines.llm.production:production_loadaware",
    "cache_aware": "makespan.baselines.llm.production:cache_aware",
    "aibrix_prefix_cache": "makespan.baselines.llm.production:AibrixPrefixCache",
    "aibrix_least_latency": "makespan.baselines.llm.production:AibrixLeastLatency",
    "llmd_epp": "makespan.baselines.llm.production:LlmdEpp",
    "dynamo_kv": "makespan.baselines.llm.production:DynamoKv",
    "dynamo_kv_queue": "makespan.baselines.llm.production:DynamoKvQueue",
    "ray_prefix_affinity": "makespan.baselines.llm.production:RayPrefixAffinity",
    "lmetric": "makespan.baselines.llm.research:lmetric",
    "smetric": "makespan.baselines.llm.research:SMetric",
    "ttft_estimate": "makespan.baselines.llm.research:TtftEstimate",
    "mixing_impact": "makespan.baselines.llm.research:MixingImpact",
    "lookahead": "makespan.baselines.llm.lookahead:Lookahead",
    "lookahead_hold": "makespan.baselines.llm.lookahead:LookaheadHold",
}
"""Name of a router policy -> "module:object", a function or a class."""

_FOUND = json.loads(Path(__file__).with_name("tuned.json").read_text(encoding="utf-8"))

TUNED: dict[str, dict[str, float]] = {
    f"{rule}_tuned": found["constants"]
    for rule, found in _FOUND["rules"].items()
    if found["constants"]
}
"""Name of a tuned rule -> its constants."""

POLICIES |= {name: POLICIES[name.removesuffix("_tuned")] for name in TUNED}


def make(name: str, **settings: Any) -> Policy:
    """A fresh policy; `settings` replace the constants of the rule.

    Raises:
        ValueError: the name is not in `POLICIES`; the message offers the nearest names.
    """
    rule = load("router policy", POLICIES, name)
    settings = TUNED.get(name, {}) | settings
    if inspect.isfunction(rule):
        return functools.partial(rule, **settings) if settings else rule
    return rule(**settings)


def policy(name: str, seed: int = 0, **settings: Any) -> Policy:
    """A fresh policy as `make` makes it, its randomness (if any) drawn from `seed`.

    Raises:
        ValueError: the name is not in `POLICIES`; the message offers the nearest names.
    """
    rule = load("router policy", POLICIES, name)
    seeded = "seed" in inspect.signature(rule).parameters
    return make(name, seed=seed, **settings) if seeded else make(name, **settings)


def summary(name: str) -> str:
    """The first line of the policy's documentation."""
    rule = load("router policy", POLICIES, name)
    if name in TUNED:
        return f"{name.removesuffix('_tuned')} with constants that were tuned in training."
    return (inspect.getdoc(rule) or "").partition("\n")[0]
