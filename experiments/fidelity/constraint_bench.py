"""Which projects rules and a solver can do in time, by how much binds them (R-ConstraintBench).

The benchmark (arXiv 2508.15204) asks whether all of a project's rules are met, not how long it
takes: the feasibility curve is the share of projects that are done so, over the level (the number
of precedences), and WAUC the area under it in which a level weighs what its number is. That weight
is this project's reading of "weighted", and the projects are its own
(`makespan.traces.jobshop.layered`), so figures of language models are not comparable.
`figure` shows all curves, `curve_table` some of them, and `table` the areas:

>>> from makespan.experiments.fidelity.constraint_bench import curve_table, figure, table
>>> print(table())  # doctest: +SKIP
>>> print(curve_table("everything"))  # doctest: +SKIP
>>> figure().savefig("curves.png")  # doctest: +SKIP
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import SeedSequence

from makespan.baselines.jobshop.cpsat import MISSING
from makespan.baselines.jobshop.exact_project import solve_project
from makespan.baselines.jobshop.project_rules import RULES, dispatch_project
from makespan.envs.jobshop.projects import PROJECT_WAYS, ProjectSchedule
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.sources import Sources
from makespan.traces.jobshop.layered import layered
from makespan.traces.jobshop.project import Project

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (5, 10, 20, 30, 40)

PROJECTS = 30
"""Of each level; those of one number have the same tasks on all of them."""

SHARE = 0.75
"""Probability with which each axis is injected, as in the paper."""

AXES: dict[str, dict[str, Any]] = {
    "precedences": {},
    "windows": {"windows": SHARE},
    "everything": {"downtime": SHARE, "windows": SHARE, "pairs": SHARE},
}
"""What binds the tasks besides resources."""

LIMIT_S = 20.0
"""For the solver and one project; it takes hundredths of a second."""

SOLVER, HIDDEN = "CP-SAT", "hidden schedule"

Z = 1.96
"""Half the width of a 95 % interval, in standard errors of a mean."""

IN_TABLE = (
    SOLVER,
    "lft, parallel",
    "lst, parallel",
    "lft, serial",
    "slk, parallel",
    "spt, parallel",
)
"""By whom are the curves of `curve_table`."""

SOURCE = "arXiv 2508.15204, on this project's own instances"

Curves = Mapping[str, np.ndarray]
"""By whom -> float64 (projects, levels): 1 where it was done, 0 where not, nan where the time was
over before either was known."""


@cache
def projects(axes: str, level: int) -> list[tuple[Project, np.ndarray]]:
    """Projects of one level, and when their tasks begin in a schedule that meets everything."""
    return [layered(level, SeedSequence([n]), **AXES[axes]) for n in range(PROJECTS)]


@cache
def curves(axes: str) -> Curves:
    """Of every rule and way, of the hidden schedules, and of the solver if it is installed."""
    found = {HIDDEN: _outcomes(axes, lambda project, start: met(ProjectSchedule(project, start)))}
    for rule, way in product(RULES, PROJECT_WAYS):
        found[f"{rule}, {way}"] = _outcomes(
            axes, lambda project, _, by=rule, way=way: met(dispatch_project(project, by, way))
        )
    if find_spec("ortools"):
        found[SOLVER] = _outcomes(axes, lambda project, _: solved(project))
    return found


def _outcomes(axes: str, outcome: Callable[[Project, np.ndarray], float]) -> np.ndarray:
    return np.array([[outcome(*one) for one in projects(axes, level)] for level in LEVELS]).T


def met(schedule: ProjectSchedule) -> float:
    """1 if it meets everything, 0 if not."""
    try:
        schedule.validate()
    except ValueError:
        return 0.0
    return 1.0


def solved(project: Project) -> float:
    """The same of the solver, with one thread so that it is alike in every run."""
    solution = solve_project(project, LIMIT_S, first=True, workers=1)
    if solution.schedule is not None:
        return met(solution.schedule)
    return 0.0 if solution.status == "infeasible" else float("nan")


def wauc(outcomes: np.ndarray) -> np.ndarray:
    """float64 (projects,): of each number, the share of the weight of levels that was done.

    What is not known counts as not done.
    """
    return np.nan_to_num(outcomes) @ np.array(LEVELS) / sum(LEVELS)


def mean_and_half_width(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval."""
    return float(values.mean()), Z * float(values.std(ddof=1)) / float(np.sqrt(len(values)))


def rows(_: Sources) -> Iterator[Row | Missing]:
    """What must hold of any such curves, and how far the best rule is from the solver."""
    all_curves = [curves(axes) for axes in AXES]
    hidden = np.array([found[HIDDEN] for found in all_curves])
    yield _count("hidden schedules that meet everything", hidden.size, hidden.sum())
    alone = [values for by, values in curves("precedences").items() if by not in (HIDDEN, SOLVER)]
    yield _count(
        "of those with precedences and resources only, done by each of 12 rules",
        np.size(alone),
        np.sum(alone),
    )
    if SOLVER not in all_curves[0]:
        yield Missing("what a solver can do of these projects", SOURCE, MISSING)
        return
    solver = np.array([found[SOLVER] for found in all_curves])
    finished = np.isfinite(solver)
    yield _count("of those on which CP-SAT ended, done by it", finished.sum(), np.nansum(solver))
    yield _count("levels and rules on which a rule does more than CP-SAT", 0, _rules_above_solver())
    everything = curves("everything")
    best = max(
        (by for by in everything if by not in (HIDDEN, SOLVER)), key=partial(_area, everything)
    )
    yield Row(
        f"WAUC with downtimes, windows and pairs: best of 12 rules ({best}), against CP-SAT",
        SOURCE,
        _area(everything, SOLVER),
        _area(everything, best),
        None,
        "absolute",
    )


def _count(what: str, reference: float, ours: float) -> Row:
    return Row(
        f"{PROJECTS} random projects a level: {what}",
        SOURCE,
        int(reference),
        int(ours),
        0,
        "absolute",
    )


def _area(found: Curves, by: str) -> float:
    return float(wauc(found[by]).mean())


def _rules_above_solver() -> int:
    """Over all axes."""
    above = 0
    for found in map(curves, AXES):
        solver = np.nan_to_num(found[SOLVER]).mean(axis=0)
        above += sum(
            int((v.mean(axis=0) > solver).sum()) for by, v in found.items() if by != HIDDEN
        )
    return above


def table() -> str:
    """WAUC with 95 % intervals of everyone and all axes, as Markdown."""
    lines = [f"| | {' | '.join(AXES)} |", f"|---|{'---:|' * len(AXES)}"]
    for by in curves("everything"):
        cells = [mean_and_half_width(wauc(curves(axes)[by])) for axes in AXES]
        lines.append(
            f"| {by} | {' | '.join(f'{mean:.3f} +- {half:.3f}' for mean, half in cells)} |"
        )
    return "\n".join(lines)


def curve_table(axes: str) -> str:
    """How many projects of each level are done, by those of `IN_TABLE`, as Markdown."""
    lines = [f"| | {' | '.join(map(str, LEVELS))} |", f"|---|{'---:|' * len(LEVELS)}"]
    for by in filter(curves(axes).__contains__, IN_TABLE):
        done = np.nansum(curves(axes)[by], axis=0).astype(int)
        lines.append(f"| {by} | {' | '.join(map(str, done))} |")
    return "\n".join(lines)


def figure() -> "Figure":
    """The curves of everyone, a panel for each of the axes."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(4.5 * len(AXES), 4), layout="constrained")
    for panel, axes in zip(drawn.subplots(1, len(AXES), sharey=True), AXES, strict=True):
        for by, outcomes in curves(axes).items():
            if by != HIDDEN:
                share = np.nan_to_num(outcomes).mean(axis=0)
                panel.plot(LEVELS, share, marker=".", label=by, **_style(by))
        panel.set(title=axes, xlabel="precedences", ylim=(-0.03, 1.03))
    drawn.axes[0].set_ylabel("share of projects done")
    drawn.legend(*drawn.axes[-1].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return drawn


def _style(by: str) -> dict[str, str]:
    """A colour for each rule, and a dash for each way."""
    rule, _, way = by.partition(", ")
    if not way:
        return {"color": "black"}
    return {"color": f"C{list(RULES).index(rule)}", "linestyle": "--" if way == "serial" else ":"}
