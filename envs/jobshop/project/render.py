"""Pictures of a project at the moment of a decision."""

from typing import TYPE_CHECKING

import numpy as np

from makespan.envs.jobshop.project.simulation import ProjectRun, TaskDecision
from makespan.envs.jobshop.render import pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDED, RUNNING, STARTABLE, DOWN = "#9bb8d3", "#3b75af", "#e2903b", "#d9d9d9"


def caption(run: ProjectRun, decision: TaskDecision | None) -> str:
    """One line: the time and what can begin."""
    time = f"t = {run.clock.now}"
    if decision is None:
        return f"{time}   all tasks have ended"
    can = ", ".join(map(str, np.flatnonzero(decision.startable)))
    return f"{time}   can begin: {can}{' (or wait)' if decision.can_wait else ''}"


def table(run: ProjectRun, decision: TaskDecision | None) -> str:
    """The project as text: what can begin, what is under way, what there is."""
    lines = [caption(run, decision)]
    if decision is None:
        return "\n".join([*lines, f"makespan {run.makespan}"])
    ends = decision.start + run.project.duration
    running = [f"{task} (to {ends[task]})" for task in np.flatnonzero(decision.running)]
    lines.append(f"under way: {', '.join(running) or '-'}")
    shares = zip(decision.free.tolist(), run.project.capacity.tolist(), strict=True)
    lines.append(f"free: {', '.join(f'{free} of {capacity}' for free, capacity in shares)}")
    lines.append(f"ended: {int(decision.ended.sum())} of {run.project.tasks}")
    return "\n".join(lines)


def picture(run: ProjectRun, decision: TaskDecision | None) -> np.ndarray:
    """The project as uint8 RGB of shape (height, 800, 3); taller for more tasks and resources."""
    from matplotlib.figure import Figure

    resources = len(run.project.capacity)
    chart = 0.8 + 0.14 * run.project.tasks
    figure = Figure(figsize=(8, chart + 0.9 * resources), dpi=100, layout="constrained")
    ratios = [chart, *[0.9] * resources]
    tasks, *panels = figure.subplots(
        1 + resources, 1, sharex=True, height_ratios=ratios, squeeze=False
    )[:, 0]
    figure.suptitle(caption(run, decision), fontsize=10)
    start = run.schedule.start
    _draw_tasks(tasks, run, start, decision)
    for resource, axes in enumerate(panels):
        _draw_resource(axes, run, start, resource)
    panels[-1].set_xlabel("time") if panels else tasks.set_xlabel("time")
    return pixels(figure)


def _draw_tasks(
    axes: "Axes", run: ProjectRun, start: np.ndarray, decision: TaskDecision | None
) -> None:
    """A bar for each task that has begun, and a mark for each that can."""
    duration, now = run.project.duration, run.clock.now
    for colour, shown in (
        (ENDED, (start >= 0) & (start + duration <= now)),
        (RUNNING, (start >= 0) & (start + duration > now)),
    ):
        axes.barh(np.flatnonzero(shown), duration[shown], left=start[shown], color=colour)
    if decision is not None:
        can = np.flatnonzero(decision.startable)
        axes.plot(np.full(len(can), now), can, ">", color=STARTABLE)
    axes.axvline(now, color="black", linewidth=0.8)
    axes.set_ylim(run.project.tasks - 0.4, -0.6)
    axes.set_ylabel("task")


def _draw_resource(axes: "Axes", run: ProjectRun, start: np.ndarray, resource: int) -> None:
    """How much is taken over time, and when there is none."""
    project = run.project
    begun = start >= 0
    end = int((start + project.duration)[begun].max(initial=1))
    taken = np.zeros(end + 1)
    for task in np.flatnonzero(begun).tolist():
        taken[start[task] : start[task] + project.duration[task]] += project.demand[task, resource]
    axes.fill_between(np.arange(end + 1), taken, step="post", color=RUNNING)
    for of, down, up in project.downtime.tolist():
        if of == resource:
            axes.axvspan(down, up, color=DOWN)
    axes.set_ylim(0, max(1, int(project.capacity[resource])))
    axes.set_ylabel(f"resource {resource}", fontsize=8)
