"""`makespan/JobShopImprove-v0`: what its steps, observations and settings mean."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from makespan.baselines.jobshop import dispatch
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.critical import Selection
from makespan.envs.jobshop.improve.env import JobShopImproveEnv
from makespan.envs.jobshop.improve.episode import EpisodeConfig, first_schedule
from makespan.envs.jobshop.improve.observation import Encoder
from makespan.envs.jobshop.improve.search import LocalSearch, SwapDecision
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop import JobShop, benchmark

SMALL: dict[str, Any] = {"jobs": 6, "machines": 5, "steps": 40}


def due(env: JobShopImproveEnv) -> SwapDecision:
    assert env.decision is not None
    return env.decision


def first_legal(env: JobShopImproveEnv) -> int:
    return int(env.action_masks().argmax())


def play(
    env: JobShopImproveEnv, seed: int = 0, choose: Callable[..., int] = first_legal, **options: Any
) -> list[float]:
    """The rewards of one whole episode."""
    env.reset(seed=seed, options=options)
    rewards, terminated = [], False
    while not terminated:
        _, reward, terminated, _, _ = env.step(choose(env))
        rewards.append(reward)
    return rewards


def first_of(decision: SwapDecision) -> int:
    return int(decision.action_mask.argmax())


def test_rewards_are_what_the_best_schedule_gains():
    env = JobShopImproveEnv(**SMALL)
    rewards = play(env)
    search = env.simulation
    search.best.schedule.validate()
    assert len(rewards) == search.clock.now == 40
    assert min(rewards) == 0
    assert sum(rewards) == search.begun - search.best.makespan > 0
    log = search.log
    assert log["best"].tolist() == np.minimum.accumulate(log["makespan"]).tolist()
    assert (log["best"] == search.begun - np.cumsum(rewards)).all()


def test_the_log_can_be_replayed():
    shop = benchmark("ft06")
    search = simulate(LocalSearch(first_schedule(shop), 30, np.random.default_rng(0)), first_of)
    selection = Selection.of_schedule(first_schedule(shop))
    for first, second, makespan in zip(*list(search.log.values())[:3], strict=True):
        selection = selection.swapped(first, second)
        selection.schedule.validate()
        assert selection.makespan == makespan
    assert selection.sequences == search.selection.sequences


@pytest.mark.parametrize("name", ["ft06", "la01", "ta01", "ta71"])
def test_it_starts_where_the_rule_ends(name: str):
    shop = benchmark(name)
    start = dispatch(shop, "fdd_mwkr", "insert")
    assert first_schedule(shop).start.tolist() == start.start.tolist()
    env = JobShopImproveEnv(instance=name)
    env.reset(seed=0)
    assert env.simulation.begun == start.makespan
    assert due(env).selection.head.tolist() == start.start.tolist()


def test_sizes_are_drawn_from_the_ranges():
    env = JobShopImproveEnv(jobs=[3, 5], machines=[2, 4])
    sizes = set()
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        shop = due(env).selection.shop
        sizes.add((shop.jobs, shop.machines))
        assert observation["operation"].shape == (20, 4)
        assert observation["operation_mask"].sum() == shop.operations
    assert {jobs for jobs, _ in sizes} == {3, 4, 5}
    assert {machines for _, machines in sizes} == {2, 3, 4}


def test_the_last_swap_is_not_undone_at_once():
    env = JobShopImproveEnv(**SMALL)
    env.reset(seed=0)
    tabu = 0
    for _ in range(30):
        action = first_legal(env)
        first, second = due(env).moves[action].tolist()
        env.step(action)
        undo = [pair == [second, first] for pair in due(env).moves.tolist()]
        if len(undo) > 1:
            tabu += any(undo)
            assert env.action_masks()[: len(undo)].tolist() == [not is_undo for is_undo in undo]
    assert tabu > 0


@pytest.mark.slow_in_python
def test_an_episode_ends_early_only_at_an_optimum():
    env = JobShopImproveEnv(jobs=6, machines=3, steps=100)
    early = 0
    for seed in range(30):
        if len(play(env, seed)) < 100:
            early += 1
            best = env.simulation.best
            assert best.makespan == best.shop.lower_bound()
    assert early > 3


def test_the_observation_shows_the_schedule():
    env = JobShopImproveEnv(**SMALL, max_operations=33)
    env.reset(seed=1)
    for _ in range(5):
        observation = env.step(first_legal(env))[0]
    decision = due(env)
    selection, begun = decision.selection, decision.begun
    shop, rows = selection.shop, observation["operation"]
    assert rows[:30, 0].tolist() == pytest.approx(shop.duration / shop.duration.max())
    assert rows[:30, 1].tolist() == pytest.approx(selection.head / begun)
    latest = selection.makespan - selection.tail - shop.duration
    assert rows[:30, 2].tolist() == pytest.approx(latest / begun)
    assert np.flatnonzero(rows[:, 3]).tolist() == sorted(decision.path.tolist())
    assert not rows[30:].any()
    assert observation["search"].tolist() == pytest.approx(
        [selection.makespan / begun, decision.best / begun, 35 / 40, decision.idle / 100]
    )
    assert arcs(observation, "machine") == {
        pair for order in selection.sequences for pair in pairwise(order)
    }
    assert arcs(observation, "job") == {(o, o + 1) for o in range(29) if (o + 1) % 5}


def arcs(observation: dict[str, np.ndarray], kind: str) -> set[tuple[int, int]]:
    exists = observation[f"{kind}_arc_mask"] > 0
    rows = observation[f"{kind}_arcs"]
    assert not rows[:, ~exists].any()
    return {(int(one), int(other)) for one, other in rows[:, exists].T}


def test_the_observation_shows_the_moves():
    env = JobShopImproveEnv(**SMALL)
    observation, _ = env.reset(seed=1)
    firsts = 0
    for _ in range(20):
        decision = due(env)
        k = len(decision.moves)
        for column, name in enumerate(("move_first", "move_second")):
            assert observation[name][0, :k].tolist() == decision.moves[:, column].tolist()
            assert observation[name][1, :k].tolist() == list(range(k))
            assert not observation[name][:, k:].any()
        assert observation["move_mask"].tolist() == [1] * k + [0] * (32 - k)
        change, is_first, tabu, recency, times = observation["move"][:k].T
        exact = (decision.makespans - decision.selection.makespan) / decision.begun
        assert (change <= exact + 1e-6).all()
        assert (tabu == ~decision.action_mask).all()
        since = decision.since
        assert recency.tolist() == pytest.approx(np.where(since > 0, np.exp(-since / 10), 0))
        assert times.tolist() == pytest.approx(np.log(1 + decision.times))
        begins = [int(block[0]) for block in decision.selection.blocks(decision.path)]
        assert (is_first == np.isin(decision.moves[:, 0], begins)).all()
        firsts += is_first.sum()
        observation = env.step(first_legal(env))[0]
    assert firsts > 0


def test_moves_that_find_no_room_are_not_shown():
    env = JobShopImproveEnv(instance="ta01", max_moves=2, steps=20)
    env.reset(seed=0)
    more = 0
    for _ in range(19):
        more += len(due(env).moves) > 2
        observation, _, _, _, info = env.step(first_legal(env))
        assert not info["illegal"]
        assert observation["move_first"][0].tolist() == due(env).moves[:2, 0].tolist()
    assert more > 0


def test_a_given_shop_is_taken():
    shop = benchmark("ft06")
    env = JobShopImproveEnv(**SMALL, max_operations=40)
    play(env, shop=shop)
    assert env.simulation.selection.shop is shop


def test_an_optimum_is_the_end():
    """Both jobs want machine 0 first; with the other one in front, that one alone is the path."""
    shop = JobShop.of([[(0, 5)], [(0, 5), (1, 9)]])
    search = LocalSearch(dispatch(shop, "spt", "append"), 10, np.random.default_rng(0))
    decision = search.next_decision()
    assert decision is not None
    assert decision is search.next_decision()
    assert (decision.moves.tolist(), decision.makespans.tolist()) == ([[0, 1]], [14])
    search.decide(0)
    assert search.next_decision() is None
    assert (search.begun, search.best.makespan, search.clock.now) == (19, 14, 1)


def test_a_search_worked_out_by_hand():
    """The orders of both machines are wrong, and the way leads over a longer schedule."""
    shop = JobShop.of([[(0, 5), (1, 1)], [(0, 5), (1, 9)]])
    search = LocalSearch(dispatch(shop, "spt", "append"), 10, np.random.default_rng(0))
    steps = [
        (19, [[0, 2]], [True], [20]),
        (20, [[2, 0], [1, 3]], [False, True], [19, 15]),  # to undo is tabu
        (15, [[3, 1]], [True], [20]),  # except where it is all there is
    ]
    for makespan, moves, mask, makespans in steps:
        decision = search.next_decision()
        assert decision is not None
        assert decision.selection.makespan == makespan
        assert decision.moves.tolist() == moves
        assert decision.action_mask.tolist() == mask
        assert decision.makespans.tolist() == makespans
        search.decide(int(decision.action_mask.argmax()))


def test_what_the_search_remembers_is_in_its_log():
    search = LocalSearch(first_schedule(benchmark("ft06")), 200, np.random.default_rng(0))
    rng, seen = np.random.default_rng(1), 0
    while (decision := search.next_decision()) is not None:
        log = search.log
        pairs = [
            {*pair} for pair in zip(log["first"].tolist(), log["second"].tolist(), strict=True)
        ]
        for move, since, times in zip(decision.moves, decision.since, decision.times, strict=True):
            steps = [k for k, pair in enumerate(pairs) if pair == {*move.tolist()}]
            assert times == len(steps)
            assert since == (len(pairs) - steps[-1] if steps else -1)
            seen += times > 1
        best = [decision.begun, *log["best"].tolist()]
        assert decision.idle == len(pairs) - best.index(best[-1])
        search.decide(int(rng.choice(np.flatnonzero(decision.action_mask))))
    assert seen > 100


def test_a_swap_that_was_made_stands_the_other_way_round():
    """What changed places last time can only be undone, so its age is that of the order."""
    search = LocalSearch(first_schedule(benchmark("ft06")), 60, np.random.default_rng(0))
    made: dict[frozenset[int], list[int]] = {}
    undone = 0
    while (decision := search.next_decision()) is not None:
        for move in decision.moves.tolist():
            last = made.get(frozenset(move))
            assert last in (None, move[::-1])
            undone += last is not None
        action = int(decision.action_mask.argmax())
        move = decision.moves[action].tolist()
        made[frozenset(move)] = move
        search.decide(action)
    assert undone > 0


def test_estimates_bound_makespans():
    search = LocalSearch(first_schedule(benchmark("ta01")), 60, np.random.default_rng(0))
    exact = 0
    while (decision := search.next_decision()) is not None:
        assert (decision.estimates <= decision.makespans).all()
        exact += (decision.estimates == decision.makespans).sum()
        search.decide(int(decision.action_mask.argmax()))
    assert exact > 100


def test_a_decision_is_not_changed_by_what_follows():
    search = LocalSearch(first_schedule(benchmark("ft06")), 5, np.random.default_rng(0))
    decision = search.next_decision()
    assert decision is not None
    before = [decision.selection.head.copy(), decision.selection.graph.machine_after.copy()]
    search.decide(0)
    search.next_decision()
    after = [decision.selection.head, decision.selection.graph.machine_after]
    assert all((old == new).all() for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"jobs": 1}, "jobs must be at least 2 and not falling, not 1"),
        ({"machines": [4, 3]}, r"machines must be at least 2 and not falling, not \[4, 3\]"),
        ({"machines": [3]}, r"machines must be a whole number or a range of two, not \[3\]"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"max_moves": 1}, "max_moves must be at least 2, not 1"),
        ({"max_operations": 7}, "max_operations must be 0 or 225 at least"),
        ({"instance": "ta1"}, "unknown job shop 'ta1'"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        EpisodeConfig(**settings)


FLEXIBLE = JobShop.flexible([[[(0, 1), (1, 1)]]])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shops": 1}, "unknown option 'shops'. Did you mean 'shop'"),
        ({"shop": "ft06"}, r"options\['shop'\] must be a JobShop"),
        ({"shop": FLEXIBLE}, "without a choice of machines are improved"),
        ({"shop": benchmark("ft10")}, "has 100 operations, max_operations is 30"),
        ({"shop": JobShop.of([[(0, 1)]])}, "nothing to decide"),
    ],
)
def test_shops_that_cannot_be_taken_are_refused(options: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        JobShopImproveEnv(**SMALL).reset(options=options)


def test_shops_without_anything_to_improve_are_not_drawn_for_ever():
    """Of two jobs on two machines hardly any first schedule can be improved, but some can."""
    env = JobShopImproveEnv(jobs=2, machines=2)
    for seed in range(20):
        env.reset(seed=seed)
        assert len(due(env).moves) > 0


def test_where_jobs_visit_a_machine_twice_no_swap_is_no_proof():
    shop = JobShop.of([[(0, 4), (0, 4), (2, 19)], [(0, 2), (1, 12)]])
    search = LocalSearch(first_schedule(shop), 5, np.random.default_rng(0))
    assert search.next_decision() is None
    assert search.begun == 29
    shorter = Schedule.plain(shop, np.array([0, 4, 8, 8, 10]))
    shorter.validate()
    assert shorter.makespan == 27


def test_a_search_refuses_what_is_not_allowed():
    start = first_schedule(benchmark("ft06"))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        LocalSearch(start, 0, np.random.default_rng(0))
    search = LocalSearch(start, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no decision is due"):
        search.decide(0)
    decision = search.next_decision()
    assert decision is not None
    with pytest.raises(ValueError, match="is not allowed"):
        search.decide(len(decision.moves))


def test_an_encoder_makes_its_own_mask():
    search = LocalSearch(first_schedule(benchmark("ft06")), 5, np.random.default_rng(0))
    decision = search.next_decision()
    assert decision is not None
    observation = Encoder(36, 8).encode(decision)
    assert observation["action_mask"].tolist() == [1] * len(decision.moves) + [0] * (
        8 - len(decision.moves)
    )


def test_the_picture_says_who_follows_whom():
    env = JobShopImproveEnv(render_mode="ansi", instance="ft06")
    env.reset(seed=0)
    lines = str(env.render()).splitlines()
    assert lines[0] == f"step 0: makespan {env.simulation.begun}, best {env.simulation.begun}"
    assert [sorted(line.partition(": ")[2].split()) for line in lines[1:]] == [list("012345")] * 6
    assert JobShopImproveEnv(instance="ft06").render() is None
