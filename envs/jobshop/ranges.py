"""Settings that are a number, or a range `[low, high]` to draw it from."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

Size = int | Sequence[int]
"""A whole number, or a range."""


def bounds(
    name: str, value: Any, least: int, kind: type[int] | type[float] = int
) -> tuple[Any, Any]:
    """Lowest and highest value of a setting.

    Args:
        name: of the setting, for what is said of it.
        value: a number, or a sequence of two.
        least: that it may be.
        kind: of the numbers, also of those that are returned; int takes whole numbers alone.

    Raises:
        ValueError: it is neither a number of the kind nor a range, or below `least`, or falling.
    """
    wanted = Integral if kind is int else Real
    both = (value, value) if isinstance(value, wanted) else value
    pair = isinstance(both, Sequence) and len(both) == 2
    if not pair or not all(isinstance(number, wanted) for number in both):
        number = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {number} or a range of two, not {value!r}")
    low, high = map(kind, both)
    if not least <= low <= high:
        raise ValueError(f"{name} must be at least {least} and not falling, not {value}")
    return low, high
