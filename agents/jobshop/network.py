"""A network that schedules: one look at the shop as a graph, then a small perceptron per choice."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.utils import scatter

from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes
from makespan.agents.graph.encoder import Encoder
from makespan.agents.jobshop.rollout import DELAY, RULE, WIDTH, Choices, Head
from makespan.baselines.jobshop.rules import DELAY_COST
from makespan.envs.jobshop.features import MACHINE_FEATURES, OPERATION_FEATURES, describe_shop
from makespan.traces.jobshop.instance import JobShop

DECLARATION = GraphDeclaration(
    nodes=(Nodes("operation", ("operation",)), Nodes("machine", ("machine",))),
    edges=(
        Edges("operation", "before", "operation"),
        Edges("operation", "after", "operation"),
        Edges("operation", "on", "machine"),
        Edges("machine", "does", "operation"),
    ),
    actions="operation",
)
"""Operations and machines; messages go both ways along a job, and to and from the machine."""

WIDTHS = {"operation": len(OPERATION_FEATURES), "machine": len(MACHINE_FEATURES)}


def shop_graph(shops: Sequence[JobShop]) -> HeteroData:
    """The graphs of some plain job shops side by side."""
    x, machines, job_edges, on = [], [], [], []
    batch, machine_batch = [], []
    first_operation = first_machine = 0
    for number, shop in enumerate(shops):
        columns, machine_columns = describe_shop(shop)
        x.append(columns)
        machines.append(machine_columns)
        job = shop.job
        same = np.flatnonzero(job[1:] == job[:-1]) + first_operation
        job_edges.append(np.stack([same, same + 1]))
        on.append(
            np.stack(
                [
                    np.arange(shop.operations) + first_operation,
                    shop.machine + first_machine,
                ]
            )
        )
        batch.append(np.full(shop.operations, number))
        machine_batch.append(np.full(shop.machines, number))
        first_operation += shop.operations
        first_machine += shop.machines
    graph = HeteroData()
    graph["operation"].x = torch.from_numpy(np.concatenate(x))
    graph["operation"].batch = torch.from_numpy(np.concatenate(batch))
    graph["machine"].x = torch.from_numpy(np.concatenate(machines))
    graph["machine"].batch = torch.from_numpy(np.concatenate(machine_batch))
    forward = torch.from_numpy(np.concatenate(job_edges, axis=1))
    to_machine = torch.from_numpy(np.concatenate(on, axis=1))
    graph["operation", "before", "operation"].edge_index = forward
    graph["operation", "after", "operation"].edge_index = forward.flip(0)
    graph["machine", "does", "operation"].edge_index = to_machine.flip(0)
    order = to_machine[1].argsort(stable=True)
    graph["operation", "on", "machine"].edge_index = to_machine[:, order]
    return graph


class DispatchNetwork(nn.Module):
    """Scores candidates.

    `looked` is the first layer's share of what the graph says of an operation; it is computed once
    per shop. The last layer begins at zero, so an untrained network chooses by the rule
    `tail_p_wait`. The value is used by PPO alone.

    Args:
        hidden: width of embeddings and of the perceptron's first layer.
        layers: rounds of messages.
        narrow: width of its second layer.
        trust: factor on the rule's score at the beginning; it is learned.
    """

    def __init__(self, hidden: int, layers: int, narrow: int, trust: float) -> None:
        super().__init__()
        self.encoder = Encoder(DECLARATION, WIDTHS, hidden, layers)
        self.looked = nn.Linear(hidden, hidden)
        self.first = nn.Linear(WIDTH, hidden, bias=False)
        self.second = nn.Linear(hidden, narrow)
        self.last = nn.Linear(narrow, 1, bias=False)
        nn.init.zeros_(self.last.weight)
        self.value = nn.Linear(narrow, 1)
        self.log_trust = nn.Parameter(torch.tensor(trust).log())
        self.log_delay_cost = nn.Parameter(torch.tensor(trust * DELAY_COST).log())

    def look(self, shops: Sequence[JobShop]) -> Tensor:
        """float32 (operations of all shops, hidden)."""
        nodes, _ = self.encoder(shop_graph(shops), len(shops))
        return self.looked(nodes["operation"])

    def heads(self, shops: Sequence[JobShop]) -> list[Head]:
        """What makes the choices of each shop."""
        with torch.no_grad():
            looked = self.look(shops).split([shop.operations for shop in shops])
            weights = [
                np.ascontiguousarray(value.numpy())
                for value in (
                    self.first.weight.T,
                    self.second.weight.T,
                    self.second.bias,
                    self.last.weight[0],
                )
            ]
            trust = np.float32(self.log_trust.exp().item())
            delay_cost = np.float32(self.log_delay_cost.exp().item())
        return [Head(part.numpy(), *weights, trust=trust, delay_cost=delay_cost) for part in looked]

    def forward(self, looked: Tensor, choices: Choices) -> tuple[Tensor, Tensor]:
        """Scores float32 (candidates,), and values (choices,): how the bound will grow from here.

        Args:
            looked: of the shops that the choices number the operations of.
        """
        rows = torch.from_numpy(choices.rows)
        choice = torch.from_numpy(choices.choice)
        hidden = torch.relu(looked[torch.from_numpy(choices.operation)] + self.first(rows))
        narrow = torch.relu(self.second(hidden))
        scores = self.last(narrow).squeeze(1)
        scores = scores + self.log_trust.exp() * rows[:, RULE]
        scores = scores - self.log_delay_cost.exp() * rows[:, DELAY]
        pooled = scatter(narrow, choice, dim=0, dim_size=len(choices.chosen), reduce="mean")
        return scores, self.value(pooled).squeeze(1)


def log_probabilities(scores: Tensor, choices: Choices) -> Tensor:
    """float32 (choices,): of what was chosen."""
    choice, count = torch.from_numpy(choices.choice), len(choices.chosen)
    top = scatter(scores.detach(), choice, dim_size=count, reduce="max")
    total = scatter((scores - top[choice]).exp(), choice, dim_size=count, reduce="sum")
    chosen = scores[torch.from_numpy(choices.chosen)]
    return chosen - top - total.log()
