"""The network of every agent: observations in, scores of the actions and a value out."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from makespan.agents.config import NetworkConfig
from makespan.agents.graph.batch import to_graph
from makespan.agents.graph.declaration import GraphDeclaration
from makespan.agents.graph.encoder import Encoder


class GraphNetwork(nn.Module):
    """Scores every action and values the state.

    The score of a node's action comes from its embedding by a head that all nodes share, that of a
    graph's action from the pooled embeddings. With a prior, scores are added to `trust` times those
    of the rule; the heads begin at zero, so an untrained network chooses as the rule does.
    """

    def __init__(
        self,
        declaration: GraphDeclaration,
        shapes: Mapping[str, tuple[int, ...]],
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.declaration = declaration
        self.config = config
        hidden = config.hidden
        self.encoder = Encoder(declaration, declaration.widths(shapes), hidden, config.layers)
        self.score = _head(self.encoder.width, hidden, 1)
        pooled = self.encoder.graph_width
        extra = declaration.graph_actions
        self.graph_score = _head(pooled, hidden, extra) if extra else None
        self.value = _head(pooled, hidden, 1)
        self.log_trust = nn.Parameter(torch.tensor([config.trust]).log())

    def forward(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores float32 (B, actions), which a softmax makes a policy of, and values (B, 1).

        Actions that do not exist score 0 plus their prior: the mask has to be applied.
        """
        declaration = self.declaration
        actions = declaration.node_type(declaration.actions)
        batch, rows = observation[actions.mask or actions.features[0]].shape[:2]
        graph = to_graph(observation, declaration)
        nodes, pooled = self.encoder(graph, batch)
        store = graph[declaration.actions]
        scores = pooled.new_zeros(batch, rows)
        scores[store.batch, store.place] = self.score(nodes[declaration.actions]).squeeze(1)
        if self.graph_score is not None:
            scores = torch.cat([scores, self.graph_score(pooled)], dim=1)
        if declaration.prior:
            scores = scores + self.log_trust.exp() * observation[declaration.prior]
        return scores, self.value(pooled)


def _head(width: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers, the last of which begins at zero."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), last)
