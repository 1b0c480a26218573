"""The shape of the repository: rooms, package map, names, versions."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

import makespan

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]

ROOMS = ("traces", "envs", "baselines", "agents", "experiments")
"""In the order of the data: each imports only from itself and from those before it."""

SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

ELSEWHERE = {ROOT / "experiments/fidelity/scheduler/drive_vllm.py"}
"""Files that another environment's interpreter runs, and that import what is there."""

FACES = {"env.py", "environment.py", "observation.py", "render.py"}
"""Files of a world that may know gymnasium; the others are its simulator."""

SIMULATORS = [
    path
    for path in SOURCES
    if len(parts := path.relative_to(ROOT).parts) > 2
    and parts[0] == "envs"
    and path.name not in FACES
]

OBJECT = re.compile(r"makespan(\.\w+)+:\w+")
"""How registries name what they import late."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Every module that the code names: imports anywhere in it, and "module:object" strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and OBJECT.fullmatch(str(node.value)):
            yield str(node.value).partition(":")[0]


def imports_of(path: Path) -> list[str]:
    return list(imported_modules(ast.parse(path.read_text())))


def normalised(requirement: str) -> str:
    """The name of the distribution, as indexes compare it."""
    name = re.split(r"[^\w.-]", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def room_of_import(module: str) -> str | None:
    """The room that `module` is in; None for another distribution or the root package."""
    parts = module.split(".")
    return parts[1] if parts[0] == "makespan" and parts[1:2] and parts[1] in ROOMS else None


def repository_files() -> list[Path]:
    """What git tracks or would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in names.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_imports_are_found_wherever_they_stand():
    code = """
import makespan.envs.core
def late():
    try:
        from makespan.agents import train
    except ImportError:
        from . import near
ENTRY = {"name": "makespan.baselines.llm.rules:random_choice"}
TEXT = "see makespan.agents:train for more"
"""
    assert sorted(imported_modules(ast.parse(code))) == [
        "..near",
        "makespan.agents.train",
        "makespan.baselines.llm.rules",
        "makespan.envs.core",
    ]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_room_imports_only_from_rooms_above_it(path: Path):
    room = path.relative_to(ROOT).parts[0]
    allowed = ROOMS[: ROOMS.index(room) + 1]
    imports = imports_of(path)
    assert [module for module in imports if module.startswith(".")] == []
    below = [module for module in imports if (room_of_import(module) or room) not in allowed]
    assert below == []


@pytest.mark.parametrize("path", SIMULATORS, ids=name_of)
def test_simulators_know_neither_gymnasium_nor_networks(path: Path):
    packages = {module.split(".")[0] for module in imports_of(path)}
    assert packages.isdisjoint({"gymnasium", "torch", "stable_baselines3", "sb3_contrib"})


def test_third_party_imports_are_declared():
    """What the rooms import is a dependency, or in an extra that users install."""
    extras = PROJECT["project"]["optional-dependencies"]
    installed = (extras[extra] for extra in ("render", "agents", "scale", "serve", "solve"))
    requirements = [*PROJECT["project"]["dependencies"], *chain.from_iterable(installed)]
    declared = {normalised(requirement) for requirement in requirements}
    distributions = packages_distributions()
    for path in set(SOURCES) - ELSEWHERE:
        packages = {module.split(".")[0] for module in imports_of(path)}
        for package in packages - {"makespan"} - sys.stdlib_module_names:
            names = {normalised(name) for name in distributions.get(package, [package])}
            assert names & declared, f"{name_of(path)} imports {package}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_modules_have_a_docstring(path: Path):
    if path.name == "__init__.py" or not path.name.startswith("_"):
        assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_module_is_a_drawer_for_odds_and_ends():
    stems = {path.stem.strip("_") for path in SOURCES}
    assert stems.isdisjoint({"util", "utils", "helper", "helpers", "misc", "common"})


def test_packages_are_the_folders_with_an_init():
    folders = {path.parent.relative_to(ROOT) for path in SOURCES if path.name == "__init__.py"}
    packages = {"makespan"} | {".".join(("makespan", *folder.parts)) for folder in folders}
    assert set(SETUPTOOLS["packages"]) == packages
    assert {path.parent.relative_to(ROOT) for path in SOURCES} == folders


def test_package_map_names_every_room():
    rooms = {f"makespan.{room}": room for room in ROOMS}
    assert SETUPTOOLS["package-dir"] == {"makespan": "src/makespan"} | rooms


@pytest.mark.parametrize("room", ROOMS)
def test_editors_find_the_room_through_a_link(room: str):
    link = ROOT / "src" / "makespan" / room
    assert link.is_symlink(), f"{link} is no link: clone with git's core.symlinks on"
    assert link.resolve() == ROOT / room


def test_data_files_are_shipped():
    patterns = SETUPTOOLS["package-data"]
    for path in repository_files():
        room = path.relative_to(ROOT).parts[0]
        if room not in ROOMS or path.suffix == ".py":
            continue
        package = next(parent for parent in path.parents if (parent / "__init__.py").exists())
        name = ".".join(("makespan", *package.relative_to(ROOT).parts))
        inside = path.relative_to(package).as_posix()
        shipped = any(fnmatch(inside, pattern) for pattern in patterns.get(name, ()))
        assert shipped, f"{inside} matches no package-data pattern of {name}"


def test_versions_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^(?:In preparation: |## \[)(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["project"]["version"] == makespan.__version__


def test_no_file_names_a_path_of_one_machine():
    folders = ("ro" + "ot", "wo" + "rk", "ho" + "me", "op" + "t", "Us" + "ers")
    path_of_a_machine = re.compile(rf"(?<![\w.~-])/(?:{'|'.join(folders)})/\S*")
    found = {
        name_of(path): match[0]
        for path in repository_files()
        if (match := path_of_a_machine.search(path.read_text(errors="ignore")))
    }
    assert found == {}
