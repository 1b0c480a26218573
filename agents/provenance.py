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
    """The commit of the source that runs; empty where it is no checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
