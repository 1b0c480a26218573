"""What a report says about logs whose figures are known by hand."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from makespan.agents.serve.record import Served, utc
from makespan.agents.serve.report import BLOCKS, NOTES, Mean, compare

A, B = "http://a:8000", "http://b:8000"


def served(at: float = 0.0, run: float = 0.0, **changes) -> Served:
    """A request answered by A in 2 s; its run of the router began at `run`."""
    request = Served(
        arrival_s=at,
        wall=utc(1.7e9 + run + at),
        id="r",
        endpoint="/v1/completions",
        model="m",
        prompt_tokens=40,
        output_tokens=10,
        stream=True,
        backend=A,
        policy="lmetric",
        choice=A,
        decision_s=0.001,
        ttft_s=0.5,
        e2e_s=2.0,
        status=200,
        outcome="finished",
    )
    return replace(request, **changes)


def test_outcomes_are_counted():
    log = [
        served(),
        served(status=400),
        served(outcome="failed", status=502),
        served(outcome="rejected", status=503, backend=None, choice=None),
    ]
    report = compare(iter(log))
    assert report.requests == 4
    assert report.outcomes == {"finished": 2, "failed": 1, "cancelled": 0, "rejected": 1}
    assert report.complaints == 1
    assert report.policies[0].choices.requests == 3


def test_backends_have_the_latencies_of_what_they_answered():
    log = [
        served(0, ttft_s=0.1, e2e_s=1.0),
        served(0, ttft_s=0.3, e2e_s=3.0),
        # In one piece, so the first byte is the last.
        served(0, stream=False, ttft_s=7.0, e2e_s=8.0),
        served(0, outcome="cancelled", ttft_s=9.0, e2e_s=9.0),
        served(1, backend=B, choice=B, ttft_s=None, e2e_s=9.0, output_tokens=60),
    ]
    a, b = compare(log).backends
    assert (a.url, a.requests, a.answered) == (A, 4, 3)
    assert (a.ttft.requests, a.ttft.mean_s, a.ttft.p50_s) == (2, pytest.approx(0.2), 0.2)
    assert a.ttft.p99_s == pytest.approx(0.1 + 0.99 * 0.2)
    assert (a.e2e.mean_s, a.e2e.p50_s) == (4.0, 3.0)
    assert (b.ttft.requests, b.ttft.mean_s, b.ttft.p99_s) == (0, None, None)
    # From 0 to 10 s: 30 tokens of A and 60 of B.
    assert (a.output_tokens_per_s, b.output_tokens_per_s) == (3.0, 6.0)


def test_seconds_without_a_request_do_not_count():
    log = [served(10, e2e_s=3.0), served(0, e2e_s=1.0), served(11, e2e_s=1.0), served(12, e2e_s=4)]
    assert compare(log).busy_s == pytest.approx(1 + 6)


def test_runs_of_the_router_do_not_lie_on_each_other():
    log = [served(1.0, run=0), served(1.0, run=500), served(2.0, run=500)]
    assert compare(log).busy_s == pytest.approx(2 + 3)


def shadowed(*pairs: tuple[str, str], **changes) -> list[Served]:
    return [
        served(k, choice=choice, shadow={"other": shadow}, **changes)
        for k, (choice, shadow) in enumerate(pairs)
    ]


def test_a_shadow_agrees_where_it_chooses_the_same():
    log = shadowed((A, A), (A, B), (B, B), (B, B), (A, "hold"), (B, "hold"), (A, "error"))
    (policy,) = compare(log).policies
    (other,) = policy.shadows
    assert other.agreement == pytest.approx(3 / 6)
    assert (other.agree.requests, other.disagree.requests) == (3, 3)
    assert policy.choices.chosen == {A: 4, B: 3}
    assert policy.choices.largest_share == pytest.approx(4 / 7)
    assert other.choices.chosen == {B: 3, "hold": 2, A: 1, "error": 1}
    assert (other.choices.requests, other.choices.held) == (7, 2)
    assert other.choices.largest_share == pytest.approx(3 / 4)


def test_a_shadow_that_always_holds_or_fails_sends_nothing():
    (policy,) = compare(shadowed((A, "hold"), (A, "error"))).policies
    assert policy.shadows[0].choices.largest_share is None
    (policy,) = compare(shadowed((A, "error"))).policies
    assert policy.shadows[0].agreement is None


def test_latency_is_told_by_whether_the_shadow_agrees():
    slow = {"e2e_s": 8.0, "ttft_s": 4.0}
    log = shadowed((A, A), (A, A)) + shadowed((A, B), **slow)
    log += shadowed((A, B), outcome="failed", e2e_s=99.0)
    (other,) = compare(log).policies[0].shadows
    assert other.agree.e2e == Mean(2, 2.0, None, None)
    assert other.agree.ttft == Mean(2, 0.5, None, None)
    assert other.disagree.e2e == Mean(1, 8.0, None, None)
    assert other.disagree.requests == 2


def test_policies_are_kept_apart_with_the_shadows_beside_them():
    log = [
        served(0, policy="x", shadow={"y": A}, decision_s=0.001),
        served(1, policy="y", shadow={"x": B}, decision_s=0.003),
        served(2, policy="y", shadow={"x": A}, decision_s=0.005, held_s=0.25),
    ]
    x, y = compare(log).policies
    assert (x.name, x.shadows[0].name, x.shadows[0].agreement) == ("x", "y", 1.0)
    assert (y.name, y.shadows[0].name, y.shadows[0].agreement) == ("y", "x", 0.5)
    assert (x.decision.p50_s, y.decision.p50_s) == (0.001, 0.004)
    assert (x.held.requests, y.held.requests, y.held.mean_s) == (0, 1, 0.25)


def test_a_shadow_that_was_added_later_counts_from_then_on():
    log = [served(0), served(1, shadow={"other": B}), served(2, shadow={"other": A})]
    (policy,) = compare(log).policies
    assert policy.choices.requests == 3
    assert policy.shadows[0].choices.requests == 2
    assert policy.shadows[0].agreement == 0.5


def with_latencies(seconds: np.ndarray) -> Mean:
    log = [served(k, shadow={"other": A}, e2e_s=float(e2e)) for k, e2e in enumerate(seconds)]
    return compare(log).policies[0].shadows[0].agree.e2e


def width(mean: Mean) -> float:
    assert mean.low_s is not None
    assert mean.high_s is not None
    return mean.high_s - mean.low_s


def test_the_interval_of_independent_latencies_is_that_of_the_central_limit_theorem():
    seconds = np.random.default_rng(5).exponential(2.0, 2000)
    found = with_latencies(seconds)
    expected = 2 * 1.96 * seconds.std() / np.sqrt(len(seconds))
    assert width(found) == pytest.approx(expected, rel=0.4)
    assert found.mean_s == pytest.approx(seconds.mean())
    assert with_latencies(seconds) == found


def test_the_interval_is_wider_where_neighbours_are_alike():
    """Half of the time in a long queue: shuffled, the same latencies look far more certain."""
    queue = np.repeat([1.0, 5.0, 1.0, 5.0], 500)
    shuffled = np.random.default_rng(0).permutation(queue)
    assert width(with_latencies(queue)) > 3 * width(with_latencies(shuffled))


def test_neighbours_are_those_in_arrival_whatever_ended_first():
    queue = np.repeat([1.0, 5.0], 200)
    log = [served(k, shadow={"other": A}, e2e_s=float(e2e)) for k, e2e in enumerate(queue)]
    mixed = [log[k] for k in np.random.default_rng(0).permutation(len(log))]
    assert compare(mixed).policies[0].shadows[0].agree == compare(log).policies[0].shadows[0].agree


def test_too_few_requests_have_no_interval():
    assert with_latencies(np.ones(BLOCKS - 1)).low_s is None
    assert with_latencies(np.ones(BLOCKS)) == Mean(BLOCKS, 1.0, 1.0, 1.0)


def test_an_empty_log_has_nothing_to_say():
    report = compare([])
    assert (report.requests, report.busy_s) == (0, 0.0)
    assert (report.backends, report.policies, report.notes) == ([], [], [])


def test_a_log_without_an_answer():
    log = [served(outcome="failed", ttft_s=None, shadow={"other": B}), served(1, status=500)]
    report = compare(log)
    (a,) = report.backends
    assert (a.answered, a.e2e.mean_s, a.output_tokens_per_s) == (0, None, 0.0)
    assert report.policies[0].shadows[0].disagree.e2e == Mean(0, None, None, None)


def test_only_rejected_requests():
    rejected = served(outcome="rejected", status=503, backend=None, choice=None, e2e_s=0.0)
    report = compare([rejected])
    assert report.backends == []
    (policy,) = report.policies
    assert (policy.choices.requests, policy.choices.largest_share) == (0, None)
    assert policy.decision.requests == 0


@pytest.mark.parametrize(
    ("log", "names"),
    [
        ([served()], ["latency", "none"]),
        ([served(shadow={"other": B})], ["latency", "shadow", "groups"]),
        ([served(), served(policy="other")], ["latency", "none", "policies"]),
    ],
)
def test_the_notes_are_those_that_apply(log, names):
    assert compare(log).notes == [NOTES[name] for name in names]


def test_every_report_is_json():
    for log in ([], [served()], shadowed((A, B)), [served(outcome="failed", choice=None)]):
        report = asdict(compare(log))
        assert json.loads(json.dumps(report, allow_nan=False)) == report
