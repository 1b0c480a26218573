"""A few cases with what the real vLLM did in them, for machines that do not have it.

    python -m makespan.experiments.fidelity.scheduler.golden

writes `golden.json` anew; needs `make vllm`.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from makespan.experiments.fidelity.scheduler.random_cases import random_case
from makespan.experiments.fidelity.scheduler.real_vllm import ABSENT, drive, environment

FILE = Path(__file__).with_name("golden.json")
SEEDS = range(1000, 1024)
REQUESTS = 25
CHUNK = 25
"""Steps that share a digest in the file."""


def chunks(digests: Sequence[str]) -> list[str]:
    """One digest for every `CHUNK` steps."""
    joined = ("".join(digests[i : i + CHUNK]) for i in range(0, len(digests), CHUNK))
    return [hashlib.blake2b(text.encode(), digest_size=4).hexdigest() for text in joined]


def entry(seed: int, outcome: dict[str, Any]) -> dict[str, Any]:
    """A line of the file."""
    return {
        "seed": seed,
        "steps": len(outcome["digests"]),
        "preemptions": outcome["preemptions"],
        "chunks": "".join(chunks(outcome["digests"])),
    }


def entries() -> list[dict[str, Any]]:
    """The lines of the file."""
    return json.loads(FILE.read_text())


def main() -> None:
    """Ask vLLM, and write the file."""
    vllm = environment()
    if vllm is None:
        sys.exit(ABSENT)
    outcomes = drive(vllm, [random_case(seed, REQUESTS) for seed in SEEDS])
    lines = [json.dumps(entry(*pair)) for pair in zip(SEEDS, outcomes, strict=True)]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
