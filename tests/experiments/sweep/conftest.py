"""A Ray cluster of two nodes with a core each, on this machine."""

from collections.abc import Iterator

import pytest

from makespan.experiments.sweep.on_ray import environment


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Its address."""
    environment()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    nodes.add_node(num_cpus=1)
    assert nodes.address is not None
    yield nodes.address
    nodes.shutdown()
