"""Agents by name: those that come with the package, and folders of one's own."""

from pathlib import Path

from makespan.agents.folder import CARD, AgentError
from makespan.envs.core.registry import unknown_name

AGENTS = {"agent": "shipped/llm_router", "guided_dqn": "shipped/guided_dqn"}
"""Name of a router that comes with the package -> its folder, beside this file."""

SCHEDULERS = {
    "job_shop": "shipped/job_shop",
    "job_shop_improve": "shipped/job_shop_improve",
    "dynamic_job_shop": "shipped/dynamic_job_shop",
    "blocking_job_shop": "shipped/blocking_job_shop",
}
"""The same of schedulers of job shops."""


def folder_of(name: str) -> Path:
    """The folder of the agent of that name, or `name` itself if that is the folder of one.

    Raises:
        AgentError: neither.
    """
    shipped = AGENTS | SCHEDULERS
    if name in shipped:
        return Path(__file__).parent / shipped[name]
    folder = Path(name)
    if (folder / CARD).is_file():
        return folder
    if folder.is_dir():
        raise AgentError(f"{folder}: no agent here (it has no {CARD})")
    raise AgentError(str(unknown_name("agent", name, shipped)))
