"""The Workload itself: validation, sharing of columns, rows."""

import numpy as np
import pytest

from makespan.traces import Request, Workload


def make(**changes):
    columns = {"arrival_s": [0.0, 1.0], "prompt_tokens": [3, 4], "output_tokens": [1, 2]}
    return Workload(**(columns | changes))


def test_rows_come_back_as_they_went_in():
    requests = [
        Request(0.0, 40, 3, (7, 8), session=4, priority=1, slo_class="chat", model="m"),
        Request(0.5, 10, 1),
    ]
    workload = Workload.from_requests(requests, name="two")
    assert list(workload) == requests
    assert workload.name == "two"
    assert workload.renamed("other").name == "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrival_s": [1.0, 0.5]}, "request 1: arrival_s must not decrease"),
        ({"arrival_s": [-1.0, 0.5]}, "request 0: arrival_s must be finite and >= 0"),
        ({"arrival_s": [0.0, np.inf]}, "request 1: arrival_s must be finite"),
        ({"prompt_tokens": [1, 0]}, "request 1: prompt_tokens must be at least 1, not 0"),
        ({"output_tokens": [0, 1]}, "request 0: output_tokens must be at least 1"),
        ({"output_tokens": [1]}, "output_tokens has shape"),
        ({"slo_class": [0, 1]}, "request 1: slo_class must index"),
        ({"model": [-1, 0]}, "request 0: model must index"),
        ({"hash_offsets": [0, 1, 1], "hashes": [1, 2]}, "hash_offsets must be n"),
        ({"hash_offsets": [0, 2, 1], "hashes": [1]}, "request 1: hash_offsets must not decrease"),
        ({"hash_offsets": [0, 0, 1], "hashes": [-1]}, "hashes must be non-negative"),
    ],
)
def test_bad_columns_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_columns_cannot_change_under_the_workload():
    arrivals = np.array([0.0, 1.0])
    workload = make(arrival_s=arrivals)
    arrivals[0] = 5.0
    assert workload.arrival_s[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        workload.arrival_s[0] = 1.0


def test_a_read_only_view_of_something_writable_is_copied():
    base = np.array([0.0, 1.0, 2.0])
    view = base[:2]
    view.setflags(write=False)
    workload = make(arrival_s=view)
    base[1] = 9.0
    assert workload.arrival_s[1] == 1.0


def test_renaming_shares_the_columns():
    workload = make()
    assert workload.renamed("x").prompt_tokens is workload.prompt_tokens


def test_rate_counts_gaps():
    assert make(arrival_s=[0.0, 0.5]).rate == 2.0
    assert make(arrival_s=[0.0, 0.0]).rate == 0.0
    assert Workload.from_requests([]).rate == 0.0
