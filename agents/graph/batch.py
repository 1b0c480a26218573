"""From padded observations to one torch-geometric graph that holds them all."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes

Observation = Mapping[str, Tensor]
"""Name of an entry -> tensor, the first dimension counting the observations of the batch."""


def to_graph(observation: Observation, declaration: GraphDeclaration) -> HeteroData:
    """The graphs of a batch of B observations, side by side, without the padding.

    Every type of nodes gets `x` float32 (nodes, F), `batch` int64 (nodes,), the observation that a
    node belongs to, and `place` int64 (nodes,), its row there; every type of edges `edge_index`
    int64 (2, edges), sorted by target. It is the graph that `torch_geometric.data.Batch` makes of
    the B graphs.
    """
    graph = HeteroData()
    present = {nodes.name: _present(observation, nodes) for nodes in declaration.nodes}
    for nodes in declaration.nodes:
        store, exists = graph[nodes.name], present[nodes.name]
        store.x = _features(observation, nodes)[exists]
        store.batch, store.place = exists.nonzero(as_tuple=True)
    numbers = {name: _numbers(exists) for name, exists in present.items()}
    for edges in declaration.edges:
        graph[edges.key].edge_index = _edge_index(observation, edges, present, numbers)
    return graph


def _features(observation: Observation, nodes: Nodes) -> Tensor:
    """(B, n, F): what describes each node, padding included."""
    columns = []
    for key in nodes.features:
        value = observation[key]
        if nodes.single:
            value = value.unsqueeze(1)
        columns.append(value if value.dim() == 3 else value.unsqueeze(2))
    return torch.cat(columns, dim=2)


def _present(observation: Observation, nodes: Nodes) -> Tensor:
    """bool (B, n): which rows are nodes."""
    if nodes.mask:
        return observation[nodes.mask] > 0
    entry = observation[nodes.features[0]]
    rows = 1 if nodes.single else entry.shape[1]
    return torch.ones(entry.shape[0], rows, dtype=torch.bool, device=entry.device)


def _numbers(exists: Tensor) -> Tensor:
    """int64 (B, n): the number of each node among all of its type, counted over the batch."""
    return (exists.flatten().cumsum(0) - 1).reshape(exists.shape)


def _edge_index(
    observation: Observation,
    edges: Edges,
    present: Mapping[str, Tensor],
    numbers: Mapping[str, Tensor],
) -> Tensor:
    if edges.index:
        return _listed(observation, edges, numbers)
    joined = present[edges.target].unsqueeze(2) & present[edges.source].unsqueeze(1)
    graph, target, source = joined.nonzero(as_tuple=True)
    return torch.stack([numbers[edges.source][graph, source], numbers[edges.target][graph, target]])


def _listed(observation: Observation, edges: Edges, numbers: Mapping[str, Tensor]) -> Tensor:
    """The edges that the observation lists by the rows of their ends."""
    rows = observation[edges.index].long()
    if edges.reversed:
        rows = rows.flip(1)
    exists = torch.ones_like(rows[:, 0], dtype=torch.bool)
    if edges.mask:
        exists = observation[edges.mask] > 0
    graph, edge = exists.nonzero(as_tuple=True)
    source = numbers[edges.source][graph, rows[graph, 0, edge]]
    target = numbers[edges.target][graph, rows[graph, 1, edge]]
    order = target.argsort(stable=True)
    return torch.stack([source[order], target[order]])
