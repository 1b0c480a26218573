"""What a policy network sees of a `SwapDecision`: padded float32 arrays with masks.

Times are shown as a share of the makespan at the start, which does not change through an episode,
so that schedules of one episode can be compared; durations as a share of the longest. Everything is
cut at `LIMIT`.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.critical import NONE
from makespan.envs.jobshop.improve.search import SwapDecision

LIMIT = 10.0
"""Bound of every feature."""

OPERATION_FIELDS = ("duration", "earliest_start", "latest_start", "on_path")
"""Columns of `operation`."""

RECENT = 10.0
"""Steps in which the recency of a swap falls to 1/e; a memory of some 8 is usual in tabu search."""

MOVE_FIELDS = ("change", "is_first_pair", "tabu", "recency", "times")
"""Columns of `move`."""

IDLE = 100.0
"""Unit of the steps since the shortest makespan was found."""

SEARCH_FIELDS = ("makespan", "best", "left", "idle")
"""Entries of `search`."""


class Encoder:
    """Turns decisions about job shops of any size up to `rows` operations into arrays of one shape.

    Of more than `max_moves` swaps, those further along the critical path are not shown and cannot
    be chosen.
    """

    def __init__(self, rows: int, max_moves: int) -> None:
        self.rows = rows
        self.max_moves = max_moves

    def mask(self, decision: SwapDecision) -> np.ndarray:
        """New bool array (max_moves,): which swaps are legal; always one of those shown."""
        mask = np.zeros(self.max_moves, np.bool_)
        legal = decision.action_mask[: self.max_moves]
        mask[: len(legal)] = legal
        return mask

    def padding(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of nothing, with `mask` as its `action_mask`."""
        rows, moves = self.rows, self.max_moves
        shapes = {
            "job_arc_mask": (rows,),
            "job_arcs": (2, rows),
            "machine_arc_mask": (rows,),
            "machine_arcs": (2, rows),
            "move": (moves, len(MOVE_FIELDS)),
            "move_first": (2, moves),
            "move_mask": (moves,),
            "move_second": (2, moves),
            "operation": (rows, len(OPERATION_FIELDS)),
            "operation_mask": (rows,),
            "search": (len(SEARCH_FIELDS),),
        }
        observation = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return {"action_mask": mask.astype(np.float32), **observation}

    def encode(
        self, decision: SwapDecision, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """New float32 arrays, as `JobShopImproveEnv` documents them.

        Args:
            mask: that of `mask(decision)`, if it is there already.

        Raises:
            ValueError: the shop has more operations than there are rows.
        """
        operations = decision.selection.shop.operations
        if operations > self.rows:
            raise ValueError(f"the shop has {operations} operations, max_operations is {self.rows}")
        observation = self.padding(self.mask(decision) if mask is None else mask)
        selection, moves = decision.selection, decision.moves[: self.max_moves]
        graph, begun = selection.graph, max(decision.begun, 1)
        times = (selection.head, selection.tail, selection.makespan, begun)
        _show_operations(graph, *times, decision.path, observation["operation"])
        observation["operation_mask"][:operations] = 1
        _show_arcs(graph.job_after, observation["job_arcs"], observation["job_arc_mask"])
        _show_arcs(
            graph.machine_after, observation["machine_arcs"], observation["machine_arc_mask"]
        )
        _show_moves(decision, observation["move"][: len(moves)])
        _show_first_pairs(graph, moves, decision.path, observation["move"])
        numbers = np.arange(len(moves))
        for k, name in enumerate(("move_first", "move_second")):
            observation[name][0, : len(moves)] = moves[:, k]
            observation[name][1, : len(moves)] = numbers
        observation["move_mask"][: len(moves)] = 1
        left = decision.left / (decision.left + decision.time)
        shares = (selection.makespan / begun, decision.best / begun, left, decision.idle / IDLE)
        observation["search"][:] = np.minimum(shares, LIMIT)
        return observation


@kernel
def _show_operations(graph, head, tail, makespan, begun, path, out):
    longest = max(graph.duration.max(), 1)
    for k in range(len(head)):
        latest = makespan - tail[k] - graph.duration[k]
        out[k, 0] = graph.duration[k] / longest
        out[k, 1] = min(head[k] / begun, LIMIT)
        out[k, 2] = min(latest / begun, LIMIT)
    for operation in path:
        out[operation, 3] = 1


@kernel
def _show_arcs(after, arcs, mask):
    """Row k is the arc that leads from operation k, if any does."""
    for k in range(len(after)):
        if after[k] != NONE:
            arcs[0, k], arcs[1, k], mask[k] = k, after[k], 1


def _show_moves(decision: SwapDecision, out: np.ndarray) -> None:
    """All columns but the second, of as many moves as there are rows."""
    change = (decision.estimates - decision.selection.makespan) / max(decision.begun, 1)
    recency = np.where(decision.since == NONE, 0, np.exp(-decision.since / RECENT))
    columns = (change, ~decision.action_mask, recency, np.log1p(decision.times))
    for column, values in zip((0, 2, 3, 4), columns, strict=True):
        out[:, column] = np.clip(values[: len(out)], -LIMIT, LIMIT)


@kernel
def _show_first_pairs(graph, moves, path, out):
    at = 0
    for k in range(len(moves)):
        while path[at] != moves[k, 0]:
            at += 1
        before = graph.machine_before[moves[k, 0]]
        out[k, 1] = at == 0 or path[at - 1] != before
