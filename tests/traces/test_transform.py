"""Scaling, cutting, mixing and splitting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.traces import Request, Workload
from makespan.traces.transform import mix, scale_rate, slice_count, slice_time, split, to_rate


def example(name="a"):
    return Workload.from_requests(
        [
            Request(1.0, 40, 3, (7, 8), session=4, priority=1, slo_class="chat", model="m"),
            Request(2.0, 50, 4, (7, 9, 10), session=4, slo_class="code"),
            Request(4.0, 60, 5, (), model="n"),
            Request(9.0, 70, 6, (11,), session=6, slo_class="chat"),
        ],
        name,
    )


def untimed(requests):
    return [Request(0.0, *list(vars_of(r).values())[1:]) for r in requests]


def vars_of(request):
    return {name: getattr(request, name) for name in Request.__slots__}


def test_scale_rate():
    scaled = scale_rate(example(), 2.0)
    assert scaled.arrival_s.tolist() == [0.5, 1.0, 2.0, 4.5]
    assert scaled.rate == 2 * example().rate
    assert untimed(scaled) == untimed(example())


def test_to_rate():
    assert to_rate(example(), 5.0).rate == pytest.approx(5)


@pytest.mark.parametrize("factor", [0, -1, np.inf, np.nan])
def test_bad_factors(factor):
    with pytest.raises(ValueError, match="factor must be positive"):
        scale_rate(example(), factor)


def test_no_rate_to_scale():
    with pytest.raises(ValueError, match="no rate to scale"):
        to_rate(slice_count(example(), 0, 1), 2.0)


def test_slice_by_time_is_half_open_and_rebased():
    part = slice_time(example(), 2.0, 9.0)
    assert part.arrival_s.tolist() == [0, 2]
    assert untimed(part) == untimed(list(example())[1:3])
    assert len(slice_time(example(), 4.0)) == 2


def test_slice_by_count():
    part = slice_count(example(), -2)
    assert part.arrival_s.tolist() == [0, 5]
    assert untimed(part) == untimed(list(example())[2:])


def test_empty_slices():
    with pytest.raises(ValueError, match="no request arrives"):
        slice_time(example(), 5.0, 6.0)
    with pytest.raises(ValueError, match="no request between 4 and None of 4"):
        slice_count(example(), 4)


def test_split_is_by_time():
    train, test = split(example(), 0.5)
    assert [len(train), len(test)] == [3, 1]
    assert train.arrival_s.tolist() == [0, 1, 3]
    assert test.arrival_s.tolist() == [0]
    assert untimed([*train, *test]) == untimed(example())


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2])
def test_bad_splits(fraction):
    with pytest.raises(ValueError, match="train must be between"):
        split(example(), fraction)


def test_nothing_to_split():
    with pytest.raises(ValueError, match="empty workload"):
        split(Workload.from_requests([]))


def test_mix_keeps_sessions_and_prefixes_apart():
    mixed = mix([example(), scale_rate(example(), 0.9)], name="both")
    assert mixed.name == "both"
    assert (np.diff(mixed.arrival_s) >= 0).all()
    assert mixed.session.tolist().count(-1) == 2
    sessions = {s: [r for r in mixed if r.session == s] for s in set(mixed.session) - {-1}}
    assert sorted(len(found) for found in sessions.values()) == [1, 1, 2, 2]
    twos = [found for found in sessions.values() if len(found) == 2]
    heads = {found[0].prefix_hashes[0] for found in twos}
    assert len(heads) == 2
    for first, second in twos:
        assert first.prefix_hashes[0] == second.prefix_hashes[0]
        assert first.prefix_hashes[1] not in second.prefix_hashes
    for names in ("slo_class", "model", "priority", "prompt_tokens"):
        found = sorted(str(getattr(r, names)) for r in mixed)
        assert found == sorted(str(getattr(r, names)) for r in [*example(), *example()])


def test_nothing_to_mix():
    with pytest.raises(ValueError, match="nothing to mix"):
        mix([])


@given(st.lists(st.integers(0, 50), min_size=2, max_size=20), st.floats(0.01, 0.99))
def test_split_loses_nothing(times, fraction):
    times = np.sort(np.array(times, float))
    workload = Workload(times, np.arange(1, len(times) + 1), np.ones(len(times)))
    if workload.duration_s == 0:
        return
    train, test = split(workload, fraction)
    both = np.concatenate([train.prompt_tokens, test.prompt_tokens])
    assert (both == workload.prompt_tokens).all()
    assert train.duration_s <= fraction * workload.duration_s
