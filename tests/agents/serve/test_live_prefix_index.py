"""The index of one real replica: that of the simulator, without a simulation."""

import numpy as np
import pytest

from makespan.agents.serve.prefix_index import PrefixIndex, PrefixIndexes
from makespan.envs.llm.config import EngineConfig, FleetConfig, ReplicaConfig
from makespan.envs.llm.fleet import Fleet
from makespan.traces.workload import Request, Workload

NONE = np.zeros(0, np.int64)


def hashes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def random_prompts(seed: int, count: int, texts: int, longest: int) -> list[np.ndarray]:
    """Prompts that go some way along one of some texts, then perhaps end like no other."""
    rng = np.random.default_rng(seed)
    prompts = []
    for i in range(count):
        shared = 1000 * rng.integers(texts) + np.arange(rng.integers(longest))
        own = 10**9 + 1000 * i + np.arange(rng.integers(3))
        prompts.append(np.concatenate([shared, own]))
    return prompts


def simulated_answers(prompts: list[np.ndarray], replicas: int, blocks: int) -> np.ndarray:
    """What a fleet's index says of each prompt before it is sent to the replicas in turn."""
    requests = [
        Request(float(i), 16 * len(prompt) + 1, 1, tuple(prompt.tolist()))
        for i, prompt in enumerate(prompts)
    ]
    engine = ReplicaConfig(engine=EngineConfig(kv_blocks=1000))
    config = FleetConfig(replicas=(engine,) * replicas, prefix_index_blocks=blocks)
    fleet = Fleet(Workload.from_requests(requests), config)
    answers = []
    while (decision := fleet.next_decision()) is not None:
        answers.append(decision.prefix_tokens.copy())
        fleet.decide(len(answers) % replicas)
    return np.array(answers)


@pytest.mark.parametrize("blocks", [7, 40, 31_250])
@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_the_index_of_a_simulated_fleet(seed: int, blocks: int) -> None:
    prompts = random_prompts(seed, count=150, texts=5, longest=20)
    expected = simulated_answers(prompts, replicas=3, blocks=blocks)
    assert expected.any()
    indexes = [PrefixIndex(blocks) for _ in range(3)]
    together = PrefixIndexes(indexes)
    for i, (prompt, answer) in enumerate(zip(prompts, expected, strict=True)):
        found = together.matched_tokens(prompt)
        assert found.dtype == np.int64
        assert found.tolist() == answer.tolist()
        assert [index.matched_tokens(prompt) for index in indexes] == answer.tolist()
        r = (i + 1) % 3
        # What exceeds the index is not remembered, so it was not there either.
        assert indexes[r].remember(prompt) == answer[r]


def test_what_was_remembered_is_matched_as_far_as_it_agrees() -> None:
    index = PrefixIndex(100)
    assert index.remember(hashes(1, 2, 3)) == 0
    assert index.matched_tokens(hashes(1, 2, 3, 4)) == 48
    assert index.matched_tokens(hashes(1, 2, 9)) == 32
    assert index.matched_tokens(hashes(2, 3)) == 32  # hashes are chained: this is no other text
    assert index.remember(hashes(1, 2, 9)) == 32
    assert index.matched_tokens(hashes(1, 2, 3)) == 48


def test_what_was_used_least_recently_goes_first_and_the_end_before_the_beginning() -> None:
    index = PrefixIndex(4)
    for prompt in (hashes(1, 2), hashes(3, 4), hashes(5)):
        index.remember(prompt)
    assert index.matched_tokens(hashes(1, 2)) == 16
    index.remember(hashes(6, 7, 8, 9, 10))
    assert index.matched_tokens(hashes(6, 7, 8, 9, 10)) == 64
    assert index.matched_tokens(hashes(1)) == index.matched_tokens(hashes(3)) == 0


def test_forgetting_leaves_nothing_and_the_index_goes_on() -> None:
    index = PrefixIndex(8)
    for _ in range(3):
        assert index.remember(hashes(*range(8))) == 0
        assert index.matched_tokens(hashes(*range(8))) == 128
        index.forget()
        assert index.matched_tokens(hashes(0)) == 0


def test_an_empty_prompt_shares_nothing() -> None:
    index = PrefixIndex(8)
    index.remember(hashes(1))
    assert index.matched_tokens(NONE) == index.remember(NONE) == 0
    assert PrefixIndexes([index, index]).matched_tokens(NONE).tolist() == [0, 0]
    assert PrefixIndexes([]).matched_tokens(hashes(1)).tolist() == []


def test_indexes_do_not_see_each_other() -> None:
    one, other = PrefixIndex(8), PrefixIndex(8)
    one.remember(hashes(1, 2))
    assert other.matched_tokens(hashes(1, 2)) == 0
    assert PrefixIndexes([other, one]).matched_tokens(hashes(1, 2)).tolist() == [0, 32]


@pytest.mark.parametrize(
    "prompt",
    [
        np.array([5, 6, 7], np.int32),
        np.array([5, 0, 6, 0, 7, 0])[::2],
        np.array([7, 6, 5])[::-1],
        np.frombuffer(np.array([5, 6, 7], np.int64).tobytes(), np.int64),  # read-only
    ],
)
def test_hashes_may_lie_in_memory_as_they_like(prompt: np.ndarray) -> None:
    index = PrefixIndex(8)
    index.remember(prompt)
    assert index.matched_tokens(hashes(5, 6, 7)) == 48
    assert PrefixIndexes([index]).matched_tokens(prompt).tolist() == [48]


def test_the_caller_may_use_its_array_again() -> None:
    index = PrefixIndex(8)
    prompt = hashes(1, 2, 3)
    index.remember(prompt)
    prompt[:] = 9
    assert index.matched_tokens(hashes(1, 2, 3)) == 48
    assert index.matched_tokens(prompt) == 0


def test_an_index_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one block, not 0"):
        PrefixIndex(0)
