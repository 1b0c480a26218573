"""The router's prefix index, as decisions show it."""

import numpy as np
import pytest
from toy_fleets import due, fleet_of, replica

from makespan.traces.workload import Request


def test_prefix_tokens_are_what_was_sent_where():
    shared = tuple(range(10))
    requests = [
        Request(0.0, 165, 2, shared),
        Request(1.0, 100, 2, shared),
        Request(2.0, 100, 2, (*shared[:3], 77)),
    ]
    fleet = fleet_of(requests, replica(), replica())
    assert due(fleet).prefix_tokens.tolist() == [0, 0]
    fleet.decide(1)
    assert due(fleet).prefix_tokens.tolist() == [0, 96]
    fleet.decide(0)
    assert due(fleet).prefix_tokens.tolist() == [48, 48]


def index_answers(prompts, blocks):
    """What the index of one replica answers to each prompt, given as a tuple of hashes."""
    requests = [Request(float(i), 16 * len(p) + 1, 1, p) for i, p in enumerate(prompts)]
    fleet = fleet_of(requests, prefix_index_blocks=blocks)
    found = []
    while (decision := fleet.next_decision()) is not None:
        found.append(int(decision.prefix_tokens[0]) // 16)
        fleet.decide(0)
    return found


def test_the_prefix_index_forgets_what_was_used_least_recently():
    a, b, c = (1, 2), (3, 4), (5, 6)
    assert index_answers([a, b, c, a, b, c], blocks=6) == [0, 0, 0, 2, 2, 2]
    # Room for two prompts: the third pushes out the first, whose return pushes out the second ...
    assert index_answers([a, b, c, a, b, c], blocks=4) == [0] * 6
    # ... unless it was used again before the third came.
    assert index_answers([a, b, a, c, a, b], blocks=4) == [0, 0, 2, 0, 2, 0]
    # The end of a prompt goes before its beginning.
    assert index_answers([a, b, (5,), a, b], blocks=4) == [0, 0, 0, 1, 1]


def test_the_prefix_index_keeps_the_beginning_of_what_exceeds_it():
    long = tuple(range(10))
    assert index_answers([long, long, long[:3]], blocks=4) == [0, 4, 3]


@pytest.mark.parametrize("seed", range(5))
def test_the_prefix_index_is_a_list_of_recent_use(seed):
    """Against a plain list; some prompts repeat a hash, which no chain does."""
    rng = np.random.default_rng(seed)
    prompts = []
    for _ in range(200):
        text = 100 * int(rng.integers(6))
        prompt = [text + k for k in range(rng.integers(1, 12))]
        if rng.random() < 0.1:
            prompt += prompt[: rng.integers(1, 4)]
        prompts.append(tuple(prompt))
    recent: list[int] = []  # what was used last comes first
    expected = []
    for prompt in prompts:
        found = [h in recent for h in prompt]
        expected.append(found.index(False) if False in found else len(prompt))
        place = 0
        for h in prompt:
            if h in recent[max(0, place - 1) : place]:
                continue
            if h in recent:
                place -= recent.index(h) < place
                recent.remove(h)
            elif len(recent) == 20:
                recent.pop()
            recent.insert(place, h)
            place += 1
    assert index_answers(prompts, blocks=20) == expected
