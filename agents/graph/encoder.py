"""Message passing over a graph of several types of nodes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv, global_max_pool, global_mean_pool

from makespan.agents.graph.declaration import GraphDeclaration

AGGREGATIONS = ("mean", "max")
"""How a node sums up what its neighbours send: neither depends on how many there are, and the
greatest tells what the mean hides, one neighbour that stands out."""


class Encoder(nn.Module):
    """Embeds every node, and the graph as a whole.

    A linear layer per type of nodes, then `layers` rounds in each of which a node adds to its
    embedding what the messages of its neighbours make of it: GraphSAGE (Hamilton et al., NeurIPS
    2017) with weights per type of edges, in residual form with layer normalisation. Weights do not
    depend on the number of nodes.

    Args:
        declaration: the graph.
        widths: numbers that describe a node, per type of nodes.
        hidden: width of an embedding.
        layers: rounds of messages.
    """

    def __init__(
        self,
        declaration: GraphDeclaration,
        widths: Mapping[str, int],
        hidden: int,
        layers: int,
    ) -> None:
        super().__init__()
        self._types = [nodes.name for nodes in declaration.nodes]
        self.embed = nn.ModuleDict({name: nn.Linear(widths[name], hidden) for name in self._types})
        self.rounds = nn.ModuleList(_round(declaration, hidden) for _ in range(layers))
        self.norms = nn.ModuleList(
            nn.ModuleDict({name: nn.LayerNorm(hidden) for name in self._types})
            for _ in range(layers)
        )
        self.width = hidden
        self.graph_width = len(AGGREGATIONS) * hidden * len(self._types)

    def forward(self, graph: HeteroData, graphs: int) -> tuple[dict[str, Tensor], Tensor]:
        """Embeddings of the nodes, float32 (nodes, hidden) by type, and of the graphs.

        Args:
            graph: what `to_graph` made.
            graphs: how many observations it holds, B.

        Returns:
            The first by type of nodes; the second float32 (B, graph_width).
        """
        x = {name: torch.relu(self.embed[name](graph[name].x)) for name in self._types}
        edges = graph.edge_index_dict
        for messages, norms in zip(self.rounds, self.norms, strict=True):
            news = messages(x, edges)
            x = {name: norms[name](x[name] + torch.relu(news[name])) for name in self._types}
        pooled = [
            pool(x[name], graph[name].batch, graphs)
            for name in self._types
            for pool in (global_mean_pool, global_max_pool)
        ]
        return x, torch.cat(pooled, dim=1)


def _round(declaration: GraphDeclaration, hidden: int) -> HeteroConv:
    def convolution() -> SAGEConv:
        return SAGEConv((hidden, hidden), hidden, aggr=list(AGGREGATIONS))

    return HeteroConv({edges.key: convolution() for edges in declaration.edges}, aggr="sum")
