"""What `import makespan` costs, counted in packages rather than in seconds."""

import subprocess
import sys

import pytest

HEAVY = (
    "matplotlib",
    "numba",
    "ortools",
    "pandas",
    "plotly",
    "pyarrow",
    "ray",
    "sb3_contrib",
    "scipy",
    "stable_baselines3",
    "torch",
    "torch_geometric",
)


def packages_after(statement: str) -> set[str]:
    """Top-level packages that a new interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split())


def test_import_makespan_loads_nothing_heavy():
    loaded = packages_after("import makespan")
    assert "makespan" in loaded
    assert loaded & set(HEAVY) == set()


@pytest.mark.parametrize("room", ["traces", "envs", "baselines", "agents", "experiments"])
def test_rooms_load_neither_networks_nor_solvers(room: str):
    loaded = packages_after(f"import makespan.{room}")
    assert loaded & {"torch", "stable_baselines3", "sb3_contrib", "ortools", "matplotlib"} == set()


def test_the_simulator_loads_neither_gymnasium_nor_networks():
    loaded = packages_after("import makespan.envs.llm.fleet")
    assert "numba" in loaded
    assert loaded & {"gymnasium", "torch", "stable_baselines3", "sb3_contrib"} == set()
