"""What a policy sees of the static job shop: padded arrays that make a graph."""

from typing import Any

import numpy as np
from gymnasium import spaces

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.features import (
    FEATURES,
    MACHINE_FEATURES,
    OPERATION_FEATURES,
    describe_shop,
    facts,
    squash,
)
from makespan.envs.jobshop.simulation import ShopDecision
from makespan.traces.jobshop.instance import JobShop

OPERATION_COLUMNS = (*OPERATION_FEATURES, "placed", "until_end")
MACHINE_COLUMNS = (*MACHINE_FEATURES, "work", "until_ready")

LIMIT = 100.0
"""Bound of every number; what exceeds it is cut."""


class Encoder:
    """Encodes states of shops up to a size.

    Args:
        max_jobs, max_machines: of a shop.
        max_operations: of a shop.

    Attributes:
        space: of what `encode` returns.
    """

    def __init__(self, max_jobs: int, max_machines: int, max_operations: int) -> None:
        self.jobs, self.machines, self.operations = max_jobs, max_machines, max_operations
        self.space = self._space()
        self._shop: JobShop | None = None

    def _space(self) -> spaces.Dict:

        def box(*shape: int) -> spaces.Box:
            return spaces.Box(-LIMIT, LIMIT, shape, np.float32)

        def mask(rows: int) -> spaces.Box:
            return spaces.Box(0, 1, (rows,), np.float32)

        def rows(top: int, edges: int) -> spaces.Box:
            return spaces.Box(0, top, (2, edges), np.int64)

        most = max(self.operations, self.jobs, self.machines)
        parts: dict[str, spaces.Space[Any]] = {
            "action_mask": mask(self.jobs),
            "candidate": box(self.jobs, len(FEATURES)),
            "job_arc": rows(most, self.operations),
            "job_arc_mask": mask(self.operations),
            "machine": box(self.machines, len(MACHINE_COLUMNS)),
            "machine_arc": rows(most, self.operations),
            "machine_mask": mask(self.machines),
            "next_arc": rows(most, self.jobs),
            "operation": box(self.operations, len(OPERATION_COLUMNS)),
            "operation_mask": mask(self.operations),
        }
        return spaces.Dict(parts)

    def check(self, shop: JobShop) -> None:
        """See that there is room.

        Raises:
            ValueError: the shop is larger.
        """
        for name in ("jobs", "machines", "operations"):
            if getattr(shop, name) > getattr(self, name):
                raise ValueError(
                    f"the shop has {getattr(shop, name)} {name}, and max_{name} is "
                    f"{getattr(self, name)}"
                )

    def encode(self, decision: ShopDecision, mask: np.ndarray) -> dict[str, np.ndarray]:
        """A decision on a shop for which there is room."""
        if decision.shop is not self._shop:
            self._shop, self._fixed = decision.shop, self._draw(decision.shop)
            self._columns, self._facts = facts(decision.shop)
        seen = {name: values.copy() for name, values in self._fixed.items()}
        seen["action_mask"][:] = mask
        _show(
            self._columns,
            self._facts,
            int(decision.time),
            decision.following,
            decision.start,
            decision.machine_ready,
            decision.work,
            decision.jobs,
            decision.rows,
            seen["candidate"],
            seen["operation"],
            seen["machine"],
            seen["next_arc"],
        )
        return seen

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing, with this mask."""
        empty = {name: np.zeros(box.shape or (), box.dtype) for name, box in self.space.items()}
        empty["action_mask"][:] = mask
        return empty

    def _draw(self, shop: JobShop) -> dict[str, np.ndarray]:
        """What stays as it is through an episode, and zeros for the rest."""
        fixed = self.padding(np.zeros(self.jobs))
        count = shop.operations
        operation, machine = describe_shop(shop)
        fixed["operation"][:count, : len(OPERATION_FEATURES)] = operation.clip(-LIMIT, LIMIT)
        fixed["machine"][: shop.machines, : len(MACHINE_FEATURES)] = machine.clip(-LIMIT, LIMIT)
        fixed["operation_mask"][:count] = 1
        fixed["machine_mask"][: shop.machines] = 1
        before = np.flatnonzero(shop.job[1:] == shop.job[:-1])
        fixed["job_arc"][:, : len(before)] = before, before + 1
        fixed["job_arc_mask"][: len(before)] = 1
        fixed["machine_arc"][:, :count] = np.arange(count), shop.machine
        fixed["next_arc"][1] = np.arange(self.jobs)
        return fixed


@kernel
def _show(
    shop,
    facts,
    now,
    following,
    start,
    machine_ready,
    work,
    jobs,
    rows,
    candidate,
    operation,
    machine,
    next_arc,
):
    """Fill in what changes."""
    for k in range(len(jobs)):
        for column in range(rows.shape[1]):
            candidate[jobs[k], column] = min(max(rows[k, column], -LIMIT), LIMIT)
    for job in range(len(following)):
        next_arc[0, job] = min(following[job], shop.first[job + 1] - 1)
        for done in range(shop.first[job], following[job]):
            operation[done, 6] = 1.0
            end = start[done] + shop.duration[done]
            operation[done, 7] = squash((end - now) / facts.mean)
    for on in range(shop.machines):
        machine[on, 3] = work[on] / facts.bound
        machine[on, 4] = squash((machine_ready[on] - now) / facts.mean)
