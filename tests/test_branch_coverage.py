"""The floor that `make coverage` sets on branch coverage."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("branch_coverage.py")


def run_on(folder: Path, branches: dict[str, tuple[int, int]], floor: int, *rooms: str):
    """Run the script on a report with (branches taken, branches) of each file."""
    files = {
        path: {"summary": {"covered_branches": covered, "num_branches": total}}
        for path, (covered, total) in branches.items()
    }
    report = folder / "coverage.json"
    report.write_text(json.dumps({"files": files}))
    command = [sys.executable, str(SCRIPT), str(report), str(floor), *rooms]
    return subprocess.run(command, capture_output=True, text=True)


def test_each_folder_must_reach_the_floor_by_itself(tmp_path: Path):
    branches = {"traces/a.py": (1, 1), "traces/b.py": (8, 9), "envs/c.py": (89, 100)}
    assert run_on(tmp_path, branches, 90, "traces").returncode == 0
    low = run_on(tmp_path, branches, 90, "traces", "envs")
    assert low.returncode == 1
    assert "envs: 89 of 100, 89.0%, below" in low.stdout


def test_a_folder_that_was_not_measured_fails(tmp_path: Path):
    missing = run_on(tmp_path, {"traces/a.py": (1, 1)}, 90, "trace")
    assert missing.returncode == 1
    assert "no branches in trace/" in missing.stderr
