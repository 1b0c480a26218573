"""One check, and how far it is from what it is held against."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["relative", "interval", "absolute", "at_most"]


@dataclass(frozen=True)
class Row:
    """A check that was run.

    Attributes:
        what: what is compared, in words.
        source: where `reference` comes from.
        reference: the published, measured or derived value, in `unit`.
        ours: the same of this project, in `unit`.
        aim: largest difference that passes; None: the figure is shown, and nothing asked of it.
        kind: of what `aim` and `difference` are. `relative`: fractions of the reference;
            `interval`: the same, and the aim is half the width of a confidence interval;
            `absolute`: in `unit`; `at_most`: the same, but any smaller value passes.
        unit: of the values; empty for counts and ratios.
    """

    what: str
    source: str
    reference: float
    ours: float
    aim: float | None
    kind: Kind = "relative"
    unit: str = ""

    @property
    def difference(self) -> float:
        """Ours less the reference; relative to the reference unless it is in `unit`."""
        apart = self.ours - self.reference
        return apart if self.in_unit else apart / self.reference

    @property
    def in_unit(self) -> bool:
        """Whether `aim` and `difference` are in `unit`; else they are fractions."""
        return self.kind in ("absolute", "at_most")

    @property
    def passed(self) -> bool | None:
        """Whether the difference is within the aim (a nan is not); None without an aim."""
        if self.aim is None:
            return None
        apart = self.difference if self.kind == "at_most" else abs(self.difference)
        return bool(apart <= self.aim)  # Numpy's False, which values may bring, is not False.


@dataclass(frozen=True)
class Missing:
    """A check that could not be run here.

    Attributes:
        what: what would have been compared.
        source: with what.
        why: what it lacks, and how to get it.
    """

    what: str
    source: str
    why: str
