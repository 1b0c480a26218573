"""The dynamic job shop: timelines worked by hand, queueing theory, and properties of every run."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from makespan.baselines.jobshop.dynamic_rules import POLICIES, policy
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.dynamic import Conditions, DynamicJobShop
from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.traces.jobshop import JobShop
from makespan.traces.jobshop.arrivals import with_arrivals, with_due_dates
from makespan.traces.jobshop.uniform import uniform_shop

BROKEN = Conditions.with_availability(0.8, mean_repair=40.0, spread=0.5)


def first(decision: DispatchDecision) -> int:
    """The candidate with the lowest number."""
    return 0


def pieces(simulation: DynamicJobShop) -> list[tuple[int, float, float, bool]]:
    """Option, start, end and whether it was interrupted."""
    schedule = simulation.schedule()
    schedule.validate()
    columns = (schedule.option, schedule.start, schedule.end, schedule.interrupted)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


# By hand.

TWO = JobShop.of([[(0, 4), (1, 3)], [(0, 2), (1, 5)]])


def test_what_is_interrupted_goes_on_after_the_repair():
    run = DynamicJobShop(TWO, downtimes=[[(1.0, 3.0)], []])
    assert pieces(simulate(run, first)) == [
        (0, 0.0, 1.0, True),
        (0, 3.0, 6.0, False),
        (1, 6.0, 9.0, False),
        (2, 6.0, 8.0, False),
        (3, 9.0, 14.0, False),
    ]


def test_or_begins_once_more():
    run = DynamicJobShop(TWO, Conditions(after_repair="repeat"), downtimes=[[(1, 3), (5, 6)], []])
    assert pieces(simulate(run, first)) == [
        (0, 0.0, 1.0, True),
        (0, 3.0, 5.0, True),
        (0, 6.0, 10.0, False),
        (1, 10.0, 13.0, False),
        (2, 10.0, 12.0, False),
        (3, 13.0, 18.0, False),
    ]


def test_what_ends_when_its_machine_fails_is_done():
    run = simulate(DynamicJobShop(TWO, downtimes=[[(4, 7)], []]), first)
    assert pieces(run)[0] == (0, 0.0, 4.0, False)
    assert run.schedule().start[run.schedule().option == 2] == 7.0  # when it is up again


def test_an_idle_machine_that_is_down_begins_nothing():
    shop = JobShop.of([[(0, 2), (1, 3)], [(0, 2), (1, 3)]])
    run = simulate(DynamicJobShop(shop, downtimes=[[], [(1, 5)]]), first)
    assert pieces(run) == [
        (0, 0.0, 2.0, False),
        (1, 5.0, 8.0, False),
        (2, 2.0, 4.0, False),
        (3, 8.0, 11.0, False),
    ]


def test_a_decision_shows_the_shop_as_a_dispatcher_sees_it():
    shop = JobShop.of([[(0, 4), (1, 3)], [(0, 2), (1, 5), (2, 1)], [(1, 6), (0, 7)]], machines=3)
    shop = replace(shop, due=np.array([30, 20, 40]), release=np.array([0, 0, 0]))
    run = DynamicJobShop(
        shop, weight=np.array([1.0, 2.0, 3.0]), downtimes=[[(1, 2)], [], [(0.5, 9)]]
    )
    decision = run.next_decision()
    assert decision is not None
    assert (decision.time, decision.machine) == (0.0, 0)
    assert decision.job.tolist() == [0, 1]
    assert decision.duration.tolist() == [4.0, 2.0]
    assert decision.tail.tolist() == [3.0, 6.0]
    assert decision.through.tolist() == [4.0, 2.0]
    assert decision.remaining.tolist() == [7.0, 8.0]
    assert decision.slack.tolist() == [23.0, 12.0]
    assert decision.operations_left.tolist() == [2, 3]
    assert decision.weight.tolist() == [1.0, 2.0]
    assert decision.next_machine.tolist() == [1, 1]
    # Machine 1 has not begun job 2 yet: the first machine chooses first.
    assert decision.queue_work.tolist() == [6.0, 6.0, 0.0]
    assert decision.queue_length.tolist() == [2, 1, 0]
    assert decision.next_work.tolist() == [6.0, 6.0]
    assert decision.next_duration.tolist() == [3.0, 5.0]
    assert decision.load.tolist() == [13.0, 14.0, 1.0]
    assert decision.comes_in.tolist() == [np.inf, np.inf, np.inf]
    assert (decision.longest, decision.horizon) == (13.0, 14.0)  # job 2, and machine 1
    assert (decision.jobs_in_system, decision.work_in_system) == (3, 28.0)
    assert decision.mean_duration == 28 / 7


def test_what_a_machine_has_left_is_what_was_planned():
    shop = JobShop.of([[(0, 10)], [(1, 4)], [(1, 4)], [(1, 4)]])
    run = DynamicJobShop(shop, downtimes=[[(3, 5)], []])
    left = []
    while (decision := run.next_decision()) is not None:
        left.append((decision.time, decision.left.tolist()))
        down_for = decision.down_for.tolist()
        run.decide(0)
    assert left == [(0.0, [10.0, 0.0]), (4.0, [7.0, 0.0])]  # interrupted at 3
    assert down_for == [1.0, 0.0]


def test_what_comes_next_is_expected_after_a_mean_repair():
    shop = JobShop.of([[(0, 10), (1, 3), (2, 2)], [(1, 4)], [(1, 4)], [(1, 4)]])
    run = DynamicJobShop(shop, Conditions(mean_repair=6.0), downtimes=[[(3, 9)], [], []])
    decision = run.next_decision()
    assert decision is not None
    assert decision.free_in.tolist() == [10.0, 0.0, 0.0]
    assert decision.comes_in.tolist() == [np.inf, 10.0, np.inf]
    assert decision.comes_tail.tolist() == [0.0, 2.0, 0.0]
    assert (decision.longest, decision.horizon) == (15.0, 15.0)
    run.decide(0)
    decision = run.next_decision()  # at 4: 7 are left of job 0, and its machine is down
    assert decision is not None
    assert decision.free_in.tolist() == [13.0, 0.0, 0.0]
    assert decision.comes_in.tolist() == [np.inf, 13.0, np.inf]
    assert decision.load.tolist() == [0.0, 11.0, 2.0]
    assert (decision.longest, decision.horizon) == (18.0, 18.0)


def test_what_several_machines_can_do_counts_in_equal_shares():
    jobs = [[[(0, 1)], [(1, 4), (2, 6)]], [[(0, 2)]], [[(1, 9)]]]
    decision = DynamicJobShop(JobShop.flexible(jobs)).next_decision()
    assert decision is not None
    assert decision.load.tolist() == [3.0, 2.0 + 9.0, 3.0]
    assert decision.next_duration.tolist() == [5.0, 0.0]


def test_a_choice_of_machines_is_a_choice_of_what_an_idle_one_does():
    shop = JobShop.flexible([[[(0, 4), (1, 6)]], [[(0, 5), (1, 2)]], [[(1, 3)]]])
    run = DynamicJobShop(shop)
    decision = run.next_decision()
    assert decision is not None
    assert decision.machine == 0
    assert decision.job.tolist() == [0, 1]
    assert decision.duration.tolist() == [4.0, 5.0]
    run.decide(0)
    decision = run.next_decision()
    assert decision is not None
    assert decision.machine == 1
    assert decision.job.tolist() == [1, 2]  # job 0 waits no more
    assert decision.duration.tolist() == [2.0, 3.0]
    run.decide(1)
    assert run.next_decision() is None
    run.schedule().validate()
    assert run.schedule().done.tolist() == [4.0, 5.0, 3.0]


def test_the_next_of_several_machines_is_the_one_with_the_least_work():
    jobs = [[[(0, 1)], [(1, 4), (2, 4)]], [[(0, 2)]], [[(1, 9)]]]
    decision = DynamicJobShop(JobShop.flexible(jobs)).next_decision()
    assert decision is not None
    assert decision.next_machine.tolist() == [2, -1]


def test_objectives_of_a_schedule():
    shop = replace(TWO, release=np.array([0, 1]), due=np.array([7, 5]))
    run = simulate(DynamicJobShop(shop, weight=np.array([1.0, 3.0])), first)
    schedule = run.schedule()
    assert schedule.done.tolist() == [7.0, 12.0]
    assert schedule.makespan == 12.0
    assert schedule.mean_flow_time == 9.0
    assert schedule.mean_tardiness == 3.5
    assert schedule.weighted_tardiness == 21.0 == run.tardiness()
    assert run.time_in_system() == 18.0
    assert run.log["done"].tolist() == [7.0, 12.0]


def test_jobs_that_have_not_come_are_not_late():
    shop = JobShop.of([[(0, 4)], [(0, 3)], [(0, 9)]])
    run = DynamicJobShop(replace(shop, release=np.array([2, 2, 50]), due=np.array([1, 9, 0])))
    assert run.next_decision() is not None
    assert (run.clock.now, run.tardiness(), run.time_in_system()) == (2.0, 1.0, 0.0)
    run.decide(0)
    assert run.next_decision() is None
    assert run.tardiness() == 5 + 0 + 59
    assert run.time_in_system() == 4 + 7 + 9


# Theory.


def test_one_machine_with_exponential_times_is_the_queue_of_the_books():
    """M/M/1, first come first served: mean time in system 1 / (mu - lambda)."""
    means = []
    mean, load, warm_up = 10_000, 0.7, 500
    for seed in range(20):
        rng = np.random.default_rng(seed)
        durations = rng.exponential(mean, 4000).round().astype(int)
        shop = JobShop.of([[(0, int(duration))] for duration in durations])
        release = np.cumsum(rng.exponential(mean / load, 4000)).round().astype(np.int64)
        run = simulate(DynamicJobShop(replace(shop, release=release)), policy("fifo"))
        means.append((run.log["done"] - run.log["release"])[warm_up:].mean())
    low, high = stats.t.interval(0.999, 19, np.mean(means), stats.sem(means))
    expected = mean / (1 - load)
    assert low < expected < high
    assert high - low < 0.3 * expected  # the interval says something


def test_machines_are_up_as_often_as_they_should_be():
    shop = JobShop.of([[(machine, 200_000)] for machine in range(8)])
    conditions = Conditions(mean_up=90.0, mean_repair=10.0)
    schedule = simulate(DynamicJobShop(shop, conditions, seed=3), first).schedule()
    shares = []
    for machine in range(8):
        here = schedule.down_machine == machine
        down = (schedule.down_to - schedule.down_from)[here].sum()
        shares.append(1 - down / schedule.down_to[here].max())
    low, high = stats.t.interval(0.999, 7, np.mean(shares), stats.sem(shares))
    assert low < 0.9 < high
    assert high - low < 0.02  # the interval says something
    # What goes on where it was interrupted takes longer by the time of the repairs, no more.
    assert schedule.makespan == pytest.approx(200_000 / 0.9, rel=0.02)


@pytest.mark.parametrize("distribution", ["lognormal", "uniform"])
def test_durations_spread_as_they_should_round_what_is_planned(distribution):
    shop = JobShop.of([[(0, 100)] * 20_000])
    run = DynamicJobShop(shop, Conditions(spread=0.4, distribution=distribution), seed=1)
    takes = run.schedule().duration
    assert takes.mean() == pytest.approx(100, abs=4 * 40 / np.sqrt(20_000))
    assert takes.std() == pytest.approx(40, rel=0.05)
    assert takes.min() > 0


# Randomness.


def test_every_policy_meets_the_same_breakdowns_durations_and_arrivals():
    shop = with_arrivals(
        uniform_shop(12, 4, np.random.default_rng(0)), 0.9, np.random.default_rng(1)
    )
    runs = [simulate(DynamicJobShop(shop, BROKEN, 5), policy(name, 0)) for name in ("spt", "lpt")]
    one, other = (run.schedule() for run in runs)
    assert one.makespan != other.makespan
    np.testing.assert_array_equal(one.duration, other.duration)
    end = min(one.makespan, other.makespan)
    for machine in range(4):
        downs = [
            [x for x in s.down_from[s.down_machine == machine].tolist() if x < end]
            for s in (one, other)
        ]
        assert len(downs[0]) > 2
        assert downs[0] == pytest.approx(downs[1], rel=1e-12)


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    shop = uniform_shop(8, 4, np.random.default_rng(0))
    runs = [simulate(DynamicJobShop(shop, BROKEN, seed), policy("random", 3)) for seed in (5, 5, 6)]
    one, same, other = (run.schedule() for run in runs)
    assert one.start.tobytes() == same.start.tobytes()
    assert one.end.tobytes() == same.end.tobytes()
    assert one.makespan != other.makespan


# Every run.


@st.composite
def shops(draw: st.DrawFn) -> JobShop:
    """Up to five jobs on up to three machines, with choices, times of 0, releases and due dates."""
    machines = draw(st.integers(1, 3))
    on = st.tuples(st.integers(0, machines - 1), st.integers(0, 6))
    options = st.lists(on, min_size=1, max_size=2, unique_by=lambda option: option[0])
    jobs = draw(st.lists(st.lists(options, min_size=1, max_size=4), min_size=1, max_size=5))
    release = draw(st.lists(st.integers(0, 9), min_size=len(jobs), max_size=len(jobs)))
    shop = replace(JobShop.flexible(jobs, machines), release=np.array(release))
    return with_due_dates(shop, 1.5) if draw(st.booleans()) else shop


conditions = st.builds(
    Conditions,
    mean_up=st.sampled_from([1.0, 8.0, np.inf]),
    mean_repair=st.sampled_from([0.5, 3.0]),
    after_repair=st.sampled_from(["resume"]),
    spread=st.sampled_from([0.0, 0.5]),
)
repeating = st.builds(
    Conditions,
    mean_up=st.just(8.0),
    mean_repair=st.just(2.0),
    after_repair=st.just("repeat"),
    spread=st.sampled_from([0.0, 0.2]),
)


def planned_mean(shop: JobShop, option: int) -> float:
    """Of the options of the operation that the option is one of."""
    last = int(np.searchsorted(shop.first_option, option, side="right"))
    return float(shop.duration[shop.first_option[last - 1] : shop.first_option[last]].mean())


@settings(deadline=None, max_examples=150)
@given(
    shop=shops(),
    conditions=conditions | repeating,
    seed=st.integers(0, 10**6),
    rule=st.sampled_from(sorted(POLICIES)),
)
def test_every_run_can_be(shop: JobShop, conditions: Conditions, seed: int, rule: str):
    run, chosen = DynamicJobShop(shop, conditions, seed), policy(rule, seed)
    while (decision := run.next_decision()) is not None:
        begun = sum(planned_mean(shop, option) for _, option, _ in run.begun())
        assert decision.load.sum() + begun == pytest.approx(decision.work_in_system)
        run.decide(chosen(decision))
    schedule = run.schedule()
    schedule.validate()
    np.testing.assert_allclose(schedule.done, run.log["done"])
    assert run.time_in_system() == pytest.approx(shop.jobs * schedule.mean_flow_time)
    assert run.tardiness() == pytest.approx(schedule.weighted_tardiness)


# The validator.

RUN = simulate(DynamicJobShop(TWO, downtimes=[[(1.0, 3.0)], []]), first).schedule()
"""Pieces: option 0 from 0 to 1 and from 3 to 6, 2 from 6 to 8, 1 from 6 to 9, 3 from 9 to 14."""


def where(option: int, start: float) -> int:
    return int(np.flatnonzero((option == RUN.option) & (start == RUN.start))[0])


def moved(option: int, start: float, by_start: float, by_end: float) -> dict[str, np.ndarray]:
    """The columns, with one piece moved."""
    at = where(option, start)
    columns = {"start": RUN.start.copy(), "end": RUN.end.copy()}
    columns["start"][at] += by_start
    columns["end"][at] += by_end
    return columns


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        (moved(1, 6.0, -1, -1), "job 0, operation 1 begins before the one before it ends"),
        (moved(2, 6.0, -1, -1), "machine 0 has job 0, operation 0 and job 1, operation 0 at once"),
        (moved(2, 6.0, -4.5, -4.5), "machine 0 has job 0, operation 0 and job 1, operation 0 at"),
        (moved(3, 9.0, 0, 1), "job 1, operation 1 must take its true duration in all its pieces"),
        (moved(0, 3.0, -0.5, -0.5), "job 0, operation 0 is done while its machine is down"),
        (moved(0, 0.0, -0.5, -0.5), "job 0, operation 0 begins before its job is released"),
        (moved(0, 0.0, 0, -0.5) | {"duration": np.array([3.5, 3, 2, 5])}, "interrupted by no"),
        (moved(0, 0.0, 0, -2), "end when they begin or later"),
        ({"after_repair": "repeat"}, "must take its true duration in its last piece"),
        ({"option": np.where(RUN.option == 3, 2, RUN.option)}, "job 1, operation 0 must end once"),
        ({"interrupted": np.zeros(5, bool)}, "job 0, operation 0 must end once, at the last"),
        ({"shop": replace(TWO, release=np.array([0, 7]))}, "job 1, operation 0 begins before its"),
    ],
)
def test_what_cannot_be_is_named(changed: dict, rule: str):
    RUN.validate()
    with pytest.raises(ValueError, match=rule):
        replace(RUN, **changed).validate()


@pytest.mark.parametrize(("after_repair", "again"), [("resume", (2, 4)), ("repeat", (1, 8))])
def test_pieces_of_one_operation_do_not_overlap(after_repair, again):
    """Nothing else is wrong: the first piece goes from 0 to 5, when the machine breaks down."""
    shop = JobShop.of([[(0, 7)]])
    schedule = DynamicJobShop(shop, Conditions(after_repair=after_repair)).schedule()
    pieces = {"start": np.array([0.0, again[0]]), "end": np.array([5.0, again[1]])}
    down = {name: np.array([5.0]) for name in ("down_from", "down_to")}
    pieces |= {"option": np.zeros(2, np.int64), "interrupted": np.array([True, False])}
    down |= {"down_machine": np.zeros(1, np.int64)}
    with pytest.raises(ValueError, match="job 0, operation 0 is done twice at once"):
        replace(schedule, **pieces, **down).validate()


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mean_up": 0.0}, "mean_up must be positive"),
        ({"mean_repair": -1.0}, "mean_repair must be finite"),
        ({"spread": 0.6, "distribution": "uniform"}, "spread must be from 0 to 0.577"),
        ({"spread": np.inf}, "spread must be"),
        ({"after_repair": "resumes"}, "Did you mean 'resume'"),
        ({"distribution": "normal"}, "unknown distribution"),
    ],
)
def test_conditions_out_of_range_are_named(arguments: dict, says: str):
    with pytest.raises(ValueError, match=says):
        Conditions(**arguments)


def test_availability_is_the_share_of_the_time_that_a_machine_is_up():
    conditions = Conditions.with_availability(0.9, 50.0)
    assert conditions.mean_up / (conditions.mean_up + conditions.mean_repair) == pytest.approx(0.9)
    assert Conditions.with_availability(1.0, 50.0).mean_up == np.inf
    with pytest.raises(ValueError, match="availability"):
        Conditions.with_availability(0.0, 50.0)


def test_weights_and_downtimes_must_fit():
    with pytest.raises(ValueError, match="weight must have 2 entries"):
        DynamicJobShop(TWO, weight=np.ones(3))
    with pytest.raises(ValueError, match="job 1 must have a finite weight"):
        DynamicJobShop(TWO, weight=np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="downtimes of each of 2 machines, not 1"):
        DynamicJobShop(TWO, downtimes=[[]])
    with pytest.raises(ValueError, match="downtimes of machine 1 must be in order"):
        DynamicJobShop(TWO, downtimes=[[], [(3.0, 2.0)]])
    with pytest.raises(ValueError, match="downtimes of machine 0 must be finite"):
        DynamicJobShop(TWO, downtimes=[[(1.0, np.inf)], []])


def test_only_what_is_due_can_be_decided():
    run = DynamicJobShop(TWO)
    with pytest.raises(RuntimeError, match="no decision is due"):
        run.decide(0)
    assert run.next_decision() is not None
    with pytest.raises(ValueError, match=r"action must be in 0\.\.1, not 2"):
        run.decide(2)


def test_random_shops_arrivals_and_due_dates():
    rng = np.random.default_rng(0)
    shop = uniform_shop(2000, 5, rng)
    assert all((np.sort(row) == np.arange(5)).all() for row in shop.machine.reshape(-1, 5))
    assert (shop.duration.min(), shop.duration.max()) == (1, 99)
    arriving = with_arrivals(shop, 0.8, rng)
    load = shop.duration.sum() / (5 * arriving.release.max())
    assert load == pytest.approx(0.8, abs=4 * 0.8 / np.sqrt(2000))
    due = with_due_dates(arriving, 2.0)
    work = shop.duration.reshape(-1, 5).sum(axis=1)
    assert (due.due == arriving.release + 2 * work).all()
    for bad in (0.0, np.inf):
        with pytest.raises(ValueError, match="utilisation"):
            with_arrivals(shop, bad, rng)
        with pytest.raises(ValueError, match="tightness"):
            with_due_dates(shop, bad)
    with pytest.raises(ValueError, match="needs jobs and machines"):
        uniform_shop(0, 5, rng)
