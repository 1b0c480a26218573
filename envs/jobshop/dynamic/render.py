"""Pictures of a shop at the moment of a decision."""

from typing import TYPE_CHECKING

import numpy as np

from makespan.envs.jobshop.dynamic.decision import DispatchDecision
from makespan.envs.jobshop.dynamic.schedule import DynamicSchedule
from makespan.envs.jobshop.dynamic.simulation import DynamicJobShop
from makespan.envs.jobshop.render import job_colours, pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOWN = "#d9d9d9"


def caption(run: DynamicJobShop, decision: DispatchDecision | None) -> str:
    """One line: the time and who waits."""
    time = f"t = {run.clock.now:.1f}"
    if decision is None:
        return f"{time}   all jobs are done"
    waiting = ", ".join(map(str, decision.job.tolist()))
    return f"{time}   machine {decision.machine} chooses from jobs {waiting}"


def table(run: DynamicJobShop, decision: DispatchDecision | None) -> str:
    """What machines do and what waits for them, then the candidates, as text."""
    if decision is None:
        return caption(run, decision)
    lines = [caption(run, decision), _row("machine", "job", "left", "waiting", "work waiting")]
    doing = {machine: str(run.shop.job[run.operation(o)]) for machine, o, _ in run.under_way()}
    for machine, up in enumerate(decision.up.tolist()):
        lines.append(
            _row(
                machine,
                doing.get(machine, "-") if up else "(down)",
                f"{decision.left[machine]:.1f}",
                decision.queue_length[machine],
                f"{decision.queue_work[machine]:.1f}",
            )
        )
    lines.append(_row("candidate", "duration", "work after", "due", "next machine"))
    columns = (decision.job, decision.duration, decision.tail, decision.due, decision.next_machine)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        lines.append(
            _row(*(f"{value:.1f}" if isinstance(value, float) else value for value in row))
        )
    return "\n".join(lines)


def _row(*cells: object) -> str:
    return "  ".join(f"{cell!s:>12}" for cell in cells)


def picture(run: DynamicJobShop, decision: DispatchDecision | None) -> np.ndarray:
    """What was done so far as a Gantt chart: uint8 RGB of shape (height, 800, 3)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 0.3 * run.shop.machines), dpi=100, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(caption(run, decision), fontsize=10)
    draw(axes, run.schedule())
    _draw_under_way(axes, run)
    axes.set_xlim(0, max(1.0, run.clock.now))
    return pixels(figure)


def draw(axes: "Axes", schedule: DynamicSchedule) -> None:
    """A Gantt chart of a schedule: a row per machine, a colour per job, downtimes in grey."""
    rows = np.arange(schedule.shop.machines)
    lengths = schedule.down_to - schedule.down_from
    axes.barh(schedule.down_machine, lengths, 0.9, left=schedule.down_from, color=DOWN)
    colours = job_colours(schedule.shop.jobs)[schedule.job]
    lengths = schedule.end - schedule.start
    axes.barh(schedule.machine, lengths, 0.7, left=schedule.start, color=colours)
    axes.set_yticks(rows, [f"machine {machine}" for machine in rows])
    axes.set_ylim(schedule.shop.machines - 0.5, -0.5)
    axes.set_xlabel("time")


def _draw_under_way(axes: "Axes", run: DynamicJobShop) -> None:
    colours = job_colours(run.shop.jobs)
    for machine, option, since in run.under_way():
        colour = colours[run.shop.job[run.operation(option)]]
        axes.barh(machine, run.clock.now - since, 0.7, left=since, color=colour)
