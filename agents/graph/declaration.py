"""What a world says of its observations so that they become graphs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Nodes:
    """A type of nodes.

    Attributes:
        name: of the type.
        features: keys of the observation whose columns, side by side, describe a node: arrays of
            shape (n, F), or (n,) for one number a node. Of a `single` node: (F,).
        mask: key of an array (n,), 1 where a node exists; empty: all of them do.
        single: there is one such node in every graph.
    """

    name: str
    features: tuple[str, ...]
    mask: str = ""
    single: bool = False


@dataclass(frozen=True)
class Edges:
    """A type of edges.

    Attributes:
        source, target: types of nodes.
        name: of the type.
        index: key of an integer-valued array (2, E), rows of source and target; empty: every
            source is joined with every target of its graph.
        mask: key of an array (E,), 1 where an edge exists; empty: all of them do.
        reversed: the index has the rows of target and source, for messages against the edges that
            it lists.
    """

    source: str
    name: str
    target: str
    index: str = ""
    mask: str = ""
    reversed: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Source, name and target, as torch-geometric calls a type of edges."""
        return self.source, self.name, self.target


@dataclass(frozen=True)
class GraphDeclaration:
    """The graph in an observation.

    Attributes:
        nodes: the types of nodes.
        edges: the types of edges.
        actions: the type whose nodes are the actions, node i being action i.
        graph_actions: actions that follow those and concern the graph as a whole.
        prior: key of an array (actions,) of scores that a rule gives the actions, greater is
            better; empty: none. The network adds to them.

    Raises:
        ValueError: an edge or `actions` names a type of nodes that is not declared, or no edge
            leads to one that is.
    """

    nodes: tuple[Nodes, ...]
    edges: tuple[Edges, ...]
    actions: str
    graph_actions: int = 0
    prior: str = ""

    def __post_init__(self) -> None:
        names = [nodes.name for nodes in self.nodes]
        ends = [end for edges in self.edges for end in (edges.source, edges.target)]
        for name in (*ends, self.actions):
            if name not in names:
                raise ValueError(f"no nodes are called {name!r}; declared: {', '.join(names)}")
        for name in names:
            if name not in {edges.target for edges in self.edges}:
                raise ValueError(f"no edge leads to {name!r}: messages would never change it")

    def node_type(self, name: str) -> Nodes:
        """The type of that name."""
        return next(nodes for nodes in self.nodes if nodes.name == name)

    def widths(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Numbers that describe a node of each type.

        Args:
            shapes: of every entry of the observation, without the batch.

        Raises:
            ValueError: the observation has no such entry.
        """
        return {
            nodes.name: sum(_width(nodes, key, shapes) for key in nodes.features)
            for nodes in self.nodes
        }


def _width(nodes: Nodes, key: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if key not in shapes:
        raise ValueError(f"the observation has no {key!r}; it has {', '.join(sorted(shapes))}")
    shape = shapes[key]
    return shape[-1] if nodes.single or len(shape) == 2 else 1


def shapes_of(observation: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every entry of an observation, or of its space."""
    return {key: tuple(np.shape(value) or value.shape) for key, value in observation.items()}
