"""The shop without buffers, against timelines by hand, proved optima and an own check."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import SeedSequence

from makespan.baselines.jobshop.blocking_rules import RULES, Random, policy
from makespan.baselines.jobshop.exact import solve
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.blocking.decision import BLOCKED, BUSY, DOWN, FREE, EntryDecision
from makespan.envs.jobshop.blocking.shutdowns import Shutdowns, draw_shutdowns
from makespan.envs.jobshop.blocking.simulation import BlockingShop
from makespan.envs.jobshop.blocking.validation import validate
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop, benchmark


def log_of(shop: JobShop, rule: str = "fifo", **more) -> dict[str, list[int]]:
    simulation = simulate(BlockingShop(shop, **more), policy(rule))
    validate(shop, simulation.log)
    return {name: column.tolist() for name, column in simulation.log.items()}


def down_for(shop: JobShop, *lengths: int) -> Shutdowns:
    return Shutdowns(0.5, 2.0, np.array(lengths))


def test_a_job_stays_on_its_machine_until_the_next_takes_it():
    shop = JobShop.of([[(0, 2), (1, 2)], [(1, 5)], [(0, 1)]])
    log = log_of(shop, "lor")  # job 2 has fewer operations left than job 0, so it is first on 0
    assert log["entered"] == [1, 5, 0, 0]
    assert log["end"] == [3, 7, 5, 1]
    assert log["left"] == [5, 7, 5, 1]


def test_jobs_that_wait_for_each_other_swap():
    shop = JobShop.of([[(0, 3), (1, 2)], [(1, 4), (0, 1)]])
    assert log_of(shop)["entered"] == [0, 4, 0, 4]


def test_three_jobs_go_round():
    shop = JobShop.of([[(0, 1), (1, 1)], [(1, 2), (2, 1)], [(2, 3), (0, 1)]])
    assert log_of(shop)["entered"] == [0, 3, 0, 3, 0, 3]


def test_a_job_may_come_back_to_the_machine_it_stands_on():
    shop = JobShop.of([[(0, 1), (0, 2), (1, 1)]])
    assert log_of(shop)["entered"] == [0, 1, 3]


def test_a_circle_with_someone_at_work_in_it_waits():
    """All three machines are full; nothing moves before the last of the operations ends."""
    shop = JobShop.of([[(0, 1), (1, 1)], [(1, 9), (2, 1)], [(2, 1), (0, 1)], [(0, 1)]])
    log = log_of(shop)
    assert log["entered"] == [0, 9, 0, 9, 0, 9, 10]
    assert log["left"][0] == log["left"][4] == 9


def test_a_machine_is_down_before_it_begins_and_the_job_waits_on_it():
    shop = JobShop.of([[(0, 2), (1, 2)], [(1, 1)]])
    log = log_of(shop, shutdowns=down_for(shop, 3, 0, 6))
    assert log["start"] == [3, 7, 6]
    assert log["left"] == [7, 9, 7]


def test_jobs_come_when_they_are_released():
    shop = JobShop.of([[(0, 2)], [(0, 3)]])
    shop = JobShop(
        shop.machines,
        shop.first_operation,
        shop.first_option,
        shop.machine,
        shop.duration,
        np.array([4, 1]),
    )
    assert log_of(shop)["entered"] == [4, 1]


def due(simulation: BlockingShop) -> EntryDecision:
    decision = simulation.next_decision()
    assert decision is not None
    return decision


def test_a_decision_shows_the_moment_and_not_how_long_a_shutdown_lasts():
    shop = JobShop.of([[(0, 1), (1, 2), (3, 3)], [(1, 8)], [(2, 4)], [(3, 1), (2, 1)], [(3, 2)]])
    simulation = BlockingShop(shop, down_for(shop, 0, 0, 0, 5, 0, 0, 0, 0))
    decision = due(simulation)
    while decision.machine != 3:
        simulation.decide(decision.lowest(decision.work))
        decision = due(simulation)
    simulation.decide(decision.wait)  # job 0 has ended by the next time, and stands on machine 0
    decision = due(simulation)
    assert (decision.time, decision.machine) == (1, 3)
    assert decision.machine_state.tolist() == [BLOCKED, DOWN, BUSY, FREE]
    np.testing.assert_array_equal(decision.free_at, [np.nan, np.nan, 4, 1])
    assert decision.candidate.tolist() == [False, False, False, True, True]
    assert decision.operation.tolist() == [1, 3, 4, 5, 7]
    assert decision.duration.tolist() == [2, 8, 4, 1, 2]
    assert decision.work.tolist() == [5, 8, 4, 2, 2]
    assert decision.tail.tolist() == [3, 0, 0, 1, 0]
    assert decision.operations_left.tolist() == [2, 1, 1, 2, 1]
    assert decision.next_machine.tolist() == [3, -1, -1, 2, -1]
    assert decision.on.tolist() == [0, 1, 2, -1, -1]
    assert decision.since.tolist() == [1, 0, 0, 0, 0]
    assert decision.wanted_by.tolist() == [0, 1, 0, 2]
    assert decision.holds_up.tolist() == [0, 1, 0, 0, 0]


def test_an_illegal_action_is_refused():
    shop = JobShop.of([[(0, 1)], [(0, 1)], [(1, 1)]])
    simulation = BlockingShop(shop)
    due(simulation)
    with pytest.raises(ValueError, match="action 2 is not legal for machine 0"):
        simulation.decide(2)
    lonely = BlockingShop(JobShop.of([[(0, 1)], [(0, 1)]]))
    assert due(lonely).action_mask.tolist() == [True, True, False]
    with pytest.raises(ValueError, match="action 2 is not legal"):
        lonely.decide(2)


def test_a_decision_is_made_once_and_asked_for_again_until_then():
    simulation = BlockingShop(JobShop.of([[(0, 2)], [(0, 2)], [(0, 2)]]))
    with pytest.raises(ValueError, match="no decision is due"):
        simulation.decide(0)
    for _ in range(2):
        decision = due(simulation)
        assert (decision.machine, decision.candidate.tolist()) == (0, [True] * 3)
    simulation.decide(1)
    with pytest.raises(ValueError, match="no decision is due"):
        simulation.decide(0)
    assert due(simulation).candidate.tolist() == [True, False, True]
    simulation.decide(0)
    assert simulation.next_decision() is None
    with pytest.raises(ValueError, match="no decision is due"):
        simulation.decide(2)
    assert simulation.log["entered"].tolist() == [2, 0, 4]


def test_what_is_no_blocking_shop_is_refused():
    with pytest.raises(ValueError, match="without a choice of machines"):
        BlockingShop(JobShop.flexible([[[(0, 1), (1, 2)]]]))
    shop = JobShop.of([[(0, 1)]])
    with pytest.raises(ValueError, match="a shutdown for each of 1 operations"):
        BlockingShop(shop, down_for(shop, 1, 2))


@st.composite
def shops(draw, jobs: int = 5, machines: int = 4) -> JobShop:
    """Any routes: machines may be visited again, durations may be 0, jobs may come late."""
    count = draw(st.integers(1, machines))
    operation = st.tuples(st.integers(0, count - 1), st.integers(0, 6))
    routes = draw(st.lists(st.lists(operation, min_size=1, max_size=5), min_size=1, max_size=jobs))
    shop = JobShop.of(routes, count)
    release = draw(st.lists(st.integers(0, 9), min_size=shop.jobs, max_size=shop.jobs))
    return JobShop(
        count,
        shop.first_operation,
        shop.first_option,
        shop.machine,
        shop.duration,
        np.array(release),
    )


@settings(deadline=None, max_examples=200)
@given(shops(), st.integers(0, 99))
def test_nothing_gets_stuck_and_every_schedule_is_good(shop: JobShop, seed: int):
    simulation = simulate(BlockingShop(shop), Random(seed))
    log = simulation.log
    Schedule.plain(shop, log["start"]).validate(blocking=True)
    validate(shop, log)
    assert simulation.makespan == log["end"].max() >= shop.lower_bound()


@settings(deadline=None, max_examples=100)
@given(shops(), st.integers(0, 99), st.sampled_from([0.2, 1.0]))
def test_with_shutdowns_too(shop: JobShop, seed: int, probability: float):
    shutdowns = draw_shutdowns(shop, probability, SeedSequence(seed))
    log = simulate(BlockingShop(shop, shutdowns), Random(seed)).log
    validate(shop, log)
    longer = JobShop(
        shop.machines,
        shop.first_operation,
        shop.first_option,
        shop.machine,
        shop.duration + shutdowns.length,
        shop.release,
    )
    Schedule.plain(longer, log["entered"]).validate(blocking=True)


def every_run(shop: JobShop) -> Iterator[BlockingShop]:
    """One run for every sequence of legal actions."""
    beginnings: list[list[int]] = [[]]
    while beginnings:
        actions = beginnings.pop()
        simulation, made = BlockingShop(shop), 0
        while (decision := simulation.next_decision()) is not None:
            if made == len(actions):
                first, *others = np.flatnonzero(decision.action_mask).tolist()
                beginnings += [[*actions, other] for other in others]
                actions = [*actions, first]
            simulation.decide(actions[made])
            made += 1
        yield simulation


def optimum(shop: JobShop) -> Schedule:
    """Proved."""
    pytest.importorskip("ortools")
    solution = solve(shop, blocking=True, workers=1)
    assert solution.status == "optimal"
    assert solution.schedule is not None
    return solution.schedule


@pytest.mark.parametrize(("jobs", "machines"), [(3, 2), (2, 3), (3, 3), (4, 2)])
def test_the_best_of_all_runs_is_the_optimum(jobs: int, machines: int):
    rng = np.random.default_rng(jobs)
    for _ in range(3):
        routes = [rng.permutation(machines).tolist() for _ in range(jobs)]
        shop = JobShop.of([[(m, int(rng.integers(1, 9))) for m in route] for route in routes])
        runs = list(every_run(shop))
        assert all((run.log["left"] >= 0).all() for run in runs)
        assert min(run.makespan for run in runs) == optimum(shop).makespan


def follower(schedule: Schedule):
    """A policy that makes that schedule: on every machine, jobs enter in its order."""

    def follow(decision: EntryDecision) -> int:
        jobs = np.flatnonzero(decision.candidate)
        to_come = (schedule.machine == decision.machine) & (schedule.start >= decision.time)
        following = np.where(to_come, schedule.start, np.inf).argmin()
        job = int(schedule.shop.job[following])
        return job if job in jobs and following == decision.operation[job] else decision.wait

    return follow


def test_the_optimum_of_ft06_can_be_decided():
    shop = benchmark("ft06")
    best = optimum(shop)
    assert best.makespan == 63
    assert simulate(BlockingShop(shop), follower(best)).makespan == 63


def test_all_policies_meet_the_same_shutdowns():
    shop = benchmark("la01")
    shutdowns = draw_shutdowns(shop, 0.3, SeedSequence(5))
    downs = [simulate(BlockingShop(shop, shutdowns), policy(rule)).log for rule in RULES]
    for log in downs:
        np.testing.assert_array_equal(log["start"] - log["entered"], shutdowns.length)


def test_shutdowns_are_as_frequent_and_as_long_as_is_said():
    shop = JobShop.of([[(0, 40)] * 20_000])
    few, many = (draw_shutdowns(shop, q, SeedSequence(1), mean=2.0).length for q in (0.1, 0.2))
    for length, q in ((few, 0.1), (many, 0.2)):
        hits = length[length > 0]
        assert abs(len(hits) - 20_000 * q) < 4 * np.sqrt(20_000 * q * (1 - q))
        assert abs(hits.mean() - 80) < 4 * 80 / np.sqrt(len(hits))
        assert abs(hits.std() / 80 - 1) < 0.1  # geometric
    np.testing.assert_array_equal(few[few > 0], many[few > 0])


@pytest.mark.parametrize("arguments", [{"probability": 1.1}, {"probability": 0.1, "mean": 0.0}])
def test_shutdowns_out_of_range_are_refused(arguments: dict):
    with pytest.raises(ValueError, match="must be"):
        draw_shutdowns(benchmark("ft06"), seed=SeedSequence(0), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": np.nan}, r"the probability must be in \[0, 1\], not nan"),
        ({"probability": -0.1}, r"the probability must be in \[0, 1\], not -0.1"),
        ({"mean": np.inf}, "the mean must be finite and not negative, not inf"),
        ({"length": np.array([0.5, 1.0])}, "length must be whole numbers, not float64"),
        ({"length": np.array([0, -5])}, "operation 1 must have a length of 0 or more, not -5"),
    ],
)
def test_shutdowns_that_cannot_be_are_named(arguments: dict, message: str):
    good = {"probability": 0.5, "mean": 2.0, "length": np.array([0, 3])}
    Shutdowns(**good)
    with pytest.raises(ValueError, match=message):
        Shutdowns(**good | arguments)


@pytest.mark.parametrize(
    ("column", "operation", "change", "rule"),
    [
        ("entered", 0, -1, "job 0, operation 0 enters before its job is released"),
        ("start", 1, 1, "job 0, operation 1 is not begun right after the shutdown"),
        ("shutdown", 1, 1, "job 0, operation 1 is not begun right after the shutdown"),
        ("end", 2, 1, "job 1, operation 0 does not take its duration"),
        ("left", 0, -9, "job 0, operation 0 leaves its machine before it is done"),
        ("left", 3, 1, "job 1, operation 1 does not leave its machine for the next one"),
    ],
)
def test_the_validator_names_the_broken_rule(column: str, operation: int, change: int, rule: str):
    shop = JobShop.of([[(0, 3), (1, 2)], [(1, 4), (0, 1)]])
    log = simulate(BlockingShop(shop), policy("fifo")).log
    log[column][operation] += change
    with pytest.raises(ValueError, match=rule):
        validate(shop, log)


def test_the_validator_sees_two_jobs_on_a_machine():
    shop = JobShop.of([[(0, 3)], [(0, 4)]])
    log = simulate(BlockingShop(shop), policy("fifo")).log
    for column in ("entered", "start", "end", "left"):
        log[column][1] -= 1
    with pytest.raises(ValueError, match=r"machine 0 has job 0, operation 0 and job 1.* at once"):
        validate(shop, log)
