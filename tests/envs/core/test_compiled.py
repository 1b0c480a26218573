"""Compiled code is kept as long as what it was compiled from stays as it is."""

from pathlib import Path

import pytest

from makespan.envs.core import compiled

CONSTANTS = ("envs/jobshop/blocking/decision.py", "envs/llm/state.py")
"""Files without kernels whose constants are in compiled code."""


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rooms in which one file holds a kernel, with a constant from another room."""
    for name, text in {
        "traces/limits.py": "MOST = 3\n",
        "envs/world/__init__.py": "LEAST = 1\n",
        "envs/world/kernels.py": "from makespan.traces.limits import MOST\n"
        "from makespan.envs.world import LEAST\n\n\n@kernel\ndef first():\n    return MOST\n",
        "envs/world/plain.py": "OTHER = 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(compiled, "ROOMS", tmp_path)
    return tmp_path


def folder() -> str:
    return compiled._cache_folder.__wrapped__()


@pytest.mark.parametrize(
    ("edited", "new"),
    [
        ("envs/world/kernels.py", True),
        ("traces/limits.py", True),
        ("envs/world/__init__.py", True),
        ("envs/world/plain.py", False),
    ],
)
def test_an_edit_to_what_is_compiled_starts_from_an_empty_folder(
    rooms: Path, edited: str, new: bool
):
    before = folder()
    path = rooms / edited
    path.write_text(path.read_text(encoding="utf-8").replace("1", "2").replace("3", "4") + "\n")
    assert (folder() != before) == new


def test_constants_that_kernels_of_this_project_take_from_elsewhere_are_known():
    known = {str(p.relative_to(compiled.ROOMS)) for p in compiled.compiled_from(compiled.ROOMS)}
    assert known >= {*CONSTANTS, "envs/core/compiled.py", "envs/jobshop/core.py"}
