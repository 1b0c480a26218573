"""Fail unless each of some folders has its floor of branch coverage.

    python tests/branch_coverage.py coverage.json 90 envs/llm traces baselines

coverage.py's own floor counts statements and branches of the whole together; this one counts
branches only, folder by folder, so that one well-tested folder cannot carry another.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path


def branch_coverage(files: Mapping[str, dict], folder: str) -> tuple[int, int]:
    """Branches taken and branches in all of the files in `folder`.

    Args:
        files: the `files` of a report by `coverage json`.

    Raises:
        ValueError: the report has no branches in `folder`.
    """
    summaries = [file["summary"] for path, file in files.items() if path.startswith(f"{folder}/")]
    total = sum(summary["num_branches"] for summary in summaries)
    if not total:
        raise ValueError(f"the coverage report has no branches in {folder}/")
    return sum(summary["covered_branches"] for summary in summaries), total


def main(report: str, floor: str, *folders: str) -> int:
    """Print one line per folder; the exit status, 1 if any is below `floor` percent."""
    files = json.loads(Path(report).read_text())["files"]
    low = False
    for folder in folders:
        covered, total = branch_coverage(files, folder)
        missed = covered * 100 < float(floor) * total
        low |= missed
        verdict = f"below the floor of {floor} %" if missed else "ok"
        print(f"branches of {folder}: {covered} of {total}, {covered / total:.1%}, {verdict}")
    return int(low)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
