"""Padded observations become the graph that torch-geometric would make of them."""

import dataclasses

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, HeteroData

from makespan.agents.graph.batch import to_graph
from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes

SHOP = GraphDeclaration(
    nodes=(
        Nodes("operation", ("operation", "length"), mask="operation_mask"),
        Nodes("machine", ("machine",)),
        Nodes("clock", ("clock",), single=True),
    ),
    edges=(
        Edges("operation", "precedes", "operation", index="order", mask="order_mask"),
        Edges("operation", "runs_on", "machine"),
        Edges("machine", "runs", "operation"),
        Edges("machine", "is_read_by", "clock"),
    ),
    actions="operation",
)


def shop(present: list[int], order: list[tuple[int, int]], seed: int) -> dict[str, np.ndarray]:
    """An observation with room for five operations and four precedences."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(5, np.float32)
    mask[present] = 1
    rows = np.zeros((2, 4), np.float32)
    rows[:, : len(order)] = np.array(order, np.float32).reshape(-1, 2).T
    return {
        "operation": rng.random((5, 3), np.float32),
        "length": rng.random(5, np.float32),
        "operation_mask": mask,
        "machine": rng.random((2, 2), np.float32),
        "clock": rng.random(1, np.float32),
        "order": rows,
        "order_mask": (np.arange(4) < len(order)).astype(np.float32),
    }


OBSERVATIONS = [
    shop([0, 1, 2], [(0, 1), (1, 2)], seed=1),
    shop([0, 2, 4], [(4, 2)], seed=2),
    shop([3], [], seed=3),
]


def stacked(observations: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    return {
        name: torch.as_tensor(np.stack([o[name] for o in observations])) for name in observations[0]
    }


def by_hand(observation: dict[str, np.ndarray]) -> HeteroData:
    """One graph, written out."""
    graph = HeteroData()
    rows = np.flatnonzero(observation["operation_mask"])
    number = {row: n for n, row in enumerate(rows)}
    features = np.column_stack([observation["operation"], observation["length"]])
    graph["operation"].x = torch.as_tensor(features[rows])
    graph["machine"].x = torch.as_tensor(observation["machine"])
    graph["clock"].x = torch.as_tensor(observation["clock"][None])
    listed = observation["order"][:, observation["order_mask"] > 0].astype(int)
    ends = sorted(((number[a], number[b]) for a, b in listed.T), key=lambda pair: pair[1])
    pairs = {
        ("operation", "precedes", "operation"): ends,
        ("operation", "runs_on", "machine"): [(o, m) for m in range(2) for o in range(len(rows))],
        ("machine", "runs", "operation"): [(m, o) for o in range(len(rows)) for m in range(2)],
        ("machine", "is_read_by", "clock"): [(0, 0), (1, 0)],
    }
    for key, edges in pairs.items():
        graph[key].edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    return graph


def test_the_batch_is_that_of_the_single_graphs() -> None:
    ours = to_graph(stacked(OBSERVATIONS), SHOP)
    theirs = Batch.from_data_list([by_hand(observation) for observation in OBSERVATIONS])  # type: ignore[arg-type]
    for name in ("operation", "machine", "clock"):
        assert torch.equal(ours[name].x, theirs[name].x)
        assert torch.equal(ours[name].batch, theirs[name].batch)
    for edges in SHOP.edges:
        assert torch.equal(ours[edges.key].edge_index, theirs[edges.key].edge_index), edges


def test_a_node_knows_its_row() -> None:
    graph = to_graph(stacked(OBSERVATIONS), SHOP)
    assert graph["operation"].place.tolist() == [0, 1, 2, 0, 2, 4, 3]


def test_an_edge_to_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no nodes are called 'machin'; declared: operation"):
        GraphDeclaration(
            (Nodes("operation", ("x",)),), (Edges("machin", "runs", "operation"),), "operation"
        )


def test_nodes_that_no_message_reaches_are_refused() -> None:
    nodes = (Nodes("operation", ("x",)), Nodes("machine", ("y",)))
    with pytest.raises(ValueError, match="no edge leads to 'machine'"):
        GraphDeclaration(nodes, (Edges("machine", "runs", "operation"),), "operation")


def test_an_entry_that_is_not_observed_is_named() -> None:
    with pytest.raises(ValueError, match="the observation has no 'length'"):
        SHOP.widths({"operation": (5, 3), "machine": (2, 2), "clock": (1,)})


def test_reversed_edges_lead_the_other_way():
    edges = SHOP.edges[0]
    back = dataclasses.replace(edges, name="follows", reversed=True)
    both = dataclasses.replace(SHOP, edges=(*SHOP.edges, back))
    graph = to_graph(stacked(OBSERVATIONS), both)
    forth = graph[edges.key].edge_index.T.tolist()
    assert len(forth) == 3
    assert sorted(graph[back.key].edge_index.T.tolist()) == sorted([b, a] for a, b in forth)
    assert graph[back.key].edge_index[1].diff().min() >= 0  # sorted by target, as all are
