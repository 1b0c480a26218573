"""Router policies by name: baselines, and agents by the names or folders of theirs.

Nothing is executed that is not part of the package: an agent is weights and a card.
"""

from collections.abc import Callable
from pathlib import Path

from makespan.agents.folder import load_agent
from makespan.agents.llm.policy import router
from makespan.agents.shipped import AGENTS, folder_of
from makespan.baselines.llm import POLICIES
from makespan.baselines.llm import policy as baseline
from makespan.envs.core.contract import Policy
from makespan.envs.core.registry import unknown_name

Factory = Callable[[int], Policy]
"""Makes a fresh policy whose randomness, if it has any, comes from the given seed."""


def named(name: str) -> Factory:
    """What makes policies of a name in `makespan.baselines.llm.POLICIES` or
    `makespan.agents.shipped.AGENTS`, or of the agent in a folder.

    Raises:
        ValueError: there is none of that name, or the folder has no agent that can be used.
    """
    if is_agent(name):
        make = router(folder_of(name))
        return lambda seed: make()
    if name not in POLICIES:
        raise unknown_name("router policy", name, [*POLICIES, *AGENTS])
    return lambda seed: baseline(name, seed)


def is_agent(name: str) -> bool:
    """Whether the name is that of an agent, or of a folder, which should be one's."""
    return name in AGENTS or (name not in POLICIES and Path(name).is_dir())


def only_size(name: str) -> int | None:
    """The number of replicas that a policy of that name can route for; None: any.

    Raises:
        AgentError: it is no agent that can be used.
    """
    if not is_agent(name):
        return None
    return load_agent(folder_of(name)).card.settings.get("replicas")
