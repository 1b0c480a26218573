"""`makespan/LLMRouter-v0`: what its rewards, actions and settings mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makespan.envs.core.contract import simulate
from makespan.envs.llm.config import EngineConfig, FleetConfig, Outage, PredictorConfig
from makespan.envs.llm.config import ReplicaConfig as Replica
from makespan.envs.llm.decision import RoutingDecision
from makespan.envs.llm.env import LLMRouterEnv
from makespan.envs.llm.fleet import STATUS, Fleet
from makespan.traces.synthetic import synthetic
from makespan.traces.workload import Workload

Choose = Callable[[LLMRouterEnv], int]

OUTAGES = [[0, 1.0, 3.0], [1, 2.0, 0.5]]


def due(env: LLMRouterEnv) -> RoutingDecision:
    assert env.decision is not None
    return env.decision


def fewest(env: LLMRouterEnv) -> int:
    """The router's own least-requests rule, as an action of the environment."""
    decision = due(env)
    choice = decision.lowest(decision.requests)
    return env.config.max_replicas if choice == decision.replicas else choice


def play(env: LLMRouterEnv, choose: Choose = fewest, seed: int = 0, **options: Any) -> float:
    """One whole episode; its return."""
    env.reset(seed=seed, options=options)
    rewards, terminated = [], False
    while not terminated:
        _, reward, terminated, _, _ = env.step(choose(env))
        rewards.append(reward)
    return float(np.sum(rewards))


def latencies_s(env: LLMRouterEnv) -> np.ndarray:
    """Time in the system of every request; an engine rejects a request when it is sent."""
    log = env.simulation.log
    rejected = log["status"] == STATUS.index("rejected")
    assert np.all(rejected | (log["status"] == STATUS.index("finished")))
    return np.where(rejected, log["sent_s"], log["finish_s"]) - log["arrival_s"]


def random_choice(seed: int) -> Choose:
    rng = np.random.default_rng(seed)
    return lambda env: int(rng.choice(np.flatnonzero(env.action_masks())))


SETTINGS = {
    "plain": {},
    "bursty": {"workload": "bursty", "replicas": 2},
    "sessions": {"workload": "sharegpt_sessions"},
    "outages": {"outages": OUTAGES},
    "hold": {"hold": True, "outages": OUTAGES},
    "one": {"replicas": 1, "max_replicas": 1, "rate": 2.0},
}
# As plain Python an episode takes seconds, and one with outages and holding takes every branch.
CASES = [
    pytest.param(settings, id=name, marks=() if name == "hold" else pytest.mark.slow_in_python)
    for name, settings in SETTINGS.items()
]
RULES = [
    pytest.param(fewest, id="fewest", marks=pytest.mark.slow_in_python),
    pytest.param(random_choice(0), id="random"),
]


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("choose", RULES)
def test_the_return_is_minus_the_sum_of_latencies(settings: dict[str, Any], choose: Choose):
    env = LLMRouterEnv(requests=150, **settings)
    total = play(env, choose)
    assert total == pytest.approx(-latencies_s(env).sum(), rel=1e-9)


def test_rejected_requests_cost_nothing_in_the_latency_return():
    queue = Replica(engine=EngineConfig(kv_blocks=300, max_num_queued_requests=2))
    env = LLMRouterEnv(requests=150)
    total = play(env, fleet=FleetConfig(replicas=(queue,) * 2))
    log = env.simulation.log
    assert (log["status"] == STATUS.index("rejected")).sum() > 15
    assert total == pytest.approx(-np.nansum(log["finish_s"] - log["arrival_s"]), rel=1e-9)


@pytest.mark.parametrize("settings", CASES)
def test_the_goodput_return_counts_requests_within_the_objective(settings: dict[str, Any]):
    env = LLMRouterEnv(requests=150, reward="goodput", **settings)
    total = play(env, random_choice(1))
    log = env.simulation.log
    ttft_s = log["first_token_s"] - log["arrival_s"]
    decode_s = log["finish_s"] - log["first_token_s"]
    limit_s = 1.0 + 0.0625 * log["prompt_tokens"] / 1000
    met = (ttft_s <= limit_s) & (decode_s <= 0.05 * (log["output_tokens"] - 1))
    assert total == met.sum() > 0


@pytest.mark.slow_in_python  # two more whole episodes
def test_an_episode_is_the_run_of_the_fleet():
    config = FleetConfig(replicas=(Replica(),) * 3, predictor=PredictorConfig("none"))
    workload = synthetic("azure_conv", requests=200, rate=10.0, seed=4)
    env = LLMRouterEnv()
    play(env, workload=workload, fleet=config)
    log = simulate(Fleet(workload, config), lambda d: d.lowest(d.requests)).log
    for name, column in env.simulation.log.items():
        np.testing.assert_array_equal(column, log[name], err_msg=name)


@pytest.mark.slow_in_python  # two more whole episodes
def test_the_actions_do_not_change_what_is_drawn():
    runs = [LLMRouterEnv(requests=50, replicas=[2, 6]) for _ in range(2)]
    play(runs[0], fewest, seed=9)
    play(runs[1], random_choice(3), seed=9)
    one, other = (env.simulation for env in runs)
    assert one.config == other.config
    np.testing.assert_array_equal(one.workload.arrival_s, other.workload.arrival_s)
    np.testing.assert_array_equal(one.log["predicted_tokens"], other.log["predicted_tokens"])


@pytest.mark.slow_in_python  # thirty resets
def test_every_reset_draws_a_new_workload_and_fleet():
    env = LLMRouterEnv(requests=20, replicas=[2, 6])
    sizes, arrivals = set(), set()
    for _ in range(30):
        env.reset()
        sizes.add(due(env).replicas)
        arrivals.add(env.simulation.workload.arrival_s.tobytes())
    assert sizes == {2, 3, 4, 5, 6}
    assert len(arrivals) == 30


def test_hardware_is_taken_in_turn():
    env = LLMRouterEnv(replicas=5, hardware=["A100", "H100"], model="Llama-3-8B", requests=5)
    env.reset(seed=0)
    replicas = env.simulation.config.replicas
    assert [replica.hardware for replica in replicas] == ["A100", "H100", "A100", "H100", "A100"]
    assert {replica.model for replica in replicas} == {"Llama-3-8B"}


def test_replicas_that_are_down_or_absent_are_masked():
    env = LLMRouterEnv(replicas=2, max_replicas=4, requests=100, outages=[[0, 1.0, 3.0]])
    observation, info = env.reset(seed=0)
    seen = {}
    terminated = False
    while not terminated:
        down = 1.0 <= due(env).time < 4.0
        seen[down] = seen.get(down, 0) + 1
        assert info["action_mask"].tolist() == [not down, 1, 0, 0]
        assert observation["action_mask"].tolist() == [not down, 1, 0, 0]
        assert observation["replica_mask"].tolist() == [1, 1, 0, 0]
        observation, _, terminated, _, info = env.step(1)
    assert seen[True] > 10
    assert seen[False] > 10


@pytest.mark.slow_in_python  # twenty resets
def test_outages_of_replicas_that_were_not_drawn_are_left_out():
    env = LLMRouterEnv(replicas=[1, 4], requests=5, outages=[[0, 9.0, 1.0], [3, 9.0, 1.0]])
    drawn = {}
    for seed in range(20):
        env.reset(seed=seed)
        drawn[due(env).replicas] = env.simulation.config.outages
    first, last = Outage(0, 9.0, 1.0), Outage(3, 9.0, 1.0)
    assert drawn == {1: (first,), 2: (first,), 3: (first,), 4: (first, last)}


def test_a_masked_action_goes_to_the_healthy_replica_with_fewest_requests():
    env = LLMRouterEnv(replicas=3, max_replicas=4, requests=4, outages=[[0, 0.0, 500.0]])
    workload = Workload(np.full(4, 1.0), np.full(4, 100), np.full(4, 500))
    env.reset(seed=0, options={"workload": workload})
    assert env.step(1)[4]["illegal"] is False
    for masked in (0, 3, 0):
        assert env.step(masked)[4]["illegal"] is True
    assert env.simulation.log["replica"].tolist() == [1, 2, 1, 2]


def test_a_masked_action_holds_when_no_replica_is_healthy():
    env = LLMRouterEnv(replicas=1, requests=1, hold=True, outages=[[0, 0.0, 5.0]])
    workload = Workload(np.array([1.0]), np.array([100]), np.array([10]))
    _, info = env.reset(seed=0, options={"workload": workload})
    assert np.flatnonzero(info["action_mask"]).tolist() == [8]
    _, _, terminated, _, info = env.step(0)
    assert info["illegal"]
    assert not terminated
    assert info["time"] == 5.0
    assert env.step(0)[2]
    assert env.simulation.log["sent_s"].tolist() == [5.0]


def test_a_held_request_comes_back_when_another_finishes():
    env = LLMRouterEnv(replicas=1, max_replicas=3, hold=True)
    workload = Workload(np.array([0.0, 0.1]), np.array([100, 100]), np.array([20, 20]))
    _, info = env.reset(seed=0, options={"workload": workload})
    assert info["action_mask"].tolist() == [1, 0, 0, 0]  # nothing to wait for
    _, _, _, _, info = env.step(0)
    assert info["action_mask"].tolist() == [1, 0, 0, 1]
    env.step(3)
    assert due(env).request.index == 1
    assert env.step(0)[2]
    log = env.simulation.log
    assert log["sent_s"][1] == log["finish_s"][0]


def test_the_last_observation_is_padding_with_the_last_mask():
    env = LLMRouterEnv(requests=1)
    env.reset(seed=0)
    observation, _, terminated, truncated, info = env.step(0)
    assert (terminated, truncated) == (True, False)
    assert observation["action_mask"].tolist() == info["action_mask"].tolist() == [1] * 4 + [0] * 4
    assert not any(observation[key].any() for key in ("replica", "replica_mask", "request"))


def trace(folder: Path, requests: int = 40) -> str:
    """A trace at 2 requests per second whose prompts are numbered."""
    rows = [f"{0.5 * k},{k + 1},{10}" for k in range(requests)]
    path = folder / "trace.csv"
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]))
    return str(path)


@pytest.mark.slow_in_python  # twenty resets
def test_an_episode_of_a_trace_is_a_window_of_it(tmp_path: Path):
    env = LLMRouterEnv(workload=trace(tmp_path), requests=10, rate=4.0)
    starts = set()
    for seed in range(20):
        env.reset(seed=seed)
        window = env.simulation.workload
        starts.add(int(window.prompt_tokens[0]))
        assert np.diff(window.prompt_tokens).tolist() == [1] * 9
        np.testing.assert_allclose(np.diff(window.arrival_s), 0.25)
    assert len(starts) > 8


def test_a_trace_at_its_own_rate_and_shorter_than_an_episode_is_taken_whole(tmp_path: Path):
    env = LLMRouterEnv(workload=trace(tmp_path, requests=6), rate=0.0)
    env.reset(seed=0)
    assert env.simulation.workload.prompt_tokens.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(np.diff(env.simulation.workload.arrival_s), 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicas": 0}, "replicas must lie"),
        ({"replicas": 9}, r"1\.\.max_replicas \(8\), not 9"),
        ({"replicas": [5, 3]}, "replicas must lie"),
        ({"replicas": [1, 2, 3]}, "a number or a range of two"),
        ({"requests": 0}, "requests must be at least 1"),
        ({"rate": -1.0}, "rate must be finite"),
        ({"rate": float("nan")}, "rate must be finite"),
        ({"reward": "latencies"}, "Did you mean 'latency'"),
        ({"predictor": "bukket"}, "Did you mean 'bucket'"),
        ({"outages": [[4, 1.0, 1.0]]}, "outages name replica 4, of 4"),
        ({"hardware": []}, "hardware must name"),
    ],
)
def test_settings_out_of_range_are_errors(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        LLMRouterEnv(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workloads": None}, "Did you mean 'workload'"),
        ({"workload": "azure_conv"}, "must be a Workload"),
        ({"fleet": FleetConfig(can_hold=True)}, "can_hold must be hold"),
        ({"fleet": FleetConfig(replicas=(Replica(),) * 9)}, "9 replicas"),
        ({"workload": Workload(np.zeros(0), np.zeros(0), np.zeros(0))}, "nothing to decide"),
    ],
)
def test_options_that_make_no_sense_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        LLMRouterEnv().reset(options=options)


def test_an_unknown_setting_is_an_error():
    with pytest.raises(TypeError, match="replica"):
        LLMRouterEnv(replica=4)


def crowded(render_mode: str | None) -> LLMRouterEnv:
    """Replica 0 busy with two requests, replica 1 down, a third request due."""
    env = LLMRouterEnv(
        replicas=3, outages=[[1, 0.0, 500.0]], predictor="none", render_mode=render_mode
    )
    workload = Workload(np.array([0.0, 0.5, 1.0]), np.array([640, 320, 777]), np.full(3, 400))
    env.reset(seed=0, options={"workload": workload})
    env.step(0)
    env.step(0)
    return env


def table(env: LLMRouterEnv) -> str:
    shown = env.render()
    assert isinstance(shown, str)
    return shown


def picture(env: LLMRouterEnv) -> np.ndarray:
    shown = env.render()
    assert isinstance(shown, np.ndarray)
    return shown


def test_the_table_shows_the_fleet():
    env = crowded("ansi")
    head, _, *rows = table(env).splitlines()
    assert head == "t = 1.000 s   request 2: 777 prompt tokens, predicted output unknown"
    cells = [row.split() for row in rows]
    assert cells[0][:2] == ["0", "2"]
    assert cells[1][:7] == ["1", "(down)", "0", "0", "0", "0", "0"]
    assert cells[2][:2] == ["2", "0"]
    env.step(2)
    assert "all requests are done" in table(env)


def test_a_known_prediction_is_shown():
    env = LLMRouterEnv(requests=3, predictor="oracle", render_mode="ansi")
    env.reset(seed=0)
    output = env.simulation.workload.output_tokens[0]
    assert f"predicted output {output}" in table(env)


def test_the_picture_grows_with_the_fleet_and_shows_load_and_outage():
    env = crowded("rgb_array")
    busy = picture(env)
    assert busy.dtype == np.uint8
    assert busy.shape[1:] == (800, 3)
    blue, grey = np.array([0x3B, 0x75, 0xAF]), np.array([0xD9, 0xD9, 0xD9])
    assert np.equal(busy, blue).all(axis=2).sum() > 500
    assert np.equal(busy, grey).all(axis=2).sum() > 500
    env.reset(seed=0, options={"fleet": FleetConfig(replicas=(Replica(),) * 6)})
    idle = picture(env)
    assert idle.shape[0] > busy.shape[0]
    assert np.equal(idle, blue).all(axis=2).sum() < 500
    assert np.equal(idle, grey).all(axis=2).sum() < 500


def test_without_a_render_mode_there_is_nothing_to_see():
    assert crowded(None).render() is None
