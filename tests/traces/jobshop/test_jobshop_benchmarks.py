"""The published instances, and what is known of them."""

import datetime
import hashlib

import pytest

from makespan.traces.jobshop import BENCHMARKS, benchmark
from makespan.traces.jobshop.benchmarks import (
    BLOCKING_DATE,
    BLOCKING_SOURCE,
    BOUNDS_DATE,
    BOUNDS_SOURCE,
    Bounds,
)

SIZES = {"ft": 3, "la": 40, "abz": 5, "orb": 10, "swv": 20, "yn": 4, "ta": 80, "dmu": 80}


def test_all_are_there():
    counted = {family: 0 for family in SIZES}
    for known in BENCHMARKS.values():
        counted[known.family] += 1
    assert counted == SIZES


def test_each_is_as_large_as_it_should_be_and_no_bound_is_below_its_load():
    for name, known in BENCHMARKS.items():
        shop = benchmark(name)
        assert (shop.name, shop.jobs, shop.machines) == (name, known.jobs, known.machines)
        assert shop.operations == shop.jobs * shop.machines
        assert (shop.duration.min() == 0) == (name == "orb07")
        order = shop.machine.reshape(shop.jobs, -1)
        assert (sorted(order[0].tolist())) == list(range(shop.machines))
        assert shop.lower_bound() <= known.lower <= known.upper


@pytest.mark.parametrize(
    ("name", "first_job"),
    [
        ("ft06", [(2, 1), (0, 3), (1, 6), (3, 7), (5, 3), (4, 6)]),
        ("ta01", [(6, 94), (12, 66), (4, 10), (7, 53), (3, 26)]),
        ("dmu01", [(0, 160), (13, 5), (6, 139), (11, 99), (12, 9)]),
    ],
)
def test_first_operations_are_those_that_were_published(name: str, first_job):
    shop = benchmark(name)
    found = list(zip(shop.machine.tolist(), shop.duration.tolist(), strict=True))
    assert found[: len(first_job)] == first_job


DIGESTS = {
    "ft": "4eed31c86871093c",
    "la": "ce1cb03d9d4fc09f",
    "abz": "8bd3ef51d1d6a247",
    "orb": "71aaf909ac41f05f",
    "swv": "fc7b16f6a9d8f021",
    "yn": "2b63dc8644880b5d",
    "ta": "f5c82964e3f980a7",
    "dmu": "b07ac554628ebb31",
}
"""Of machines and durations of all instances of a family."""


@pytest.mark.parametrize("family", DIGESTS)
def test_every_number_is_the_published_one(family: str):
    """The digests were made from the files in github.com/ScheduleOpt/benchmarks (79f0edc)."""
    assert digest(family) == DIGESTS[family]


def digest(family: str) -> str:
    whole = hashlib.sha256()
    for name in sorted(n for n, known in BENCHMARKS.items() if known.family == family):
        shop = benchmark(name)
        whole.update(shop.machine.astype("<i8").tobytes() + shop.duration.astype("<i8").tobytes())
    return whole.hexdigest()[:16]


def test_bounds_are_those_of_the_date():
    """Some that were improved, or proved, after the lists that are in circulation."""
    known = {name: (b.lower, b.upper) for name, b in BENCHMARKS.items()}
    assert known["ta32"] == (1774, 1783)
    assert known["ta33"] == (1791, 1791)
    assert known["abz8"] == (667, 667)
    assert BENCHMARKS["ta33"].is_solved
    assert not BENCHMARKS["ta32"].is_solved
    assert sum(b.is_solved for b in BENCHMARKS.values()) == 182
    assert sum(b.is_solved for b in BENCHMARKS.values() if b.family == "ta") == 68


def test_the_files_say_from_when_and_where_they_are():
    for date, source in ((BOUNDS_DATE, BOUNDS_SOURCE), (BLOCKING_DATE, BLOCKING_SOURCE)):
        assert datetime.date.fromisoformat(date) < datetime.date(2027, 1, 1)
        assert source.startswith("github.com/ScheduleOpt/")
    assert BOUNDS_DATE == "2026-08-19"


def test_what_is_flagged_as_optimal_is_what_no_schedule_can_beat():
    for known in BENCHMARKS.values():
        for bounds in filter(None, (known, known.blocking)):
            assert bounds.lower <= bounds.upper
            assert bounds.is_solved == (bounds.lower == bounds.upper)


def test_without_buffers_no_shop_is_done_earlier():
    pairs = [(known.lower, known.blocking) for known in BENCHMARKS.values()]
    both = [(lower, blocking.upper) for lower, blocking in pairs if blocking]
    assert len(both) == 162
    assert all(lower < upper for lower, upper in both)
    assert {b.family for b in BENCHMARKS.values() if not b.blocking} == {"dmu"}


def test_bounds_without_buffers():
    def of(name: str) -> tuple[int, bool]:
        bounds = BENCHMARKS[name].blocking
        assert bounds is not None
        return bounds.upper, bounds.is_solved

    assert [of(name) for name in ("ft06", "la01", "la02", "la03")] == [
        (63, True),
        (793, True),
        (793, True),
        (715, True),
    ]
    assert of("ta01") == (1669, False)
    assert BENCHMARKS["la16"].blocking == Bounds(1060, 1060, True)
    to_10x10 = [b for b in BENCHMARKS.values() if b.jobs * b.machines <= 100 and b.jobs <= 10]
    assert all(b.blocking and b.blocking.is_solved for b in to_10x10)
    assert BENCHMARKS["ta01"].gap(1231 * 1.1) == pytest.approx(0.1)
    assert Bounds(1, 2, False).gap(3) == 0.5


def test_a_gap_is_a_share_of_the_best_known():
    assert BENCHMARKS["ft06"].gap(55) == 0
    assert BENCHMARKS["ft06"].gap(66) == pytest.approx(0.2)


def test_an_instance_is_made_once():
    assert benchmark("ta01") is benchmark("ta01")
    with pytest.raises(ValueError, match="read-only"):
        benchmark("ta01").duration[0] = 1


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match=r"unknown job shop 'ta081'. Did you mean 'ta0") as caught:
        benchmark("ta081")
    assert len(str(caught.value)) < 200  # not all 242
