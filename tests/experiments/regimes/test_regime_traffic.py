"""Where requests come from: windows of traces, and what stands in for a trace that is not here."""

import json

import numpy as np
import pytest

from makespan.agents.llm.episodes import HARDWARE
from makespan.experiments.regimes.regime import FLEETS, LOADS, SUITES, WORKLOADS
from makespan.experiments.regimes.traffic import Traffic, find, held_out
from makespan.traces import catalogue
from makespan.traces.synthetic import synthetic

AZURE = WORKLOADS["azure"]
MOONCAKE = WORKLOADS["mooncake"]


@pytest.fixture(autouse=True)
def nothing_fetched(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(catalogue, "cache_folder", lambda: folder)
    return folder


def azure_file(folder, requests=100):
    """A trace whose k-th request has k + 1 prompt tokens."""
    path = folder / AZURE.files[0]
    rows = [f"2023-11-16 18:{k // 60:02}:{k % 60:02}.0,{k + 1},10" for k in range(requests)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    return path


def mooncake_file(folder):
    path = folder / MOONCAKE.files[0]
    rows = [
        {"timestamp": 1000 * k, "input_length": 600 + k, "output_length": 5, "hash_ids": [0, k + 1]}
        for k in range(50)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_there_are_24_regimes_with_names_of_their_own():
    regimes = SUITES["regimes"]
    assert len(regimes) == len({regime.name for regime in regimes}) == 24
    assert {regime.load for regime in regimes} == set(LOADS)
    assert regimes[0].name == "mooncake 4xA100 0.5"
    assert {len(FLEETS[regime.fleet]) for regime in regimes} == {4}


def test_unseen_regimes_are_others():
    seen, unseen = ({regime.name for regime in SUITES[name]} for name in ("regimes", "unseen"))
    assert not seen & unseen
    assert {len(FLEETS[regime.fleet]) for regime in SUITES["unseen"]} == {4, 16, 64}
    trained_on = set(HARDWARE)
    assert not trained_on & set(FLEETS["newGPUs"])


@pytest.mark.parametrize("kind", WORKLOADS.values(), ids=WORKLOADS)
def test_every_kind_can_be_had_without_its_trace(kind):
    found = find(kind, "")
    assert found == Traffic(kind, None)
    assert found.origin == f"synthetic {kind.synthetic}"
    assert found.stands_in == bool(kind.public)
    assert len(found.draw(20, 2.0, seed=0)) == 20


def test_the_catalogue_fetches_under_the_names_that_are_looked_for():
    for kind in (AZURE, MOONCAKE):
        assert catalogue.source(kind.public).filename in kind.files


def test_a_trace_is_taken_from_the_folder_that_is_named_or_from_the_cache(
    tmp_path, nothing_fetched
):
    fetched = azure_file(nothing_fetched)
    assert find(AZURE, "").file == fetched
    assert find(AZURE, str(tmp_path)).file == fetched
    named = azure_file(tmp_path)
    assert find(AZURE, str(tmp_path)).file == named
    assert not find(AZURE, "").stands_in


def test_windows_of_mooncake_come_from_anywhere(tmp_path):
    mooncake_file(tmp_path)
    found = find(MOONCAKE, str(tmp_path))
    starts = {int(found.draw(10, 1.0, seed).prompt_tokens[0]) for seed in range(60)}
    assert min(starts) < 605
    assert max(starts) > 635
    assert len(found.sample()) == 50


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="--data"):
        find(AZURE, str(tmp_path / "nowhere"))


def test_windows_are_consecutive_requests_of_the_second_half(tmp_path):
    found = Traffic(AZURE, azure_file(tmp_path))
    starts = set()
    for seed in range(200):
        tokens = found.draw(10, 3.0, seed).prompt_tokens
        np.testing.assert_array_equal(tokens, np.arange(10) + tokens[0])
        starts.add(int(tokens[0]))
    assert min(starts) == 51
    assert max(starts) == 91
    assert len(held_out(azure_file(tmp_path), 0.5)) == len(found.sample()) == 50


def test_too_short_a_trace_is_an_error(tmp_path):
    found = Traffic(AZURE, azure_file(tmp_path))
    found.check(50)
    with pytest.raises(ValueError, match=r"--requests 51: .* has 50 to compare on"):
        found.check(51)


def test_every_draw_has_the_rate_and_every_seed_its_own(tmp_path):
    for found in (Traffic(AZURE, azure_file(tmp_path)), find(WORKLOADS["sessions"], "")):
        first, again, other = (found.draw(20, 3.0, seed) for seed in (1, 1, 2))
        assert first.rate == pytest.approx(3.0)
        np.testing.assert_array_equal(first.arrival_s, again.arrival_s)
        assert not np.array_equal(first.prompt_tokens, other.prompt_tokens)


def test_the_sample_is_no_cells_draw():
    found = find(WORKLOADS["sessions"], "")
    sample = found.sample()
    assert len(sample) == 10_000
    np.testing.assert_array_equal(
        sample.prompt_tokens, synthetic("sharegpt_sessions", 10_000, seed=0).prompt_tokens
    )
    for seed in range(10):
        drawn = found.draw(20, sample.rate, seed)
        assert not np.array_equal(drawn.prompt_tokens, sample.prompt_tokens[:20])
