"""A policy's choice, for use inside another router: a `RoutingDecision` in, a number out.

`LiveFleet` (`makespan.agents.serve.view`) makes the decisions. Tell it what happens, with times of
one clock: `send` when a request goes to a server, `count` when tokens come back, `finish` or `fail`
when it is over, `scraped` when a server's `/metrics` was read, `up` when a server may (not) be
chosen. It waits for nothing and looks at no clock.

    >>> import numpy as np
    >>> from makespan.agents.serve import choose
    >>> from makespan.agents.serve.view import Incoming, LiveFleet, Replica
    >>> from makespan.envs.llm.config import ReplicaConfig
    >>> from makespan.envs.llm.replica import resolve
    >>> server = resolve(ReplicaConfig("A100", "Llama-3-8B"))
    >>> fleet = LiveFleet([Replica(server), Replica(server)], can_hold=False)

    A request is its length, and one hash for each 16 tokens that stands for all up to their end
    (`makespan.agents.serve.prompt.read_prompt` makes both from the body of an OpenAI request):

    >>> chat = Incoming(index=0, arrival_s=5.0, prompt_tokens=50, prefix_hashes=np.array([7, 8, 9]))
    >>> choose(fleet.decision(chat, now=5.0))
    0
    >>> sent = fleet.send(0, chat, now=5.0)

    The next goes elsewhere, and what follows on it goes where its beginning is cached:

    >>> other = Incoming(index=1, arrival_s=5.1, prompt_tokens=50, prefix_hashes=np.array([1, 2]))
    >>> choose(fleet.decision(other, now=5.1))
    1
    >>> another = fleet.send(1, other, now=5.1)
    >>> for answer in (sent, another):
    ...     fleet.count(answer, tokens=1, now=5.2)
    ...     fleet.count(answer, tokens=1, now=5.3)
    ...     fleet.finish(answer, now=5.3)
    >>> turn = Incoming(index=2, arrival_s=6.0, prompt_tokens=70, prefix_hashes=np.array([1, 2, 3]))
    >>> choose(fleet.decision(turn, now=6.0))
    1

    Some policies read gauges, and a server that is down is not chosen:

    >>> fleet.replicas[1].scraped(now=6.1, running=9, waiting=9, kv_usage=1.0)
    >>> choose(fleet.decision(turn, now=6.2), "llmd_epp")
    0
    >>> fleet.replicas[1].up = False
    >>> choose(fleet.decision(turn, now=6.3))
    0
"""

from functools import lru_cache

from makespan.envs.core.contract import Policy
from makespan.envs.llm.decision import RoutingDecision

MOST_KEPT = 64
"""Policies that are kept; of more, the one that was asked longest ago is forgotten."""


def choose(decision: RoutingDecision, policy: str | Policy = "lmetric") -> int:
    """The number of the replica that the policy sends the request to.

    A policy that is named is made once for each number of replicas and kept, since some remember
    what they chose. So all fleets of that size in the process share it. Rules that look at the
    hardware at their first decision only (`ttft_estimate`, `mixing_impact`) do not notice that the
    same number of replicas are others. Where this matters give the policy itself:
    `makespan.agents.llm.named.named(name)(0)` makes a fresh one.

    Not to be called by several threads at once.

    Args:
        decision: what the router knows; see the top of this module.
        policy: a name in `makespan.baselines.llm.POLICIES` or `makespan.agents.shipped.AGENTS`, the
            folder of an agent, or a policy.

    Returns:
        From 0 to N - 1; or N, to keep the request for now, where the decision allows that.

    Raises:
        ValueError: there is no such policy, it does not route for so many replicas, or it chose
            what is not possible.
    """
    rule = _kept(policy, decision.replicas) if isinstance(policy, str) else policy
    action, mask = int(rule(decision)), decision.action_mask
    if not (0 <= action < len(mask) and mask[action]):
        raise ValueError(f"policy {policy!r} chose {action}, which is not possible")
    return action


@lru_cache(MOST_KEPT)
def _kept(name: str, replicas: int) -> Policy:
    # Only now: whoever imports this for another policy needs neither agents nor compiled rules.
    from makespan.agents.llm.named import named, only_size

    make, size = named(name), only_size(name)
    if size not in (None, replicas):
        raise ValueError(f"{name} routes for {size} replicas, not for {replicas}")
    return make(0)
