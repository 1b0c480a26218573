"""Measure a running vLLM server and write a hardware file for it: `makespan calibrate`.

    makespan calibrate --url http://127.0.0.1:8000
    makespan run --hardware my-model.toml --trace my.csv

The server must have nothing else to do. Prompts and answers are random tokens of exact lengths.
"""

import asyncio
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tyro

from makespan.agents.whole_file import write_text
from makespan.envs.llm.config import EngineConfig
from makespan.envs.llm.hardware_file import SUFFIX, MeasuredHardware, to_toml
from makespan.experiments.fidelity.scheduler.real_vllm import VersionWarning
from makespan.experiments.live.batch_limits import BatchLimits, LimitSearch
from makespan.experiments.live.client import Client, Limits
from makespan.experiments.live.fit import cross_validate, fit
from makespan.experiments.live.probe import Probe
from makespan.experiments.live.sweep import KINDS, Kind, Measurement, Sweep
from makespan.experiments.watching import progress, warnings_in_a_line

BATCHES = 30
"""Decoding batches that should fit into the time budget, whatever contexts the engine allows."""

Progress = Callable[[str, int], None]
"""Told what is being done, and how many steps have been measured."""


@dataclass(frozen=True)
class CalibrateConfig:
    """Measure a running vLLM server, and write a hardware file for `--hardware`.

    Attributes:
        url: the server, such as http://127.0.0.1:8000; it must be idle.
        seconds: time budget.
        out: the file; empty: named after the model.
        seed: of prompts and of the points that are measured.
    """

    url: str
    seconds: float = 180.0
    out: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"--url must begin with http:// or https://, not {self.url!r}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"--seconds must be positive, not {self.seconds}")
        if self.out and not self.out.endswith(SUFFIX):
            raise ValueError(f"--out must end in {SUFFIX}, not {self.out!r}")

    def path(self, model: str) -> Path:
        """Where the file goes.

        Raises:
            ValueError: it is there already.
        """
        name = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "server"
        path = Path(self.out or name + SUFFIX)
        if path.exists():
            raise ValueError(f"{path} exists: name another file with --out")
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent}")
        return path


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        hardware: what goes into the file.
        limits: of the engine, as the server tells them.
        measured: every step that was measured.
        off: mean and largest absolute relative error by kind, cross-validated.
        outside_s: seconds that a request spends outside the engine (HTTP, detokenisation), which
            simulated latencies leave out.
    """

    hardware: MeasuredHardware
    limits: Limits
    measured: list[Measurement]
    off: dict[Kind, tuple[float, float]]
    outside_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 when it cannot be done, 130 when interrupted."""
    try:
        config = tyro.cli(CalibrateConfig, args=argv, prog="makespan calibrate")
        with warnings_in_a_line(VersionWarning):
            path, found = asyncio.run(_calibrate_with_progress(config))
        write_text(path, to_toml(found.hardware))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    _print(found, path)
    return 0


async def calibrate(client: Client, seconds: float, seed: int, show: Progress) -> Calibration:
    """Measure the server behind `client` for at most `seconds`, and fit.

    Raises:
        ServerError: it does not answer, or not as a vLLM would.
        TooFewPointsError: too little was measured in that time.
    """
    deadline = time.perf_counter() + seconds
    version = await client.check_version()
    limits = await client.limits()
    engine = _engine(limits)
    probe = Probe(client, limits, seed)
    sweep = Sweep(probe, seconds / BATCHES)
    await probe.require_idle()
    batch = BatchLimits(0, 0)
    with suppress(TimeoutError):  # the time budget; what was measured counts
        async with asyncio.timeout(deadline - time.perf_counter()):
            show("finding the limits of a batch", 0)
            batch = await LimitSearch(probe).find()
            await sweep.run(batch, lambda count: show("measuring steps", count))
    off = cross_validate(sweep.measured)
    form = replace(
        fit(sweep.measured),
        source=f"{len(sweep.measured)} steps of {limits.model} on vLLM {version}, closed form "
        "fitted by robust least squares",
        error="cross-validated: " + _in_words(off),
    )
    engine = replace(engine, **asdict(batch))
    hardware = MeasuredHardware(limits.model, engine, form)
    outside_s = statistics.median(sweep.outside_s)
    return Calibration(hardware, limits, sweep.measured, off, outside_s)


def _engine(limits: Limits) -> EngineConfig:
    """What the server tells; the limits of a batch are found later.

    Raises:
        ValueError: something of it cannot be simulated.
    """
    return EngineConfig(
        block_size=limits.block_size,
        kv_blocks=limits.kv_blocks,
        max_model_len=limits.max_model_len,
    )


def _in_words(off: dict[Kind, tuple[float, float]]) -> str:
    return "; ".join(f"{kind} mean {100 * off[kind][0]:.1f} %" for kind in KINDS)


async def _calibrate_with_progress(config: CalibrateConfig) -> tuple[Path, Calibration]:
    """The calibration, and the file for it, which is checked before anything is measured."""
    async with Client(config.url) as client:
        path = config.path((await client.limits()).model)
        with progress_in_seconds(config.seconds) as show:
            return path, await calibrate(client, config.seconds, config.seed, show)


@contextmanager
def progress_in_seconds(seconds: float) -> Iterator[Progress]:
    """A bar that fills up with the time budget."""
    start = time.perf_counter()
    with progress() as bars:
        task = bars.add_task("", total=round(seconds))

        def show(what: str, count: int) -> None:
            elapsed = int(time.perf_counter() - start)
            bars.update(task, description=f"{what}: {count}", completed=elapsed)

        yield show


def _print(found: Calibration, path: Path) -> None:
    """The limits, the fit's errors, and what to do next."""
    from rich.table import Table

    from makespan.experiments.summary_tables import console

    engine = found.hardware.engine
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("steps", "measured", "mean error", "largest error"):
        table.add_column(column, justify="left" if column == "steps" else "right")
    for kind in KINDS:
        mean, largest = found.off[kind]
        count = sum(m.kind == kind for m in found.measured)
        table.add_row(kind, str(count), f"{mean:.1%}", f"{largest:.1%}")
    screen = console(sys.stdout)
    screen.print(
        f"{found.hardware.model}: {engine.kv_blocks} KV blocks of {engine.block_size} tokens, "
        f"sequences of at most {engine.max_model_len} tokens, steps of at most "
        f"{engine.max_num_seqs} sequences and {engine.max_num_batched_tokens} tokens",
        soft_wrap=True,
    )
    screen.print("errors of the fit on steps that it had not seen (cross-validation):")
    screen.print(table)
    screen.print(
        f"a request also spends {1000 * found.outside_s:.1f} ms outside the engine, "
        "which simulated latencies leave out",
        soft_wrap=True,
    )
    caching = "" if found.limits.prefix_caching else " --engine.no-enable-prefix-caching"
    screen.print(
        f"written to {path}; next: makespan run --hardware {path}{caching}", soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main())
