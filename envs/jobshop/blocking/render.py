"""Pictures of a blocking shop at the moment of a decision."""

import numpy as np

from makespan.envs.jobshop.blocking.decision import EntryDecision
from makespan.envs.jobshop.blocking.simulation import BlockingShop
from makespan.envs.jobshop.render import job_colours, pixels

STATES = ("free", "busy", "blocked", "down")


def caption(shop: BlockingShop, decision: EntryDecision | None) -> str:
    """One line: the time and the machine that is asked about."""
    time = f"t = {shop.clock.now:.0f}"
    if decision is None:
        return f"{time}   all jobs are done"
    return f"{time}   machine {decision.machine} is free: who enters?"


def table(shop: BlockingShop, decision: EntryDecision | None) -> str:
    """The shop as text, one line per machine."""
    lines = [caption(shop, decision)]
    if decision is None:
        return lines[0]
    lines.append("machine    state    job   until  waiting for it")
    wanted = decision.routes.machine[decision.operation]
    for machine, state in enumerate(decision.machine_state.tolist()):
        job, until = decision.occupant.item(machine), decision.free_at.item(machine)
        on = "-" if job < 0 else str(job)
        ends = "-" if job < 0 or np.isnan(until) else f"{until:.0f}"
        waiting = np.flatnonzero(decision.waits & (wanted == machine)).tolist()
        jobs = ", ".join(map(str, waiting)) or "-"
        lines.append(f"{machine:>7}  {STATES[state]:>7}  {on:>5}  {ends:>6}  {jobs}")
    return "\n".join(lines)


def picture(shop: BlockingShop, decision: EntryDecision | None) -> np.ndarray:
    """A Gantt chart of what was until now, as uint8 RGB of shape (height, 900, 3).

    A row per machine and a colour per job; pale where the job only blocks the machine, and grey
    where the machine is down.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.28 * shop.shop.machines), dpi=100, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(caption(shop, decision), fontsize=10)
    colours = job_colours(shop.shop.jobs)
    now, log = shop.clock.now, shop.log
    for operation in np.flatnonzero(log["entered"] >= 0).tolist():
        entered, start, left = (log[name].item(operation) for name in ("entered", "start", "left"))
        end = min(start + shop.shop.duration.item(operation), now)
        machine, colour = shop.shop.machine.item(operation), colours[shop.shop.job[operation]]
        axes.barh(machine, max(min(start, now) - entered, 0), left=entered, color="0.8")
        axes.barh(machine, max(end - start, 0), left=start, color=colour)
        axes.barh(machine, (left if left >= 0 else now) - end, left=end, color=colour, alpha=0.3)
    axes.set_xlim(0, max(now, 1))
    axes.set_yticks(range(shop.shop.machines), [f"machine {m}" for m in range(shop.shop.machines)])
    axes.invert_yaxis()
    axes.set_xlabel("time")
    return pixels(figure)
