"""Networks that schedule: the compiled part is the torch part, and they learn."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from makespan.agents.folder import AgentError, load_agent
from makespan.agents.jobshop import cp_guided as guided
from makespan.agents.jobshop.agent import ShopAgent
from makespan.agents.jobshop.config import RECIPES, ShopTraining
from makespan.agents.jobshop.cp_guided import _improved, _weights, cp_guided
from makespan.agents.jobshop.network import DispatchNetwork, log_probabilities, shop_graph
from makespan.agents.jobshop.recipes import Lesson, _advantages, ppo, preference, reinforce
from makespan.agents.jobshop.rollout import follow, retrace_starts
from makespan.agents.jobshop.sampling import Samples, sample_schedules
from makespan.agents.jobshop.train import train
from makespan.agents.run import CHECKPOINT, RUN
from makespan.baselines.jobshop.rules import dispatch
from makespan.envs.core.contract import simulate
from makespan.envs.core.registry import load
from makespan.envs.jobshop.core import columns, way_number
from makespan.envs.jobshop.simulation import ShopSimulation
from makespan.traces.jobshop import JobShop, benchmark
from makespan.traces.jobshop.uniform import uniform_shop

FT06 = benchmark("ft06")

CONFIG = ShopTraining(
    updates=6,
    sizes=((5, 4), (6, 3)),
    operations=400,
    samples=6,
    kept=3,
    checkpoint_every=3,
    tuning=1,
    hidden=8,
    layers=1,
    narrow=4,
)


def network(seed: int = 0, hidden: int = 8) -> DispatchNetwork:
    """One whose last layer says something, as if it was trained."""
    torch.manual_seed(seed)
    made = DispatchNetwork(hidden, 2, 4, 4.0)
    torch.nn.init.normal_(made.last.weight)
    return made


def shops(count: int = 3) -> list[JobShop]:
    rng = np.random.default_rng(1)
    return [uniform_shop(jobs, 4, rng) for jobs in range(4, 4 + count)]


def sampled(net: DispatchNetwork, count: int = 8) -> list[Samples]:
    rng = np.random.default_rng(2)
    return [
        sample_schedules(shop, "active", head, count, rng)
        for shop, head in zip(shops(), net.heads(shops()), strict=True)
    ]


def test_an_untrained_network_is_the_rule_with_waiting():
    made = ShopAgent(DispatchNetwork(8, 2, 4, 4.0), "active")
    for name in ("ft06", "la21", "ta01"):
        shop = benchmark(name)
        wanted = dispatch(shop, "tail_p_wait", "active").makespan
        assert made.schedule(shop).makespan == wanted


@pytest.mark.parametrize("way", ["nondelay", "active"])
def test_as_a_policy_it_makes_its_greedy_schedule(way):
    made = ShopAgent(network(), way)
    for shop in (FT06, benchmark("la21")):
        schedule = made.schedule(shop)
        schedule.validate()
        alone = simulate(ShopSimulation(shop, way), made).schedule
        assert schedule.start.tolist() == alone.start.tolist()


def test_the_best_of_many_is_the_shortest_of_all_and_can_be():
    samples = ShopAgent(network(), "active").sample(FT06, 50, seed=3)
    samples.best.validate()
    assert samples.best.makespan == samples.makespan.min() < samples.makespan.max()
    assert samples.makespan[0] == ShopAgent(network(), "active").schedule(FT06).makespan


def test_the_same_seed_draws_the_same_schedules():
    made = ShopAgent(network(), "active")
    one, other = made.sample(FT06, 20, seed=3), made.sample(FT06, 20, seed=3)
    assert one.makespan.tolist() == other.makespan.tolist()
    assert one.picks.tolist() == other.picks.tolist()
    assert one.picks.tolist() != made.sample(FT06, 20, seed=4).picks.tolist()


def test_torch_says_how_likely_what_was_drawn_is():
    # A shop with one choice, drawn often: frequencies are the probabilities that torch computes.
    shop = JobShop.of([[(0, 5), (1, 4)], [(0, 9), (1, 2)]])
    net = network(4)
    net.log_trust.data.fill_(np.log(0.3))
    (head,) = net.heads([shop])
    samples = sample_schedules(shop, "nondelay", head, 4000, np.random.default_rng(0))
    assert (samples.picks[:, 1] == -1).all()
    lesson = Lesson.of([samples], [np.arange(1, 4001)])
    with torch.no_grad():
        likely = lesson.judge(net)[0].exp().numpy()
    for pick in (0, 1):
        mine = samples.picks[1:, 0] == pick
        share = likely[mine][0]
        assert 0.02 < share < 0.98
        error = np.sqrt(share * (1 - share) / 4000)
        assert abs(mine.mean() - share) < 4 * error


def test_the_compiled_scores_are_those_of_torch():
    net = network()
    for samples in sampled(net):
        lesson = Lesson.of([samples], [np.array([0])])
        with torch.no_grad():
            scores, _ = net(net.look([samples.shop]), lesson.choices)
        # The greedy schedule took the highest score at every choice.
        best = np.array(
            [
                scores.numpy()[lesson.choices.choice == k].max()
                for k in range(len(lesson.choices.chosen))
            ]
        )
        np.testing.assert_allclose(scores.numpy()[lesson.choices.chosen], best, atol=1e-4)


def test_shops_side_by_side_are_looked_at_as_alone():
    net = network()
    together = net.look(shops())
    alone = torch.cat([net.look([shop]) for shop in shops()])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_graph_joins_operations_along_jobs_and_with_machines():
    graph = shop_graph([JobShop.of([[(0, 1), (1, 2)], [(1, 3)]])] * 2)
    assert graph["operation", "before", "operation"].edge_index.T.tolist() == [[0, 1], [3, 4]]
    assert graph["operation", "after", "operation"].edge_index.T.tolist() == [[1, 0], [4, 3]]
    on = graph["operation", "on", "machine"].edge_index.T.tolist()
    assert sorted(on) == [[0, 0], [1, 1], [2, 1], [3, 2], [4, 3], [5, 3]]
    assert [end for _, end in on] == sorted(end for _, end in on)


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "cp_guided"])
def test_every_recipe_makes_the_best_schedule_likelier(recipe):
    net = network()
    samples = sampled(net, 16)
    config = dataclasses.replace(CONFIG, kept=4, samples=16)

    def judged() -> np.ndarray:
        """Log probability of the best schedule of each shop, less the mean of all of them."""
        lesson = Lesson.of(samples, [np.arange(1, 17)] * 3)
        with torch.no_grad():
            logs = lesson.per_schedule(lesson.judge(net)[0], "mean").numpy().reshape(3, 16)
        best = [sample.makespan[1:].argmin() for sample in samples]
        return logs[range(3), best] - logs.mean(1)

    before = judged()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(40):
        for loss in load("recipe", RECIPES, recipe)(net, samples, config):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert judged().mean() > before.mean() + 0.01


def test_what_cp_sat_did_becomes_likelier_than_what_the_network_did():
    rng = np.random.default_rng(1)
    net, some = network(), [uniform_shop(7, 6, rng) for _ in range(3)]
    samples = [
        sample_schedules(shop, "active", head, 2, rng)
        for shop, head in zip(some, net.heads(some), strict=True)
    ]
    pairs = [_improved(sample, k) for k, sample in enumerate(samples)]
    improved = [pair[0] for pair in pairs if pair is not None]
    assert improved
    for sample in improved:
        assert sample.makespan[0] < sample.makespan[1]

    def lead() -> float:
        """Log probability of CP-SAT's schedule less that of the network's, mean over shops."""
        lesson = Lesson.of(improved, [np.array([0, 1])] * len(improved))
        with torch.no_grad():
            logs = lesson.per_schedule(lesson.judge(net)[0], "sum").numpy().reshape(-1, 2)
        return float((logs[:, 0] - logs[:, 1]).mean())

    before = lead()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(3):
        for loss in cp_guided(net, samples, CONFIG):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert lead() > before


def test_what_cp_sat_does_hangs_on_work_and_not_on_the_clock(monkeypatch):
    rng = np.random.default_rng(0)
    shop = uniform_shop(10, 10, rng)
    (head,) = network().heads([shop])
    sample = sample_schedules(shop, "active", head, 2, rng)
    first, again = (_improved(sample, 0) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first[1] == again[1]
    np.testing.assert_array_equal(first[0].picks, again[0].picks)
    monkeypatch.setattr(guided, "WORK", 1e-9)
    assert _improved(sample, 0) is None


def test_a_schedule_followed_by_its_starts_is_the_same_schedule():
    net = network()
    for sample in sampled(net):
        compiled, way = columns(sample.shop), way_number("active")
        start, before = retrace_starts(compiled, way, sample.picks[2], 0)
        assert start.max() <= sample.makespan[2]
        picks, candidates, makespan = follow(compiled, way, start)
        assert makespan == sample.makespan[2]
        assert candidates == sample.candidates[2]
        assert picks.tolist() == sample.picks[2].tolist()
        assert before.sum() < sample.shop.operations / 2


def test_with_cp_sat_only_the_suffix_counts_and_the_own_one_against_itself():
    samples = sampled(network(), 8)[:2]
    pairs = []
    for sample, gain in zip(samples, (0.1, 0.3), strict=True):
        makespan = np.array([1 - gain, 1.0])
        pairs.append(dataclasses.replace(sample, makespan=makespan, picks=sample.picks[1:3]))
        pairs[-1] = dataclasses.replace(pairs[-1], candidates=sample.candidates[1:3])
    lesson = Lesson.of(pairs, [np.array([0, 1])] * 2)
    weights, chosen = _weights(lesson, [0, 3])
    of = lesson.choices.schedule
    # In units of the mean gain, 0.2: the better schedules of the two shops, and the network's own.
    for schedule, weight in enumerate((0.5, -0.5, 1.5, -1.5)):
        np.testing.assert_allclose(weights.numpy()[of == schedule], weight, rtol=1e-5)
    for schedule, begin in enumerate((0, 0, 3, 3)):
        inside = chosen.numpy()[of == schedule]
        assert inside[:begin].sum() == 0
        assert inside[begin:].all()


def test_advantages_are_worked_out_within_each_schedule():
    """By hand, of two schedules of two choices, of which the bounds grow 1, 1.1, 1.3 and 1, 1, 1.2.

    The errors are growth of the bound, negative, and of the value; 0.98 of the next one is added.
    """
    (sample, *_) = sampled(network())
    choices = Lesson.of([sample], [np.array([1, 2])]).choices._replace(
        bound=np.array([1.0, 1.1, 1.0, 1.0]), schedule=np.array([0, 0, 1, 1]), schedules=2
    )
    bound = sample.shop.lower_bound()
    ends = dataclasses.replace(sample, makespan=np.array([1.3, 1.2]) * bound)
    lesson = Lesson(choices, [np.array([0, 1])], [ends])
    values = np.array([0.5, 0.3, 0.2, 0.4])
    advantage, returns = _advantages(lesson, values)
    last = -0.2 - 0.3, -0.2 - 0.4
    first = -0.1 + 0.3 - 0.5 + 0.98 * last[0], 0.4 - 0.2 + 0.98 * last[1]
    np.testing.assert_allclose(advantage, [first[0], last[0], first[1], last[1]])
    np.testing.assert_allclose(returns, advantage + values)


def test_the_value_of_ppo_learns_what_is_still_to_come():
    net, config = network(), dataclasses.replace(CONFIG, epochs=1)
    for loss in ppo(net, sampled(net), config):
        loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in net.value.parameters())


def test_a_pair_is_preferred_by_the_ratio_of_its_makespans():
    net = network()
    (sample, *_) = sampled(net, 1)
    pair = dataclasses.replace(sample, makespan=np.array([10, 30]))
    (loss,) = preference(net, [pair], dataclasses.replace(CONFIG, kept=2, samples=2))
    lesson = Lesson.of([pair], [np.array([0, 1])])
    with torch.no_grad():
        better, worse = lesson.per_schedule(lesson.judge(net)[0], "mean").tolist()
    assert better != worse
    assert loss.item() == pytest.approx(np.log1p(np.exp(-3 * (better - worse))), rel=1e-4)


def test_choices_have_the_bound_of_when_they_were_due():
    for sample in sampled(network()):
        longest = int(sample.makespan.argmax())
        choices, bounds = sample.choices(np.array([longest])), []
        simulation = ShopSimulation(sample.shop, "active")
        for pick in sample.picks[longest, : len(choices.bound)].tolist():
            decision = simulation.next_decision()
            assert decision is not None
            bounds.append(simulation.bound / simulation.facts.bound)
            simulation.decide(int(decision.jobs[pick]))
        assert simulation.next_decision() is None
        np.testing.assert_allclose(choices.bound, bounds)
        assert bounds[-1] > bounds[0]


def test_there_is_nothing_to_prefer_where_all_are_as_short():
    samples = sampled(network())
    same = [dataclasses.replace(s, makespan=np.full_like(s.makespan, 9)) for s in samples]
    assert list(preference(network(), same, CONFIG)) == []
    (loss,) = reinforce(network(), same, CONFIG)
    assert loss.item() == 0


def test_probabilities_of_a_choice_add_up():
    net = network()
    choices = Lesson.of(sampled(net), [np.array([0])] * 3).choices
    with torch.no_grad():
        scores, values = net(net.look(shops()), choices)
        total = np.zeros(len(choices.chosen))
        for row in range(len(scores)):
            chosen = choices.chosen.copy()
            chosen[choices.choice[row]] = row
            logs = log_probabilities(scores, choices._replace(chosen=chosen))
            total[choices.choice[row]] += logs[choices.choice[row]].exp().item()
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert values.shape == (len(choices.chosen),)


def test_a_trained_agent_is_loaded_from_its_folder(tmp_path: Path):
    agent = train(CONFIG, tmp_path / "run")
    assert agent.card.trained["updates"] == 6
    history = agent.card.results["history"]
    assert [row["updates"] for row in history] == [0, 3, 6]
    assert agent.card.results["tuning"]["tuning"] == min(row["tuning"] for row in history)
    assert agent.card.results["test"]["mean"] != agent.card.results["tuning"]["tuning"]
    made = ShopAgent.load(str(tmp_path / "run"))
    assert made.way == "active"
    made.schedule(FT06).validate()


def test_a_run_that_was_killed_goes_on_to_the_same_agent(tmp_path: Path):
    class Killed(BaseException):
        pass

    def kill(figures: dict[str, float]) -> None:
        if figures["updates"] == 5:
            raise Killed

    whole = train(CONFIG, tmp_path / "whole")
    with pytest.raises(Killed):
        train(CONFIG, tmp_path / "killed", report=kill)
    resumed = train(CONFIG, tmp_path / "killed", resume=True)
    for name, weights in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], weights)
    assert [row["tuning"] for row in resumed.card.results["history"]] == [
        row["tuning"] for row in whole.card.results["history"]
    ]


def test_an_interrupted_run_keeps_what_it_learned(tmp_path: Path):
    def interrupt(figures: dict[str, float]) -> None:
        if figures["updates"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path, report=interrupt)
    seen: list[float] = []
    train(CONFIG, tmp_path, resume=True, report=lambda figures: seen.append(figures["updates"]))
    assert seen[0] == 6


def test_a_folder_in_use_is_not_trained_in(tmp_path: Path):
    train(CONFIG, tmp_path)
    with pytest.raises(AgentError, match="there is a run already: --resume goes on with it"):
        train(CONFIG, tmp_path)
    with pytest.raises(AgentError, match="has other settings"):
        train(dataclasses.replace(CONFIG, rate=1e-4), tmp_path, resume=True)
    (tmp_path / RUN).unlink()
    with pytest.raises(AgentError, match="an agent already that was not trained here"):
        train(CONFIG, tmp_path)


def test_what_is_damaged_is_named(tmp_path: Path):
    train(CONFIG, tmp_path)
    settings = (tmp_path / RUN).read_text()
    (tmp_path / RUN).write_text(settings[:20])
    with pytest.raises(AgentError, match=r"run.json: not the settings of a run"):
        train(CONFIG, tmp_path, resume=True)
    (tmp_path / RUN).write_text(settings)
    (tmp_path / CHECKPOINT).write_bytes(b"{}")
    with pytest.raises(AgentError, match="not a checkpoint of this run"):
        train(CONFIG, tmp_path, resume=True)
    card = json.loads((tmp_path / "card.json").read_text())
    card["training"]["hidden"] = 16
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(AgentError, match="its weights do not fit its card"):
        ShopAgent.load(str(tmp_path))
    assert load_agent(tmp_path).card.kind == "dispatch"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "pp"}, "unknown recipe"),
        ({"updates": 0}, "updates must be at least 1, not 0"),
        ({"seed": -1}, "seed and layers >= 0"),
        ({"recipe": "preference", "kept": 1}, "kept must be from 2 to samples"),
        ({"samples": 0}, "samples must be at least 1, not 0"),
        ({"sizes": ((5, 1),)}, "at least 2 jobs and 2 machines"),
        ({"trust": 0.0}, "clip and trust must be positive"),
        ({"way": "early"}, "not by 'early'"),
        ({"rate": 0.0}, "learning rate must be positive"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ShopTraining(**settings)
