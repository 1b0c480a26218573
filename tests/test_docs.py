"""The documents are true: their examples run and their links lead somewhere.

Every block of `python` is run in a namespace of its own, and every `$ ` line of a `console` block
by the shell. A block whose fence goes on with the word `shown` is only shown.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

BLOCK = re.compile(r"^```(\w+)[ ]*(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


@dataclass(frozen=True)
class Example:
    """A block of a document, or one command of it; `line` is where it begins."""

    document: Path
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(document: Path, text: str, language: str) -> Iterator[Example]:
    """The blocks of `language` in `text` that are to be run."""
    for match in BLOCK.finditer(text):
        if match[1] == language and match[2] != "shown":
            yield Example(document, text.count("\n", 0, match.start(3)) + 1, match[3])


def commands(block: Example) -> Iterator[Example]:
    """The lines of `block` that begin with a prompt, each with its continuation lines."""
    lines = enumerate(block.code.splitlines(), start=block.line)
    for number, line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(lines)[1]
            yield Example(block.document, number, command)


def examples(language: str) -> list[Example]:
    return [block for path in DOCUMENTS for block in blocks(path, path.read_text(), language)]


SAMPLE = """\
# Title
```python
a = 1
```
```python shown
b = 2
```
```console
$ first \\
    --option
output
$ second
```
"""


def test_examples_are_found_with_their_lines():
    document = Path("SAMPLE.md")
    assert list(blocks(document, SAMPLE, "python")) == [Example(document, 3, "a = 1\n")]
    (block,) = blocks(document, SAMPLE, "console")
    assert list(commands(block)) == [
        Example(document, 9, "first     --option"),
        Example(document, 12, "second"),
    ]


@pytest.mark.parametrize("example", examples("python"), ids=str)
def test_python_example(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    padded = "\n" * (example.line - 1) + example.code
    exec(compile(padded, example.document, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "command", [line for block in examples("console") for line in commands(block)], ids=str
)
def test_console_example(command: Example, tmp_path: Path):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command.code,
        shell=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"$ {command.code}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_repository_lead_somewhere(document: Path):
    targets = LINK.findall(document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
