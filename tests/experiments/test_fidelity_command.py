"""`makespan fidelity` on worlds of a few rows: exit status, what is kept, what is said."""

import sys
from types import ModuleType

import pytest
from vllm_environments import environment_of

from makespan.experiments.fidelity import command
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.scheduler import real_vllm
from makespan.experiments.fidelity.scheduler.real_vllm import VLLMError

GOOD = Row("good", "a book", 1.0, 1.01, 0.05)
BAD = Row("bad", "a book", 1.0, 1.5, 0.05)
SHOWN = Row("shown", "a book", 1.0, 1.5, None)
ABSENT = Missing("absent", "a book", "lent out")


def rows_then(error, *rows):
    """A check that makes `rows` and, unless it is None, raises `error`."""

    def check(sources):
        yield from rows
        if error is not None:
            raise error

    return check


@pytest.fixture
def world(monkeypatch):
    """Replace the worlds by one, `toy`, which has the checks that are given."""

    def make(*checks):
        module = ModuleType("toy_world")
        vars(module)["CHECKS"] = {str(number): check for number, check in enumerate(checks)}
        monkeypatch.setitem(sys.modules, "toy_world", module)
        monkeypatch.setattr(command, "WORLDS", {"toy": "toy_world:CHECKS"})
        monkeypatch.setattr(command, "LIVE", {})
        monkeypatch.setattr(real_vllm, "DEFAULT", real_vllm.HERE)  # no vLLM there
        monkeypatch.delenv("MAKESPAN_VLLM", raising=False)
        return module

    return make


@pytest.mark.parametrize(
    ("rows", "status", "tally"),
    [
        ([GOOD, SHOWN, ABSENT], 0, "1 passed, 0 failed, 1 without an aim, 1 not run"),
        ([GOOD, BAD], 1, "1 passed, 1 failed, 0 without an aim, 0 not run"),
    ],
)
def test_status_and_table(world, capsys, rows, status, tally):
    world(*(rows_then(None, row) for row in rows))
    assert command.main(["toy"]) == status
    printed = capsys.readouterr()
    assert tally in printed.out
    assert printed.err == ""


def test_without_a_world_all_are_run_and_a_row_that_is_missing_says_why(world, capsys):
    world(rows_then(None, ABSENT))
    assert command.main([]) == 0
    assert "lent out" in capsys.readouterr().out


def test_the_table_is_written_as_markdown(world, tmp_path, capsys):
    world(rows_then(None, GOOD, ABSENT))
    out = tmp_path / "new" / "table.md"
    assert command.main(["toy", "--out", str(out)]) == 0
    assert out.read_text() == command.table.markdown([GOOD, ABSENT])
    assert [path.name for path in out.parent.iterdir()] == ["table.md"]
    assert f"written to {out}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: the rows that are finished follow"),
        (ValueError("run.jsonl:3: bad"), 2, "error: run.jsonl:3: bad"),
        (VLLMError("vLLM stopped"), 2, "error: vLLM stopped"),
        (OSError("disk"), 2, "error: disk"),
    ],
)
def test_what_is_finished_is_kept(world, tmp_path, capsys, error, status, said):
    world(rows_then(None, GOOD), rows_then(error, BAD), rows_then(None, SHOWN))
    out = tmp_path / "table.md"
    assert command.main(["toy", "--out", str(out)]) == status
    assert out.read_text() == command.table.markdown([GOOD, BAD])
    printed = capsys.readouterr()
    assert printed.err == f"{said}\n"
    assert "1 passed, 1 failed" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toi"], "unknown world 'toi'. Did you mean 'toy'?"),
        (["--data", "nowhere"], "--data: nowhere is not a folder"),
        (["--vllm", "nowhere"], "--vllm: there is no Python in nowhere"),
        (["--out", "."], "--out: . is a folder"),
        (["--out", "file/table.md"], "file"),
    ],
)
def test_bad_input_is_one_line(world, tmp_path, monkeypatch, capsys, arguments, message):
    world(rows_then(None, GOOD))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert command.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert message in printed.err


def test_a_table_that_cannot_be_written_is_said_and_shown(world, tmp_path, capsys):
    out = tmp_path / "table.md"

    def in_the_way(sources):
        out.mkdir()
        yield GOOD

    world(in_the_way)
    assert command.main(["toy", "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "1 passed" in printed.out
    assert printed.err.startswith("error: ")
    assert list(tmp_path.iterdir()) == [out]


def test_an_unknown_option(world, capsys):
    world()
    with pytest.raises(SystemExit) as exit_:
        command.main(["--dat", "x"])
    assert exit_.value.code == 2


def test_live_rows_come_after_those_of_their_world(world, monkeypatch, capsys):
    def rows(vllm):
        assert vllm is None
        yield BAD

    vars(world(rows_then(None, GOOD)))["rows"] = rows
    monkeypatch.setattr(command, "LIVE", {"toy": "toy_world:rows"})
    assert command.main(["toy"]) == 0
    assert command.main(["toy", "--live"]) == 1
    printed = capsys.readouterr().out
    assert printed.rindex("good") < printed.rindex("bad")


def test_a_vllm_of_another_version_gives_a_warning_that_names_both(world, tmp_path, capsys):
    world(rows_then(None, GOOD))
    assert command.main(["toy", "--vllm", str(environment_of(tmp_path, "0.31.1"))]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: vLLM 0.31.1 in ")
    assert real_vllm.VERIFIED in line


def test_an_environment_without_vllm_is_bad_input(world, tmp_path, capsys):
    world(rows_then(None, GOOD))
    folder = environment_of(tmp_path, None)
    assert command.main(["toy", "--vllm", str(folder)]) == 2
    assert capsys.readouterr().err == f"error: there is no vLLM in {folder}\n"
