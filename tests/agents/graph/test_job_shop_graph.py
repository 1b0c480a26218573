"""Observations of `makespan/JobShopImprove-v0` as graphs."""

import numpy as np
import torch

from makespan.agents.graph.batch import to_graph
from makespan.agents.graph.declaration import Edges, GraphDeclaration, Nodes, shapes_of
from makespan.envs.jobshop.improve.env import JobShopImproveEnv

GRAPH = GraphDeclaration(
    nodes=(
        Nodes("operation", ("operation",), "operation_mask"),
        Nodes("move", ("move",), "move_mask"),
    ),
    edges=(
        Edges("operation", "job", "operation", "job_arcs", "job_arc_mask"),
        Edges("operation", "machine", "operation", "machine_arcs", "machine_arc_mask"),
        Edges("operation", "first", "move", "move_first", "move_mask"),
        Edges("operation", "second", "move", "move_second", "move_mask"),
    ),
    actions="move",
)


def test_every_schedule_of_a_batch_becomes_a_graph():
    env = JobShopImproveEnv(jobs=[3, 5], machines=[2, 4])
    observations, decisions = [], []
    for seed in range(6):
        observations.append(env.reset(seed=seed)[0])
        decisions.append(env.decision)
    batch = {
        key: torch.as_tensor(np.stack([observation[key] for observation in observations]))
        for key in observations[0]
    }
    graph = to_graph(batch, GRAPH)
    assert GRAPH.widths(shapes_of(observations[0])) == {"operation": 4, "move": 5}
    operations = [decision.selection.shop.operations for decision in decisions]
    begins = np.concatenate([[0], np.cumsum(operations)])
    moves = np.concatenate([d.moves + b for d, b in zip(decisions, begins[:-1], strict=True)])
    assert graph["operation"].x.shape == (begins[-1], 4)
    for column, name in enumerate(("first", "second")):
        index = graph["operation", name, "move"].edge_index
        assert index[0].tolist() == moves[:, column].tolist()
        assert index[1].tolist() == list(range(len(moves)))
    jobs = sum(decision.selection.shop.jobs for decision in decisions)
    assert graph["operation", "job", "operation"].edge_index.shape == (2, begins[-1] - jobs)
