"""What a command tells on stderr while it works, so that stdout stays clean."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def progress() -> Progress:
    """Progress bars; none where nobody watches."""
    from makespan.experiments.summary_tables import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    screen = console(sys.stderr)
    watched = screen.is_terminal
    return Progress(
        *columns, TimeElapsedColumn(), console=screen, transient=True, disable=not watched
    )


@contextmanager
def warnings_in_a_line(*categories: type[Warning]) -> Iterator[None]:
    """Show every warning of `categories` at once, in one line without a line of source code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        for category in categories:
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield
