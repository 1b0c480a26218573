"""Lazy registries and their errors, and the registration of environments."""

import importlib.util
import json
import subprocess
import sys

import gymnasium
import pytest

import makespan.envs
from makespan.envs.core.registry import load, unknown_name

REGISTRY = {"ordered": "collections:OrderedDict", "counter": "collections:Counter"}


def in_a_new_interpreter(*statements: str) -> str:
    code = "\n".join(statements)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_name_loads_its_object():
    import collections

    assert load("collection", REGISTRY, "counter") is collections.Counter


def test_nothing_is_imported_before_it_is_asked_for():
    output = in_a_new_interpreter(
        "import sys",
        "from makespan.envs.core.registry import load",
        "registry = {'number': 'fractions:Fraction'}",
        "print('fractions' in sys.modules)",
        "load('number', registry, 'number')",
        "print('fractions' in sys.modules)",
    )
    assert output.split() == ["False", "True"]


def test_an_unknown_name_gets_near_names_and_all_names():
    with pytest.raises(ValueError, match="unknown collection 'conter'") as error:
        load("collection", REGISTRY, "conter")
    assert "Did you mean 'counter'?" in str(error.value)
    assert "Known: counter, ordered" in str(error.value)


def test_a_name_like_no_other_gets_no_guess():
    message = str(unknown_name("collection", "zzz", REGISTRY))
    assert "Did you mean" not in message
    assert "Known: counter, ordered" in message


def test_every_environment_names_a_class_that_exists():
    for name, (entry_point, _) in makespan.envs.ENVIRONMENTS.items():
        assert issubclass(load("environment", {name: entry_point}, name), gymnasium.Env)


def test_every_environment_is_registered_with_its_limit():
    for name, (entry_point, max_episode_steps) in makespan.envs.ENVIRONMENTS.items():
        spec = gymnasium.spec(name)
        assert (spec.entry_point, spec.max_episode_steps) == (entry_point, max_episode_steps)


def test_registering_again_changes_nothing(recwarn: pytest.WarningsRecorder):
    before = dict(gymnasium.registry)
    makespan.envs.register()
    assert dict(gymnasium.registry) == before
    assert not recwarn.list


LIST = "print(*[name for name in gymnasium.registry if name.startswith('makespan/')])"


RELOAD = "importlib.reload(makespan.envs)"


@pytest.mark.parametrize(
    "imports",
    [
        ["import makespan", "import gymnasium"],
        ["import gymnasium", "import makespan"],
        ["import makespan", "import gymnasium.spaces", "import gymnasium"],
        ["import importlib, makespan.envs", RELOAD, "import gymnasium"],
        ["import importlib, makespan.envs", "import gymnasium", RELOAD],
        ["import importlib, makespan", "import gymnasium", "importlib.reload(gymnasium)"],
    ],
    ids=["before", "after", "submodule first", "reloaded before", "reloaded after", "gymnasium"],
)
def test_environments_are_registered_whatever_is_imported_first(imports: list[str]):
    registered = in_a_new_interpreter(*imports, LIST).split()
    assert registered == list(makespan.envs.ENVIRONMENTS)


def test_import_makespan_loads_no_environment_and_not_even_gymnasium():
    loaded = json.loads(
        in_a_new_interpreter("import json, sys, makespan", "print(json.dumps(sorted(sys.modules)))")
    )
    modules = {name for name in loaded if name.startswith("makespan.")}
    assert modules == {"makespan.envs"}
    assert {"gymnasium", "numpy", "numba", "torch"}.isdisjoint(loaded)


def test_gymnasium_stays_importable_when_it_is_absent():
    output = in_a_new_interpreter(
        "import sys, makespan.envs",
        "finder = sys.meta_path[0]",
        "sys.meta_path[:] = [finder]",
        "print(finder.find_spec('gymnasium', None), finder.find_spec('another', None))",
    )
    assert output.split() == ["None", "None"]


def test_the_hook_loads_what_the_import_system_would_and_registers():
    found = makespan.envs._RegisterWithGymnasium().find_spec("gymnasium", None)
    expected = importlib.util.find_spec("gymnasium")
    assert found is not None
    assert found.loader is not None
    assert expected is not None
    assert found.origin == expected.origin
    for name in makespan.envs.ENVIRONMENTS:
        del gymnasium.registry[name]
    found.loader.exec_module(gymnasium)
    assert makespan.envs.ENVIRONMENTS.keys() <= gymnasium.registry.keys()
