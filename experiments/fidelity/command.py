"""`makespan fidelity`: every check of every world, as one table.

Exit status: 0 when every row that was run and has an aim passed, 1 when one failed, 2 for bad
input, 130 when interrupted; the rows that are finished are shown in any case.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from makespan.agents.whole_file import write_text
from makespan.envs.core.registry import load
from makespan.experiments.fidelity import table
from makespan.experiments.fidelity.row import Missing, Row
from makespan.experiments.fidelity.scheduler.real_vllm import (
    VersionWarning,
    VLLMError,
    check_version,
    environment,
)
from makespan.experiments.fidelity.sources import Check, Sources
from makespan.experiments.watching import progress, warnings_in_a_line
from makespan.traces import TraceWarning

WORLDS = {
    "llm": "makespan.experiments.fidelity.llm:CHECKS",
    "jobshop": "makespan.experiments.fidelity.jobshop:CHECKS",
}
"""World -> its checks."""

LIVE = {"llm": "makespan.experiments.live.fidelity:rows"}
"""World -> a function of the environment with the real system (or None) that makes rows."""

TRAINED = {
    "llm": "makespan.experiments.fidelity.jain:rows",
    "jobshop": "makespan.experiments.fidelity.jobshop:trained_rows",
}
"""World -> a function that measures trained agents, some of which it trains, and makes rows."""

LONG = {"jobshop": "makespan.experiments.fidelity.proofs:long_rows"}
"""World -> a function that makes rows of what takes long."""


@dataclass(frozen=True)
class FidelityConfig:
    """Hold the worlds against what was published, measured or proved; print a row for each check.

    Attributes:
        worlds: which worlds; without any, all of them.
        data: folder with recorded runs, kernel tables and public traces.
        vllm: environment with the real vLLM; by default MAKESPAN_VLLM, or build/vllm.
        live: also start the real system and compare with it (minutes).
        trained: also measure trained agents; published ones are trained first (about ten minutes).
        long: also what takes up to an hour, such as proofs of optima.
        out: write the table there, as Markdown.
    """

    worlds: tyro.conf.Positional[tuple[str, ...]] = ()
    data: Path | None = None
    vllm: Path | None = None
    live: bool = False
    trained: bool = False
    long: bool = False
    out: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    config = tyro.cli(FidelityConfig, args=argv, prog="makespan fidelity")
    rows: list[Row | Missing] = []
    status = collect(config, rows)
    try:
        finish(rows, config.out)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        status = status or 2
    return status or int(any(isinstance(row, Row) and row.passed is False for row in rows))


def collect(config: FidelityConfig, rows: list[Row | Missing]) -> int:
    """Append the row of every check; 0, or the exit status if something came in between."""
    try:
        with warnings_in_a_line(VersionWarning, TraceWarning):
            run_checks(open_checks(config), open_sources(config), rows)
    except KeyboardInterrupt:
        print("interrupted: the rows that are finished follow", file=sys.stderr)
        return 130
    except (ValueError, OSError, VLLMError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def open_checks(config: FidelityConfig) -> dict[str, Check]:
    """The checks that are asked for.

    Raises:
        ValueError: there is no such world.
    """
    checks: dict[str, Check] = {}
    for world in config.worlds or WORLDS:
        checks |= {
            f"{world}: {name}": check for name, check in load("world", WORLDS, world).items()
        }
        if config.live and world in LIVE:
            checks[f"{world}: live"] = partial(live_rows, world)
        if config.trained and world in TRAINED:
            checks[f"{world}: trained agents"] = partial(more_rows, TRAINED, world)
        if config.long and world in LONG:
            checks[f"{world}: what takes long"] = partial(more_rows, LONG, world)
    return checks


def live_rows(world: str, sources: Sources) -> Iterator[Row | Missing]:
    """The rows of a world that take the real system itself."""
    yield from load("world", LIVE, world)(sources.vllm)


def more_rows(registry: Mapping[str, str], world: str, _: Sources) -> Iterator[Row | Missing]:
    """The rows of a world that are only made if asked for."""
    yield from load("world", registry, world)()


def open_sources(config: FidelityConfig) -> Sources:
    """What there is to compare with.

    Warns:
        VersionWarning: the vLLM is not the one that was verified.

    Raises:
        ValueError: a folder that was named is not there or has no vLLM, or `out` is a folder.
        OSError: the folder of `out` cannot be made.
    """
    if config.data is not None and not config.data.is_dir():
        raise ValueError(f"--data: {config.data} is not a folder")
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        if config.out.is_dir():
            raise ValueError(f"--out: {config.out} is a folder")
    vllm = environment(config.vllm)
    if config.vllm is not None and vllm is None:
        raise ValueError(f"--vllm: there is no Python in {config.vllm}")
    if vllm is not None:
        check_version(vllm)
    return Sources(config.data, vllm)


def run_checks(checks: dict[str, Check], sources: Sources, rows: list[Row | Missing]) -> None:
    """Go through the checks, and append their rows as they are finished."""
    with progress() as bars:
        total = bars.add_task("", total=len(checks))
        for name, check in checks.items():
            bars.update(total, description=name)
            for row in check(sources):
                rows.append(row)
            bars.advance(total)


def finish(rows: Sequence[Row | Missing], out: Path | None) -> None:
    """Print the table, and write it.

    Raises:
        OSError: it cannot be written.
    """
    if not rows:
        return
    screen = table.console(sys.stdout)
    screen.print(table.screen(rows))
    screen.print(f"\n{table.tally(rows)}")
    if out is not None:
        write_text(out, table.markdown(rows))
        screen.print(f"written to {out}", soft_wrap=True)
