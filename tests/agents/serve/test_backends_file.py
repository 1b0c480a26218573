"""The file that lists backends, and what becomes of them when it changes."""

import re
from pathlib import Path

import pytest
from fault_backends import Server, alone, eventually, servers
from running_router import routing

from makespan.agents.serve import backends_file
from makespan.agents.serve.backends_file import BackendsFile, read_backends


def listed(*urls: str, extra: str = "") -> str:
    return "".join(f'[[backend]]\nurl = "{url}"\n{extra}' for url in urls)


def test_backends_are_read_with_what_they_run_on(tmp_path: Path):
    file = tmp_path / "backends.toml"
    file.write_text(
        '[[backend]]\nurl = "http://a:1/"\nhardware = "H100"\nmodel = "Llama-3-8B"\n\n'
        '[[backend]]\nurl = "http://b:2"\n'
    )
    one, two = read_backends(file)
    assert (one.url, one.replica.hardware, one.replica.model) == (
        "http://a:1",
        "H100",
        "Llama-3-8B",
    )
    assert (two.url, two.replica.hardware) == ("http://b:2", "A100")


BAD = {
    "no TOML": ("[[backend]", "line 1"),
    "another table": ("[server]\n", "[[backend]]"),
    "one table": ('[backend]\nurl = "http://a:1"\n', "[[backend]]"),
    "no URL": (listed("http://a:1") + '[[backend]]\nmodel = "m"\n', "backend 2"),
    "another field": (listed("http://a:1", extra="speed = 2\n"), "speed"),
    "no text": (listed("http://a:1", extra="model = 2\n"), "model"),
    "no web address": (listed("a:1"), "'a:1'"),
    "a port that is no number": (listed("http://a:one"), "http://a:one"),
    "a password": (listed("http://me:secret@a:1"), "password"),
    "a query": (listed("http://a:1?x=1"), "query"),
    "nothing": ("", "lists no [[backend]]"),
    "the same twice": (listed("http://a:1", "http://b:1", "http://a:1/"), "backend 3"),
    "unknown hardware": (listed("http://a:1", extra='hardware = "A1000"\n'), "backend 1"),
    "a line end in a URL": ('[[backend]]\nurl = "http://a:1\\n"\n', "backend 1"),
    "nested without end": ("a = " + "[" * 20_000, "backends file"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_named_with_what_is_wrong(bad: str, tmp_path: Path):
    text, named = BAD[bad]
    file = tmp_path / "backends.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(file))) as caught:
        read_backends(file)
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"none\.toml: No such file"):
        read_backends(tmp_path / "none.toml")


@alone
async def follow_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends_file.follow, "__defaults__", (0.005,))
    file = tmp_path / "backends.toml"

    def write(text: str) -> None:
        other = tmp_path / "other"
        other.write_text(text)
        other.replace(file)

    async with servers(Server(), Server(), Server()) as (one, two, three):
        write(listed(one.url, two.url))
        followed = BackendsFile(file)
        followed.read()
        async with routing(one, two, backends_file=followed) as live:
            kept = live.backend(two.url)
            write(listed(two.url, three.url))
            await eventually(lambda: live.router.urls() == [two.url, three.url])
            assert live.backend(two.url) is kept
            for bad in ("[[backend]", listed(one.url, one.url), listed(one.url, extra="x = 1\n")):
                write(bad)
                await eventually(lambda: not followed.changed())
                assert live.router.urls() == [two.url, three.url]
            write(listed(one.url))
            await eventually(lambda: live.router.urls() == [one.url])
            assert (await live.get()).status == 200
            assert len(one.calls) == 1


def test_a_change_is_followed_and_a_bad_one_is_not(tmp_path, monkeypatch):
    follow_changes(tmp_path, monkeypatch)
