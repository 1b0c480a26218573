"""Discrete-event worlds and the gymnasium environments over them.

Importing this registers every environment of `ENVIRONMENTS` with gymnasium and loads none of them.
Gymnasium itself costs more to import than all the rest, so it is not imported either: where it is
not there yet, the registration waits in the import system until it is.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ENVIRONMENTS: dict[str, tuple[str, int]] = {
    "makespan/JobShop-v0": ("makespan.envs.jobshop.env:JobShopEnv", 1_000_000),
    "makespan/DynamicJobShop-v0": (
        "makespan.envs.jobshop.dynamic.env:DynamicJobShopEnv",
        1_000_000,
    ),
    "makespan/JobShopImprove-v0": (
        "makespan.envs.jobshop.improve.env:JobShopImproveEnv",
        1_000_000,
    ),
    "makespan/LLMRouter-v0": ("makespan.envs.llm.env:LLMRouterEnv", 1_000_000),
    "makespan/SingleMachine-v0": ("makespan.envs.jobshop.single.env:SingleMachineEnv", 1_000_000),
    "makespan/RCPSP-v0": ("makespan.envs.jobshop.project.env:ProjectEnv", 1_000_000),
    "makespan/BlockingJobShop-v0": (
        "makespan.envs.jobshop.blocking.env:BlockingJobShopEnv",
        1_000_000,
    ),
}
"""Environment id -> ("module:Class", decisions after which an episode is cut off)."""


def register() -> None:
    """Register `ENVIRONMENTS` with gymnasium, those that are not in its registry yet."""
    import gymnasium

    for name, (entry_point, max_episode_steps) in ENVIRONMENTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point, max_episode_steps=max_episode_steps)


class _RegisterWithGymnasium(MetaPathFinder):
    """Finds gymnasium as the other finders do, and has its loader call `register` at the end."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register()

        spec.loader.exec_module = execute_and_register
        return spec


if "gymnasium" in sys.modules:
    register()
elif not any(type(finder).__name__ == _RegisterWithGymnasium.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, _RegisterWithGymnasium())
