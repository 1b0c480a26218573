"""The `makespan` command."""

import pytest

import makespan
from makespan.baselines.llm import POLICIES
from makespan.experiments import cli


def test_commands_are_dispatched_with_the_rest_of_the_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--policy", "nobody"]) == 2
    assert "unknown router policy 'nobody'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bench", "--help"])
    assert exit_.value.code == 0
    assert "makespan bench" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == makespan.__version__


def test_every_command_exists():
    for name in COMMANDS:
        module, _, function = cli.COMMANDS[name].partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
        assert f"\n  {name} " in cli.USAGE


COMMANDS = tuple(cli.COMMANDS)


def test_usage(capsys):
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == cli.USAGE + "\n"
    assert cli.main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_a_misspelt_command(capsys):
    assert cli.main(["polices"]) == 2
    assert "unknown command 'polices'. Did you mean 'policies'" in capsys.readouterr().err


def test_the_command_line_is_the_default(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["makespan", "help"])
    assert cli.main() == 0
    assert "usage" in capsys.readouterr().out


def test_policies_lists_all_of_them_with_a_line_each(capsys):
    assert cli.main(["policies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line for line in lines[1:] if not line.startswith(" ")}
    assert set(POLICIES) <= set(listed)
    assert "in turn" in listed["round_robin"]


def test_hardware_lists_source_and_error_of_its_step_times(capsys):
    assert cli.main(["hardware"]) == 0
    printed = capsys.readouterr().out
    assert printed.split()[0] == "hardware"
    for word in ("A100", "Llama-2-7B", "source", "error"):
        assert word in printed


def test_lists_take_no_arguments(capsys):
    assert cli.main(["policies", "lmetric"]) == 2
    assert "takes no arguments, got 'lmetric'" in capsys.readouterr().err
