"""The network: indifferent to padding and order, its prior before training, the same in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from test_graph_batch import OBSERVATIONS, SHOP, stacked

from makespan.agents.config import NetworkConfig
from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes, shapes_of
from makespan.agents.graph.network import GraphNetwork
from makespan.agents.graph.plain import PlainNetwork
from makespan.agents.llm.observation import GRAPH

STAR = GraphDeclaration(nodes=GRAPH.nodes, edges=GRAPH.edges, actions="replica", prior="rule")


def fleet(rows: int, replicas: int, seed: int = 0) -> dict[str, np.ndarray]:
    """An observation of so many replicas with room for `rows`; the same replicas for any room."""
    rng = np.random.default_rng(seed)
    content = {
        "replica": rng.random((replicas, 16), np.float32),
        "behind": -rng.random(replicas, np.float32),
        "cost": rng.random(replicas, np.float32),
        "backlog": rng.random(replicas, np.float32),
        "rule": -rng.random(replicas, np.float32),
        "replica_mask": np.ones(replicas, np.float32),
    }
    observation = {}
    for name, values in content.items():
        observation[name] = np.zeros((rows, *values.shape[1:]), np.float32)
        observation[name][:replicas] = values
    observation["request"] = rng.random(6, np.float32)
    observation["queue"] = rng.random(2, np.float32)
    observation["prior"] = np.append(observation["rule"], np.float32(-0.3))
    return observation


def network(
    declaration: GraphDeclaration, observation: dict[str, np.ndarray], **settings: Any
) -> GraphNetwork:
    """A network whose weights are all drawn, the last ones as well."""
    torch.manual_seed(0)
    made = GraphNetwork(declaration, shapes_of(observation), NetworkConfig(hidden=16, **settings))
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made


def scores(net: GraphNetwork, *observations: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return net(stacked(list(observations)))[0].numpy()


def test_the_same_weights_score_fleets_of_any_size() -> None:
    net = network(GRAPH, fleet(4, 4))
    padded, bare = scores(net, fleet(64, 4))[0], scores(net, fleet(4, 4))[0]
    assert np.allclose(padded[[0, 1, 2, 3, -1]], bare, atol=1e-5)
    assert scores(net, fleet(64, 64)).shape == (1, 65)


def test_what_a_replica_scores_does_not_depend_on_its_place() -> None:
    net, observation = network(GRAPH, fleet(5, 5)), fleet(5, 5)
    order = np.array([3, 0, 4, 1, 2])
    moved = {k: v[order] if len(v) == 5 else v for k, v in observation.items()}
    moved["prior"] = observation["prior"][[*order, 5]]
    assert np.allclose(scores(net, moved)[0], scores(net, observation)[0][[*order, 5]], atol=1e-5)


def test_one_observation_does_not_hear_of_another() -> None:
    net = network(GRAPH, fleet(5, 5))
    together = scores(net, fleet(5, 3, seed=1), fleet(5, 5, seed=2))
    assert np.allclose(together[1], scores(net, fleet(5, 5, seed=2))[0], atol=1e-5)


def test_messages_tell_a_replica_of_the_others() -> None:
    observation = fleet(4, 4)
    busier = {name: value.copy() for name, value in observation.items()}
    busier["replica"][3] += 1
    net = network(GRAPH, observation)
    assert abs(scores(net, busier)[0, 0] - scores(net, observation)[0, 0]) > 1e-3
    alone = network(GRAPH, observation, layers=0)
    assert scores(alone, busier)[0, 0] == scores(alone, observation)[0, 0]


def test_untrained_it_scores_as_its_prior() -> None:
    observation = fleet(6, 4)
    net = GraphNetwork(GRAPH, shapes_of(observation), NetworkConfig(trust=10.0))
    assert np.allclose(scores(net, observation)[0], 10 * observation["prior"], rtol=1e-5)


@pytest.mark.parametrize("declaration", [GRAPH, STAR])
@pytest.mark.parametrize("replicas", [1, 3, 8])
def test_numpy_scores_fleets_alike(declaration: GraphDeclaration, replicas: int) -> None:
    observation = fleet(8, replicas)
    net = network(declaration, observation)
    ours = PlainNetwork(declaration, weights(net)).scores(observation)
    theirs = scores(net, observation)[0]
    actions = np.r_[:replicas, 8 : len(theirs)]
    assert np.allclose(ours[actions], theirs[actions], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", range(3))
def test_numpy_scores_listed_edges_alike(number: int) -> None:
    observation = OBSERVATIONS[number]
    net = network(SHOP, observation)
    ours = PlainNetwork(SHOP, weights(net)).scores(observation)
    present = observation["operation_mask"] > 0
    assert np.allclose(ours[present], scores(net, observation)[0][present], rtol=1e-4, atol=1e-4)


def weights(net: GraphNetwork) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"layers": -1}, {"trust": 0.0}])
def test_a_network_of_impossible_size_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs hidden|trust must"):
        NetworkConfig(**wrong)


def test_edges_may_join_a_type_with_itself() -> None:
    declaration = GraphDeclaration(
        (Nodes("replica", ("replica",)),), (Edges("replica", "competes", "replica"),), "replica"
    )
    observation = {"replica": fleet(3, 3)["replica"]}
    assert scores(network(declaration, observation), observation).shape == (1, 3)
