"""Where an agent comes from: the commit and the versions that trained it."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("makespan", "torch", "torch-geometric", "stable-baselines3", "sb3-contrib", "numpy")


def versions() -> dict[str, str]:
    """Of Python and of what trains."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def commit() -> str:
    """The commit of the source that runs, `-dirty` behind it if the source was changed since.

    Empty where it is no checkout of this project.
    """
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        _told([*git, "ls-files", "--error-unmatch", here.name])
        return _told([*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])
    except (OSError, subprocess.CalledProcessError):
        return ""


def _told(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
