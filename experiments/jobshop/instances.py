"""From the names on the command line to job shops, and what is known of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from makespan.experiments.configuration import split
from makespan.traces.errors import unknown_name
from makespan.traces.jobshop import BENCHMARKS, JobShop, benchmark, read
from makespan.traces.jobshop.benchmarks import Benchmark

SMALL = ("la16", "la17", "la18", "la19", "la20")
SMALL += ("ta01", "ta02", "ta03", "ta04", "ta05", "ta21", "ta22", "ta23", "ta24", "ta25")
"""Five of each of three sizes: 10x10, 15x15, 20x20."""


@dataclass(frozen=True)
class Instance:
    """A job shop of a comparison.

    Attributes:
        shop: the job shop; its name is that of the instance.
        known: what is published of it; None for a file.
    """

    shop: JobShop
    known: Benchmark | None = None

    @property
    def name(self) -> str:
        """Of the instance."""
        return self.shop.name

    @property
    def size(self) -> str:
        """Jobs and machines, such as `15x15`."""
        return f"{self.shop.jobs}x{self.shop.machines}"


def resolve(names: str) -> list[Instance]:
    """The instances of a comma list of names, groups and files, each once.

    Raises:
        ValueError: a name is unknown, a file cannot be read (`TraceError`), or two job shops have
            the same name.
        OSError: a file cannot be opened.
    """
    groups, instances = _groups(), dict[str, Instance]()
    for name in dict.fromkeys(split(names)):
        for instance in _named(name, groups):
            other = instances.setdefault(instance.name, instance)
            if other is not instance and None in (instance.known, other.known):
                raise ValueError(f"two job shops are called {instance.name!r}")
    return list(instances.values())


def _named(name: str, groups: Mapping[str, list[str]]) -> Iterator[Instance]:
    if name in BENCHMARKS or name in groups:
        for member in groups.get(name, [name]):
            yield Instance(benchmark(member), BENCHMARKS[member])
    elif Path(name).suffix or Path(name).exists():
        yield Instance(read(name))
    else:
        raise unknown_name("set of job shops", name, [*groups, *BENCHMARKS])


def _groups() -> dict[str, list[str]]:
    """Name -> members: `small`, every family, and of every family each size."""
    groups: dict[str, list[str]] = {"small": [*SMALL]}
    for known in BENCHMARKS.values():
        for group in (known.family, f"{known.family}{known.jobs}x{known.machines}"):
            groups.setdefault(group, []).append(known.name)
    return groups
