"""`GraphNetwork` in NumPy, one observation at a time: what serves, without torch.

A small network on a small graph is a few dozen matrix products of microseconds each, less than what
torch and torch-geometric spend on getting to them.
"""

from collections.abc import Mapping

import numpy as np

from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes

Arrays = Mapping[str, np.ndarray]

EPSILON = 1e-5
"""Of torch's `LayerNorm`."""


class PlainNetwork:
    """Scores the actions of one observation as the `GraphNetwork` does that has these weights.

    Args:
        declaration: the graph.
        weights: the state of a `GraphNetwork`, name -> float32 array.
    """

    def __init__(self, declaration: GraphDeclaration, weights: Arrays) -> None:
        self._declaration = declaration
        self._weights = {name: np.ascontiguousarray(value.T) for name, value in weights.items()}
        rounds = [name.split(".")[2] for name in weights if name.startswith("encoder.norms.")]
        self._rounds = len(set(rounds))
        self._trust = float(np.exp(weights["log_trust"].item()))

    def scores(self, observation: Arrays) -> np.ndarray:
        """float32 (actions,); those of actions that do not exist mean nothing.

        Args:
            observation: entries without a batch dimension.
        """
        declaration = self._declaration
        present = {nodes.name: _present(observation, nodes) for nodes in declaration.nodes}
        x = self._embed(observation, present)
        edges = {e: _ends(observation, e, present) for e in declaration.edges if e.index}
        for number in range(self._rounds):
            x = self._round(number, x, edges)
        actions = present[declaration.actions]
        scores = np.zeros(len(actions), np.float32)
        scores[actions] = self._head("score", x[declaration.actions])[:, 0]
        if declaration.graph_actions:
            scores = np.concatenate([scores, self._head("graph_score", _pooled(x))])
        if declaration.prior:
            scores = scores + np.float32(self._trust) * observation[declaration.prior]
        return scores

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _head(self, name: str, x: np.ndarray) -> np.ndarray:
        return self._linear(f"{name}.2", np.maximum(self._linear(f"{name}.0", x), 0))

    def _embed(self, observation: Arrays, present: Arrays) -> dict[str, np.ndarray]:
        return {
            nodes.name: np.maximum(
                self._linear(
                    f"encoder.embed.{nodes.name}",
                    _features(observation, nodes, present[nodes.name]),
                ),
                0,
            )
            for nodes in self._declaration.nodes
        }

    def _round(
        self,
        number: int,
        x: dict[str, np.ndarray],
        listed: Mapping[Edges, tuple[np.ndarray, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """One round of messages."""
        news: dict[str, np.ndarray] = {}
        for edges in self._declaration.edges:
            layer = f"encoder.rounds.{number}.convs.<{'___'.join(edges.key)}>"
            sums = _sums(x[edges.source], len(x[edges.target]), listed.get(edges))
            message = self._linear(f"{layer}.lin_l", sums)
            message = message + x[edges.target] @ self._weights[f"{layer}.lin_r.weight"]
            news[edges.target] = news.get(edges.target, 0) + message
        return {name: self._norm(number, name, x[name] + np.maximum(news[name], 0)) for name in x}

    def _norm(self, number: int, name: str, x: np.ndarray) -> np.ndarray:
        layer = f"encoder.norms.{number}.{name}"
        centred = x - _mean(x, axis=1)[:, None]
        deviation = np.sqrt(_mean(centred * centred, axis=1)[:, None] + EPSILON)
        return (
            centred / deviation * self._weights[f"{layer}.weight"] + self._weights[f"{layer}.bias"]
        )


def _present(observation: Arrays, nodes: Nodes) -> np.ndarray:
    """bool (n,): which rows are nodes."""
    if nodes.mask:
        return observation[nodes.mask] > 0
    return np.ones(1 if nodes.single else len(observation[nodes.features[0]]), np.bool_)


def _features(observation: Arrays, nodes: Nodes, present: np.ndarray) -> np.ndarray:
    """float32 (nodes, F)."""
    if nodes.single:
        return np.concatenate([observation[key] for key in nodes.features])[None]
    columns = [observation[key] for key in nodes.features]
    table = np.column_stack(columns) if len(columns) > 1 else columns[0].reshape(len(present), -1)
    return table[present]


def _ends(
    observation: Arrays, edges: Edges, present: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """int64 (E,) twice: source and target node of the edges that are listed."""
    rows = observation[edges.index].astype(np.int64)
    if edges.reversed:
        rows = rows[::-1]
    if edges.mask:
        rows = rows[:, observation[edges.mask] > 0]
    numbers = {name: np.cumsum(exists) - 1 for name, exists in present.items()}
    return numbers[edges.source][rows[0]], numbers[edges.target][rows[1]]


def _sums(
    sources: np.ndarray, targets: int, ends: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """float32 (targets, 2 * hidden): mean and maximum over the neighbours of each target, 0 where
    there are none."""
    if ends is None:
        row = np.concatenate([_mean(sources, axis=0), np.maximum.reduce(sources, axis=0)])
        return row[None].repeat(targets, axis=0)
    source, target = ends
    mean = np.zeros((targets, sources.shape[1]), np.float32)
    np.add.at(mean, target, sources[source])
    counts = np.bincount(target, minlength=targets)[:, None]
    greatest = np.full(mean.shape, -np.inf, np.float32)
    np.maximum.at(greatest, target, sources[source])
    greatest[counts[:, 0] == 0] = 0
    return np.concatenate([mean / np.maximum(counts, 1).astype(np.float32), greatest], axis=1)


def _pooled(x: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean and maximum of each type's embeddings, side by side."""
    return np.concatenate(
        [
            row
            for nodes in x.values()
            for row in (_mean(nodes, axis=0), np.maximum.reduce(nodes, axis=0))
        ]
    )


def _mean(x: np.ndarray, axis: int) -> np.ndarray:
    """The bits of `x.mean(axis)` in half of the time, on rows as short as these."""
    return np.add.reduce(x, axis=axis) / x.shape[axis]
