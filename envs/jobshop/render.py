"""Pictures of schedules: machines as rows, jobs as colours."""

from typing import TYPE_CHECKING

import numpy as np

from makespan.envs.jobshop.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOLDEN = 0.381966
"""Turn of the colour circle from one job to the next, so that neighbours are far apart."""

SATURATIONS, VALUES = (0.55, 0.75, 0.4), (0.95, 0.75, 0.85)
"""Taken in turn, so that jobs of nearly the same hue differ."""

HEIGHT = 0.86
"""Of an operation, in rows."""

LABEL_SHARE = 0.016
"""Share of the time from which an operation has room for the number of its job."""

MOST_LABELLED_JOBS = 30
"""With more jobs, labels are left out: what fits would be a random choice of them."""


def gantt(schedule: Schedule, begun: np.ndarray | None = None) -> "Figure":
    """A Gantt chart as a matplotlib figure (`figure.savefig("schedule.png")`).

    Args:
        begun: bool (operations,): those that are drawn; None: all.
    """
    from matplotlib.figure import Figure

    shop = schedule.shop
    drawn = np.ones(shop.operations, bool) if begun is None else begun
    figure = Figure(figsize=(10, 1.2 + 0.28 * shop.machines), dpi=100, layout="constrained")
    axes = figure.subplots()
    _draw_operations(axes, schedule, drawn)
    last = int(schedule.end[drawn].max(initial=0))
    axes.set_title(f"{shop.name or 'job shop'}: {_told(schedule, drawn, last)}", fontsize=10)
    axes.set_xlim(0, max(last, 1) * 1.005)
    axes.set_ylim(shop.machines - 0.4, -0.6)
    axes.set_yticks(range(shop.machines))
    axes.set_xlabel("time")
    axes.set_ylabel("machine")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def picture(schedule: Schedule, begun: np.ndarray | None = None) -> np.ndarray:
    """The same as uint8 RGB of shape (height, 1000, 3); taller for more machines."""
    return pixels(gantt(schedule, begun))


def pixels(figure: "Figure") -> np.ndarray:
    """A figure as uint8 RGB of shape (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def job_colours(jobs: int) -> np.ndarray:
    """float64 (jobs, 3), RGB from 0 to 1."""
    from matplotlib.colors import hsv_to_rgb

    job = np.arange(jobs)
    saturation, value = np.array(SATURATIONS)[job % 3], np.array(VALUES)[job // 3 % 3]
    return hsv_to_rgb(np.column_stack([job * GOLDEN % 1, saturation, value]))


def _told(schedule: Schedule, drawn: np.ndarray, last: int) -> str:
    if drawn.all():
        return f"makespan {last:,}"
    return f"{drawn.sum():,} of {len(drawn):,} operations, until {last:,}"


def _draw_operations(axes: "Axes", schedule: Schedule, drawn: np.ndarray) -> None:
    from matplotlib.collections import PolyCollection

    shop = schedule.shop
    start, end = schedule.start[drawn], schedule.end[drawn]
    machine, job = schedule.machine[drawn], shop.job[drawn]
    x = np.column_stack([start, end, end, start])
    y = machine[:, None] + HEIGHT / 2 * np.array([-1, -1, 1, 1])
    few = shop.jobs <= MOST_LABELLED_JOBS
    colours = job_colours(shop.jobs)[job]
    axes.add_collection(
        PolyCollection(
            list(np.stack([x, y], axis=2)),
            facecolors=colours,
            edgecolors="white",
            linewidths=0.6 if few else 0.2,
        )
    )
    room = end - start >= LABEL_SHARE * end.max(initial=0)
    for k in np.flatnonzero(room & few).tolist():
        middle = (start[k] + end[k]) / 2
        axes.text(middle, machine[k], str(job[k]), ha="center", va="center", fontsize=7)
