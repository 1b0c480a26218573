"""Files that are written whole or not at all."""

import pytest

from makespan.agents.whole_file import write_text, writing


def test_a_file_in_a_new_folder(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "one\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"one\n"


def test_an_error_leaves_what_was_there(tmp_path):
    target = tmp_path / "b.txt"
    write_text(target, "old")

    def half():
        with writing(target) as path:
            path.write_text("ne")
            assert target.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
