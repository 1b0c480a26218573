"""Where the real vLLM is, and what it answers to cases.

`make vllm` installs it into `build/vllm`; `MAKESPAN_VLLM` names another environment that has it.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parents[1] / "build" / "vllm"
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def interpreter() -> Path | None:
    """The Python that has vLLM, or None."""
    elsewhere = os.environ.get("MAKESPAN_VLLM")
    if elsewhere is None and not (DEFAULT / "vllm-installed").exists():
        return None  # half an environment is none
    python = Path(elsewhere or DEFAULT) / "bin" / "python"
    return python if python.exists() else None


def drive(
    python: Path, cases: Sequence[dict[str, Any]], folder: Path, show: int | None = None
) -> list[dict[str, Any]]:
    """What vLLM did in each case: its outcome, or with `show` the record of that step.

    Args:
        python: of `interpreter`.
        cases: see `step_record.py`.
        folder: for the files that are passed.
        show: number of a step.
    """
    asked, answered = folder / "cases.jsonl", folder / "results.jsonl"
    asked.write_text("".join(json.dumps(case) + "\n" for case in cases))
    command = [python, HERE / "drive_vllm.py", asked, answered]
    command += [] if show is None else [str(show)]
    done = subprocess.run(
        command, env=os.environ | QUIET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"vLLM stopped:\n{done.stdout[-4000:]}")
    return [json.loads(line) for line in answered.read_text().splitlines()]
