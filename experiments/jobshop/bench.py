"""How fast job shops are scheduled, read and validated: `makespan bench jobshop`.

Every piece of work is done again and again in rounds of some processor time, after once without
counting, so that compilation is left out. What is printed is the median over the rounds.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from makespan.baselines.jobshop import dispatch
from makespan.envs.jobshop.batch import ShopBatch, random_actions
from makespan.envs.jobshop.generation import WAYS
from makespan.traces.jobshop import JobShop, benchmark, read

SHOPS = {"15x15": "ta01", "30x20": "ta41", "100x20": "ta71"}
"""Size -> a job shop of it."""

RULE = "mwkr"

EPISODES = 256
"""Of a batch."""


@dataclass(frozen=True)
class BenchConfig:
    """Measure the speed of job shops on one core.

    Attributes:
        rounds: in which each piece of work is done; the median counts.
        round_s: processor time of a round in seconds.
        json: print the measurements as JSON, alone, on stdout.
    """

    rounds: int = 5
    round_s: float = 0.1
    json: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.round_s < float("inf"):
            raise ValueError("--rounds must be at least 1, and --round-s positive")


@dataclass(frozen=True)
class Work:
    """Something to be measured.

    Attributes:
        name, size: what is done, and to job shops of which size.
        unit: what is counted.
        count: how many of them `go` does.
        go: does it once.
    """

    name: str
    size: str
    unit: str
    count: int
    go: Callable[[], object]


def dispatching() -> Iterator[Work]:
    """A rule, in every way of making a schedule; a decision is the choice of an operation."""
    for way in WAYS:
        for size, name in SHOPS.items():
            shop = benchmark(name)
            yield Work(
                f"{RULE}, {way}",
                size,
                "decisions",
                shop.operations,
                lambda shop=shop, way=way: dispatch(shop, RULE, way),
            )


def choosing() -> Iterator[Work]:
    """Random choices in many episodes at once; an operation that needs no choice is placed, too."""
    for size, name in SHOPS.items():
        batch = ShopBatch([benchmark(name)] * EPISODES)
        choices = _play_at_random(batch)
        operations = EPISODES * batch.shops[0].operations
        for unit, count in (("operations", operations), ("choices", choices)):
            yield Work(
                f"batch of {EPISODES}, random",
                size,
                unit,
                count,
                lambda batch=batch: _play_at_random(batch),
            )


def _play_at_random(batch: ShopBatch) -> int:
    """Play every episode to its end; how many choices there were."""
    rng = np.random.default_rng(0)
    batch.reset()
    choices = 0
    while due := int((batch.count > 0).sum()):
        choices += due
        batch.step(random_actions(batch, rng))
    return choices


def stepping() -> Iterator[Work]:
    """`makespan/JobShop-v0` as gymnasium makes it, by the first legal action."""
    import gymnasium

    for size, name in SHOPS.items():
        env = gymnasium.make("makespan/JobShop-v0", instance=name)
        steps = _play(env)
        yield Work("JobShop-v0", size, "steps", steps, lambda env=env: _play(env))


def _play(env: Any) -> int:
    """Play an episode; how many steps it has."""
    _, info = env.reset(seed=0)
    steps, done = 0, False
    while not done:
        *_, done, _, info = env.step(info["action_mask"].argmax())
        steps += 1
    return steps


def validating() -> Iterator[Work]:
    """The validator."""
    for size, name in SHOPS.items():
        schedule = dispatch(benchmark(name), RULE)
        operations = schedule.shop.operations
        yield Work("validate a schedule", size, "operations", operations, schedule.validate)


def reading() -> Iterator[Work]:
    """Every format, from files that are gone when the last is measured."""
    with tempfile.TemporaryDirectory() as folder:
        for size, name in SHOPS.items():
            shop = benchmark(name)
            for form, write in FORMS.items():
                path = Path(folder, f"{name}.{form}")
                path.write_text(write(shop), encoding="utf-8")
                yield Work(
                    f"read {form}",
                    size,
                    "operations",
                    shop.operations,
                    lambda path=path: read(path),
                )


WORKS: Sequence[Callable[[], Iterator[Work]]] = (
    dispatching,
    choosing,
    stepping,
    validating,
    reading,
)
"""What is measured, in the order of the table."""


def main(argv: Sequence[str]) -> int:
    """Run the command line; the exit status."""
    config = tyro.cli(BenchConfig, args=argv, prog="makespan bench jobshop")
    rows = [row for works in WORKS for row in measure(works(), config)]
    if config.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)
    return 0


def measure(works: Iterator[Work], config: BenchConfig) -> Iterator[dict[str, Any]]:
    """Of each: what it is, and how many units are done in a second of processor time."""
    for work in works:
        work.go()
        rates = [rate(work, config.round_s) for _ in range(config.rounds)]
        told = {name: value for name, value in asdict(work).items() if name != "go"}
        yield told | {
            "per_cpu_s": statistics.median(rates),
            "slowest": min(rates),
            "fastest": max(rates),
        }


def rate(work: Work, round_s: float) -> float:
    """Units done in a second of processor time, over a round."""
    began_s = time.process_time()
    done, passed_s = 0, 0.0
    while passed_s < round_s:
        work.go()
        done += work.count
        passed_s = time.process_time() - began_s
    return done / passed_s


def _jobs(shop: JobShop) -> list[list[tuple[int, int]]]:
    """Machine and duration of each operation of each job."""
    pairs = list(zip(shop.machine.tolist(), shop.duration.tolist(), strict=True))
    first = shop.first_operation.tolist()
    return [pairs[first[job] : first[job + 1]] for job in range(shop.jobs)]


def _standard(shop: JobShop) -> str:
    rows = [" ".join(f"{machine} {duration}" for machine, duration in job) for job in _jobs(shop)]
    return "\n".join([f"{shop.jobs} {shop.machines}", *rows])


def _taillard(shop: JobShop) -> str:
    durations = [" ".join(str(duration) for _, duration in job) for job in _jobs(shop)]
    machines = [" ".join(str(machine + 1) for machine, _ in job) for job in _jobs(shop)]
    sizes = f"{shop.jobs} {shop.machines}"
    return "\n".join([sizes, "Times", *durations, "Machines", *machines])


def _fjsp(shop: JobShop) -> str:
    rows = [
        f"{len(job)} " + " ".join(f"1 {machine + 1} {duration}" for machine, duration in job)
        for job in _jobs(shop)
    ]
    return "\n".join([f"{shop.jobs} {shop.machines} 1", *rows])


def _json(shop: JobShop) -> str:
    data = [
        {"job": j, "operation": k, "machine": machine, "duration": duration}
        for j, job in enumerate(_jobs(shop))
        for k, (machine, duration) in enumerate(job)
    ]
    return json.dumps({"machines": shop.machines, "data": data})


FORMS: dict[str, Callable[[JobShop], str]] = {
    "standard": _standard,
    "taillard": _taillard,
    "fjs": _fjsp,
    "json": _json,
}
"""End of the file's name -> what is in it."""


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    from makespan.experiments.summary_tables import console, number

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("\nwork")
    for head in ("\nsize", "per second of\nprocessor time", "\nslowest", "\nfastest"):
        table.add_column(head, justify="right")
    table.add_column("\n")
    for row in rows:
        figures = [number(row[name]) for name in ("per_cpu_s", "slowest", "fastest")]
        table.add_row(row["name"], row["size"], *figures, row["unit"])
    console(sys.stdout).print(table)
