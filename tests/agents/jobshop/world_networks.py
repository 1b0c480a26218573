"""Networks for worlds of job shops, as if they had been trained."""

import torch

from makespan.agents.config import NetworkConfig
from makespan.agents.graph.declaration import shapes_of
from makespan.agents.graph.network import GraphNetwork
from makespan.agents.world import World

SIZE = NetworkConfig(hidden=8, layers=2, trust=3.0)


def network(world: World, shake: float = 0.0, head: float = 0.0) -> GraphNetwork:
    """A new network for a world.

    Args:
        shake: spread of noise on all weights.
        head: spread of the last layer's weights, which are 0 in a new network.
    """
    torch.manual_seed(0)
    observation, _ = world.env().reset(seed=0)
    made = GraphNetwork(world.graph, shapes_of(observation), SIZE)
    last = made.score[2]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        if head:
            torch.nn.init.normal_(last.weight, std=head)
        for weight in made.parameters():
            weight += shake * torch.randn_like(weight)
    return made
