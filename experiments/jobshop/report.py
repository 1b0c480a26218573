"""`report.html` of a comparison on job shops: one file that opens offline.

The page is `report_page.html`; this module makes its data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from makespan.envs.jobshop.schedule import Schedule
from makespan.experiments import report_page
from makespan.experiments.configuration import to_toml
from makespan.experiments.jobshop import table
from makespan.experiments.jobshop.cell import Cell
from makespan.experiments.jobshop.config import JobShopConfig
from makespan.experiments.jobshop.critical import blocks, critical_path
from makespan.experiments.jobshop.instances import Instance
from makespan.experiments.jobshop.results import by_policy

PAGE = Path(__file__).with_name("report_page.html")

TITLE = "Policies on job shops"


def render(
    config: JobShopConfig, results: dict[str, Any], timing: dict[str, Any], cells: Sequence[Cell]
) -> str:
    """The page as text.

    Args:
        config: of the run.
        results: `makespan.experiments.jobshop.results.collect`; at least one policy.
        timing: `makespan.experiments.jobshop.results.timing`.
        cells: those of the policies in `results`.
    """
    shown = _first_seeds(cells)
    instances = {cell.instance.name: cell.instance for cell in cells}
    known = {instance["name"]: instance for instance in results["instances"]}
    data = {
        "headline": table.headline(results),
        "verdict": verdict(results),
        "legend": table.legend(results, timing) + " Click a column to sort by it.",
        "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "config": to_toml(config),
        "sizes": results["sizes"],
        "tables": [_columns(results["sizes"])],
        "policies": [_row(policy, timing) for policy in results["policies"]],
        "instances": [_shop(instances[name], known[name]) for name in known],
        "schedules": {
            policy["policy"]: {name: _schedule(shown[policy["policy"], name]) for name in known}
            for policy in results["policies"]
        },
    }
    return report_page.fill(PAGE, TITLE, data)


def verdict(results: dict[str, Any]) -> str:
    """One sentence: the best policy, and those that this run cannot tell from it.

    Policies without a schedule of each job shop have no average gap, and do not count.
    """
    best, *others = results["policies"]
    sentence = f"{best['policy']} has the smallest average gap: {table.percent(best['gap'])} %."
    others = [other for other in others if np.isfinite(other["behind_best"]["low"])]
    if not others:
        return sentence
    close = [other["policy"] for other in others if other["behind_best"]["low"] <= 0]
    if not close:
        return f"{sentence} On the same job shops every other one is behind beyond chance."
    return f"{sentence} This run cannot tell it from {', '.join(close)}."


def _first_seeds(cells: Sequence[Cell]) -> dict[tuple[str, str], Cell]:
    """Policy and instance -> the cell of the first seed, which the page shows."""
    shown: dict[tuple[str, str], Cell] = {}
    for cells_of_policy in by_policy(cells).values():
        for cell in cells_of_policy:
            shown.setdefault((cell.policy, cell.instance.name), cell)
    return shown


def _columns(sizes: Sequence[str]) -> list[dict[str, Any]]:
    """Groups of columns of the table: metric, label, factor, and whether its interval shows."""

    def column(metric: str, label: str, scale: float = 1, interval: bool = False) -> dict[str, Any]:
        return {"metric": metric, "label": label, "scale": scale, "interval": interval}

    gaps = [column(f"gap {size}", size, 100, interval=True) for size in sizes]
    return [
        {"name": "gap [%]", "columns": [column("gap", "average", 100, interval=True), *gaps]},
        {
            "name": "",
            "columns": [
                column("at_best_known", "at best known"),
                column("milliseconds", "time per instance [ms]"),
            ],
        },
    ]


def _row(policy: dict[str, Any], timing: dict[str, Any]) -> dict[str, Any]:
    """A policy's figures, each as an estimate, and its times: of each size, of all under ""."""
    own = timing["policies"][policy["policy"]]
    metrics = {"gap": policy["gap"]}
    metrics |= {f"gap {size}": gap for size, gap in policy["gap_by_size"].items()}
    metrics["at_best_known"] = _exact(policy["at_best_known"])
    metrics["milliseconds"] = _exact(1000 * own["all"]["seconds"])
    return {
        "policy": policy["policy"],
        "metrics": metrics,
        "times": own["by_size"] | {"": own["all"]},
    }


def _exact(value: float) -> dict[str, float]:
    return {"mean": value, "low": np.nan, "high": np.nan}


def _shop(instance: Instance, described: dict[str, Any]) -> dict[str, Any]:
    shop = instance.shop
    operation = np.arange(shop.operations) - shop.first_operation[shop.job]
    return described | {"job": shop.job.tolist(), "operation": operation.tolist()}


def _schedule(cell: Cell) -> dict[str, Any] | None:
    """Machine, start and duration of each operation, the critical path and its blocks."""
    if cell.schedule is None:
        return None
    schedule: Schedule = cell.schedule
    path = critical_path(schedule)
    return {
        "machine": schedule.machine.tolist(),
        "start": schedule.start.tolist(),
        "duration": (schedule.end - schedule.start).tolist(),
        "makespan": schedule.makespan,
        "path": path.tolist(),
        "blocks": blocks(schedule, path),
    }
