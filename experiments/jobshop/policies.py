"""From the names on the command line to what makes a schedule: rules, CP-SAT, solvers."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from makespan.baselines.jobshop import RULES, dispatch
from makespan.baselines.jobshop.flexible import FLEXIBLE_RULES, dispatch_flexible
from makespan.baselines.jobshop.relinking import path_relinking
from makespan.baselines.jobshop.tabu import TabuResult, tabu_search
from makespan.envs.core.registry import load
from makespan.envs.jobshop.generation import WAYS, generate
from makespan.envs.jobshop.improve.episode import first_schedule
from makespan.envs.jobshop.improve.search import LocalSearch
from makespan.envs.jobshop.schedule import Schedule
from makespan.experiments.configuration import split
from makespan.experiments.jobshop.instances import Instance
from makespan.experiments.own_function import own_function
from makespan.traces.errors import unknown_name
from makespan.traces.jobshop import JobShop

if TYPE_CHECKING:
    from makespan.agents.jobshop.agent import ShopAgent

Solver = Callable[..., Schedule]
"""A job shop -> its schedule; one that draws takes `seed` as well."""

SOLVERS: Mapping[str, str] = {
    "insa": "makespan.baselines.jobshop.insertion:insa",
    "shifting_bottleneck": "makespan.baselines.jobshop.shifting:shifting_bottleneck",
}
"""Name -> "module:function" of a `Solver` of plain job shops; `--policy` knows what stands here."""

AGENTS = ("agent", "agent:128")
"""Those of `default`, where there is torch: greedy, and the best of so many schedules."""

SEARCHES = ("tabu:1000", "improve:500")
"""The same of those that improve a schedule: so many swaps, of tabu search and by an agent."""

CPSAT = ("cpsat:1s", "cpsat:10s")
"""The time limits of `default`."""

Report = Callable[[int], None]
"""Is told the makespan of every better schedule at the moment it is found; the first, too."""


@dataclass(frozen=True)
class Policy:
    """A way to schedule job shops, as the comparison sees it.

    Attributes:
        label: as on the command line.
        solve: job shop, seed, report -> the schedule; None if there was not the time for any.
        draws: whether another seed may give another schedule.
        flexible: whether operations may have a choice of machines.
    """

    label: str
    solve: Callable[[JobShop, int, Report], Schedule | None]
    draws: bool = True
    flexible: bool = False


def resolve(names: str) -> dict[str, Policy]:
    """Label -> policy for every name of a comma list; see `JobShopConfig.policy`.

    Raises:
        ValueError: a name is unknown, an argument is wrong, or what it takes is not installed.
    """
    policies: dict[str, Policy] = {}
    for name in _expanded(names):
        policy = named(name)
        if policy.label in policies:
            raise ValueError(f"two policies are called {policy.label!r}")
        policies[policy.label] = policy
    return policies


def for_instances(names: str, instances: Sequence[Instance]) -> tuple[dict[str, Policy], list[str]]:
    """Those of `resolve` that can schedule all these, and the labels of the others.

    Raises:
        ValueError: as `resolve`; or one cannot that was named itself, not by a group such as
            `default`.
    """
    policies = resolve(names)
    flexible = [instance.name for instance in instances if instance.shop.is_flexible]
    if not flexible:
        return policies, []
    unable = [label for label, policy in policies.items() if not policy.flexible]
    for label in unable:
        if label in split(names):
            raise ValueError(f"{flexible[0]} has a choice of machines, and {label} takes none")
    return {label: p for label, p in policies.items() if p.flexible}, unable


def named(name: str) -> Policy:
    """The policy of a name.

    Raises:
        ValueError: it is unknown, its argument is wrong, or OR-Tools is not installed.
    """
    kind, _, argument = name.partition(":")
    if kind in RULES:
        return _rule(name, kind, argument or "nondelay")
    if kind in PARAMETRIC:
        return PARAMETRIC[kind](name, argument)
    if ".py:" in name:
        function: Solver = own_function(name)
        return _solver(name.rpartition(":")[2], function, flexible=True)
    if name not in SOLVERS:
        raise unknown_name("job-shop policy", name, [*RULES, *EXAMPLES, *SOLVERS])
    return _solver(name, load("job-shop policy", SOLVERS, name))


def _expanded(names: str) -> list[str]:
    """The names, each once, groups replaced by their members."""
    cpsat = CPSAT if find_spec("ortools") else ()
    agents = AGENTS if can_load_agents() else ()
    groups = {
        "rules": tuple(RULES),
        "default": (*RULES, *SOLVERS, *SEARCHES, *agents, *cpsat),
    }
    return list(dict.fromkeys(n for name in split(names) for n in groups.get(name, (name,))))


def _rule(name: str, rule: str, way: str) -> Policy:
    if way not in WAYS:
        raise unknown_name(f"way of making a schedule in {name}:", way, WAYS)
    known = next(one for one in WAYS if one == way)
    flexible = known == "nondelay" and rule in FLEXIBLE_RULES

    def solve(shop: JobShop, *_: object) -> Schedule:
        return dispatch_flexible(shop, rule) if shop.is_flexible else dispatch(shop, rule, known)

    return Policy(name, solve, draws=False, flexible=flexible)


def _solver(label: str, solve: Solver, flexible: bool = False) -> Policy:
    if "seed" in inspect.signature(solve).parameters:
        return Policy(label, lambda shop, seed, _: solve(shop, seed=seed), flexible=flexible)
    return Policy(label, lambda shop, *_: solve(shop), draws=False, flexible=flexible)


def _random(name: str, argument: str) -> Policy:
    if not re.fullmatch(r"[1-9]\d*", argument):
        raise ValueError(f"{name}: how many random schedules? Such as random:128")
    return Policy(name, partial(_best_of, int(argument)))


def _best_of(number: int, shop: JobShop, seed: int, report: Report) -> Schedule:
    """The shortest of so many schedules without delay from priorities drawn for each operation."""
    draw, best = np.random.default_rng(seed), None
    for _ in range(number):
        schedule = generate(shop, draw.random(shop.operations), "nondelay")
        if best is None or schedule.makespan < best.makespan:
            best = schedule
            report(best.makespan)
    assert best is not None
    return best


def _cpsat(name: str, argument: str) -> Policy:
    if not re.fullmatch(r"(\d+|\d*\.\d+)s", argument) or float(argument[:-1]) == 0:
        raise ValueError(f"{name}: for how long? Such as cpsat:10s")
    if find_spec("ortools") is None:
        raise ValueError(f'{name} takes OR-Tools: pip install "makespan[solve]"')
    return Policy(name, partial(_best_within, float(argument[:-1])), flexible=True)


def _best_within(limit_s: float, shop: JobShop, seed: int, report: Report) -> Schedule | None:
    """What CP-SAT finds in that time, with a worker for each core."""
    from makespan.baselines.jobshop.exact import solve

    def progress(seconds: float, makespan: int, bound: int) -> None:
        report(makespan)

    return solve(shop, limit_s, seed=seed, progress=progress).schedule


def _agent(name: str, argument: str) -> Policy:
    """The agent that comes with the package, or that in a folder; greedy, or the best of many."""
    folder, _, samples = argument.rpartition(":")
    if not re.fullmatch(r"\d*", samples):
        folder, samples = argument, ""
    agent = _load(folder or "job_shop")
    if not samples:
        return Policy(name, lambda shop, *_: agent.schedule(shop), draws=False)
    if int(samples) == 0:
        raise ValueError(f"{name}: how many schedules? Such as agent:128")

    def best_of(shop: JobShop, seed: int, report: Report) -> Schedule:
        return agent.sample(shop, int(samples), seed).best

    return Policy(name, best_of)


def can_load_agents() -> bool:
    """Whether there is what agents that look at a shop by torch take."""
    return all(find_spec(module) for module in ("torch", "torch_geometric"))


def _load(folder: str) -> "ShopAgent":
    if not can_load_agents():
        raise ValueError('an agent takes torch: pip install torch==2.13.0 "makespan[agents]"')
    from makespan.agents.jobshop.agent import ShopAgent

    return ShopAgent.load(folder)


def _search(function: Callable[..., TabuResult], name: str, argument: str) -> Policy:
    """Tabu search, or path relinking."""
    if not re.fullmatch(r"[1-9]\d*", argument):
        raise ValueError(f"{name}: how many swaps? Such as tabu:5000 or relinking:1000000")

    def search(shop: JobShop, seed: int, report: Report) -> Schedule:
        found = function(shop, seed, int(argument), progress=lambda better: report(better.makespan))
        return found.schedule

    return Policy(name, search)


def _improve(name: str, argument: str) -> Policy:
    """The agent that swaps, of the package or in a folder, from the schedule of FDD/MWKR."""
    from makespan.agents.jobshop.improve import LearnedSwaps

    folder, _, steps = argument.rpartition(":")
    if not re.fullmatch(r"[1-9]\d*", steps):
        raise ValueError(f"{name}: how many swaps? Such as improve:500")
    swaps = LearnedSwaps.load(folder or "job_shop_improve")

    def search(shop: JobShop, seed: int, report: Report) -> Schedule:
        rng = np.random.default_rng(seed)
        run = LocalSearch(first_schedule(shop), int(steps), rng)
        report(run.begun)
        while (decision := run.next_decision()) is not None:
            run.decide(swaps(decision))
            if run.best.makespan < decision.best:
                report(run.best.makespan)
        return run.best.schedule

    return Policy(name, search)


PARAMETRIC: Mapping[str, Callable[[str, str], Policy]] = {
    "agent": _agent,
    "cpsat": _cpsat,
    "improve": _improve,
    "random": _random,
    "relinking": partial(_search, path_relinking),
    "tabu": partial(_search, tabu_search),
}
"""What stands before the colon -> the policy of a name and of what stands behind it."""

EXAMPLES = (
    "agent",
    "agent:128",
    "cpsat:10s",
    "improve:500",
    "random:128",
    "relinking:1000000",
    "tabu:5000",
)
"""Of these, for the message about an unknown name."""
